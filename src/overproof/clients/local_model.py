"""Loading Hugging Face weights: from a directory, a GGUF file, or a hub's name."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overproof.clients import hub, registry
from overproof.clients.local_chat import Chat
from overproof.clients.quiet import quiet_transformers
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, MissingExtraError, ModelError
from overproof.records.lm_student import LmStudentCard, is_lm_student

__all__ = ["LocalModel", "Source", "load", "source_of"]

# Tokens that end an answer. Weights name one or two of them; GGUF files often only the first.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "</s>",
)
WAY_OUT = (
    "name a directory with safetensors and a tokenizer, a GGUF file, or a model that "
    "`overproof models pull` fetched"
)


@dataclass(frozen=True)
class Source:
    """Where weights are. ``place`` is a directory or a hub's name, ``name`` what to call them."""

    name: str
    place: str
    file: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class LocalModel:
    """Weights in memory, ready to answer.

    ``ends`` are the tokens that end an answer, ``context`` the longest prompt with answer in
    tokens, ``None`` for no limit. ``fingerprint`` names what the numbers depend on besides the
    weights: versions, precision, device.
    """

    name: str
    module: Any
    chat: Chat
    device: Any
    ends: frozenset[int]
    context: int | None
    fingerprint: str


def source_of(model: str) -> Source:
    """Where the recipe's ``model`` is.

    A path, or a name as ``overproof models`` knows it; else a hub's name, which transformers looks
    up in its own cache and, unless ``HF_HUB_OFFLINE`` is set, on the hub.

    Raises:
        ModelError: no such file, a name that nobody knows, or a model that was not pulled.
        HashMismatchError: a pulled file is not what was pulled.
    """
    path = Path(model).expanduser()
    pinned = registry.find(model)
    if not path.exists() and pinned is None and registry.is_hub_name(model):
        if (hub.home_of(model) / hub.LOCK).is_file():
            path = registry.resolve(model)
        else:
            name, _, revision = model.partition("@")
            organisation, repository, *inside = name.split("/")
            return Source(
                repository, f"{organisation}/{repository}", "/".join(inside) or None,
                revision or None,
            )  # fmt: skip
    else:
        path = registry.resolve(model)
    name = pinned.name if pinned else path.resolve().stem if path.is_file() else path.resolve().name
    if path.is_dir():
        return Source(name, str(path))
    if path.suffix.lower() != ".gguf":
        raise ModelError(str(path), "is neither a directory nor a GGUF file", WAY_OUT)
    return Source(name, str(path.parent), path.name)


def load(source: Source, config: TeacherConfig) -> LocalModel:
    """Read weights and tokenizer into memory; takes seconds to minutes.

    A student's adapter is put onto the base that its card leads to, wherever the run lies now; any
    other onto the one that its own config names. A GGUF file is dequantised. The library reads its
    header in Python, three times: 20 s for a vocabulary of 49,000 tokens.

    Raises:
        MissingExtraError: torch, transformers, or gguf for a GGUF file, is not installed.
        ConfigError: there is no such device here.
        ModelError: the weights are missing, broken, of an unknown kind, or too large.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError(str(error.name or "torch").partition(".")[0], "local") from error
    if source.file is not None and importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "local")
    device = _device(config.device)
    if config.threads is not None and device.type == "cpu":
        torch.set_num_threads(config.threads)
    dtype = _dtype(config.dtype, device.type, is_file=source.file is not None)
    files = {"revision": source.revision, "gguf_file": source.file}
    shared = {name: value for name, value in files.items() if value is not None}
    beneath = _beneath(Path(source.place))
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.place, **shared)
            module, loading = transformers.AutoModelForCausalLM.from_pretrained(
                beneath or source.place,
                dtype=dtype,
                output_loading_info=True,
                # The older format runs code when it is loaded.
                use_safetensors=None if source.file else True,
                **shared,
            )
            if beneath is not None:
                module.load_adapter(source.place)
        module = module.eval().to(device)
    except Exception as error:
        raise _unreadable(source, error) from error
    if missing := sorted(loading["missing_keys"]):
        # They would be random now.
        raise ModelError(source.name, f"lacks the weights {missing[0]} ...", WAY_OUT)
    chat = Chat(tokenizer)
    if not chat.template:
        raise ModelError(
            source.name,
            "has no chat template, so nobody knows how to ask it",
            "use its instruction-tuned variant, or put a chat_template.jinja into its directory",
        )
    text_config = module.config.get_text_config()
    longest = getattr(text_config, "max_position_embeddings", None)
    limits = [n for n in (longest, config.context_length) if isinstance(n, int) and n > 0]
    precision = str(next(module.parameters()).dtype).removeprefix("torch.")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return LocalModel(
        name=source.name,
        module=module,
        chat=chat,
        device=device,
        ends=frozenset(_ends(module, tokenizer) | chat.special_ids(ENDS)),
        context=min(limits, default=None),
        fingerprint=(
            f"transformers {transformers.__version__}, torch {torch.__version__}, {precision}, "
            f"{where}"
        ),
    )


def _beneath(adapter: Path) -> str | None:
    """The weights that a student's adapter is put onto, ``None`` where that is said elsewhere."""
    student = adapter.parent
    if not (adapter / "adapter_config.json").is_file() or not is_lm_student(student):
        return None
    beneath = student / LmStudentCard.load(student).beneath
    return str(beneath.resolve()) if (beneath / "config.json").is_file() else None


def _dtype(named: str, device: str, *, is_file: bool) -> Any:
    """``auto``: exact where that costs little, else as the weights are stored."""
    import torch

    if named != "auto":
        return getattr(torch, named)
    on_cpu = torch.float32 if device == "cpu" else None
    return on_cpu or (torch.bfloat16 if is_file else "auto")


def _device(named: str) -> Any:
    import torch

    if named == "auto":
        named = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(named)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"teacher.device = {named!r}", f"cannot be used here: {reason}", "use 'auto' or 'cpu'"
        ) from error
    return device


def _ends(module: Any, tokenizer: Any) -> set[int]:
    named = [
        module.generation_config.eos_token_id if module.generation_config else None,
        getattr(module.config, "eos_token_id", None),
        tokenizer.eos_token_id,
    ]
    ends: set[int] = set()
    for each in named:
        ends |= set(each if isinstance(each, list) else [each]) - {None}
    return ends


def _unreadable(source: Source, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if source.place.count("/") == 1 and not Path(source.place).exists():
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        said = "is not in the cache, and HF_HUB_OFFLINE is set" if offline else "cannot be had"
        return ModelError(
            f"model {source.place}",
            f"{said}: {reason}",
            f"run: overproof models pull {source.place}; offline, name a local directory",
        )
    return ModelError(f"{source.name} ({source.place})", f"cannot be loaded: {reason}", WAY_OUT)
