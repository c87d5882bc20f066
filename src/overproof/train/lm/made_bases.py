"""Untrained bases that are made here: pruned, random, dequantised, or fetched from a hub's cache.

    BASES/KEY/    safetensors, tokenizer, chat template, and base.json: what it was made of

KEY is a hash of the source's content, the layers that stay and, for random weights, the seed; a
base that is there already is used as it is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from overproof.clients.local_model import LocalModel
from overproof.clients.quiet import quiet_transformers
from overproof.config.lm_students import PruneConfig
from overproof.errors import ConfigError, ModelError
from overproof.records.exchange import Request
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.openai_json import messages_of
from overproof.train.export.staging import usual_modes
from overproof.train.prune import (
    chosen,
    layer_importance,
    layers_of,
    most_important,
    prune_layers,
    spaced,
)

__all__ = [
    "file_fingerprint",
    "files_fingerprint",
    "has_weights",
    "make_base",
    "random_base",
    "refuse_pruning",
    "weights_fingerprint",
]

FACTS = "base.json"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".ckpt")
ABANDONED_S = 3600.0
LEARNING_PROMPTS = 32  # of the training chats, which layers are measured with


def has_weights(directory: Path) -> bool:
    """Whether a directory holds weights: if not, its config says what random ones look like.

    Raises:
        ModelError: it holds weights in another format than safetensors, or only some shards.
    """
    names = sorted(path.name for path in directory.iterdir())
    if any(name.endswith(".safetensors") for name in names):
        return True
    other = [name for name in names if name.endswith(OTHER_WEIGHTS)]
    if other or "model.safetensors.index.json" in names:
        raise ModelError(
            str(directory),
            f"holds {other[0]} and no safetensors" if other else "lacks its safetensors shards",
            "save it with model.save_pretrained(directory) of a current transformers, or name the "
            "GGUF file itself",
        )
    return False


def files_fingerprint(directory: Path) -> str:
    """Content hash of a directory's weights, config, tokenizer and template."""
    wanted = (".safetensors", ".json", ".jinja", ".model", ".txt")
    files = sorted(p for p in directory.iterdir() if p.is_file() and p.suffix in wanted)
    return content_hash({path.name: file_fingerprint(path) for path in files})


def file_fingerprint(path: Path) -> str:
    """Content hash of a file, computed once for as long as it stays as it is."""
    about = path.stat()
    return _hashed(path, about.st_size, about.st_mtime_ns, about.st_ino)


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, *_as_it_is: int) -> str:
    return file_sha256(path)


def weights_fingerprint(model: LocalModel) -> str:
    """Content hash of weights in memory, with their config, tokenizer and template."""
    digest = hashlib.sha256(model.module.config.to_json_string().encode())
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    tokenizer = model.chat.tokenizer
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    digest.update(model.chat.template.encode())
    return "sha256:" + digest.hexdigest()


def make_base(
    bases: Path,
    fingerprint: str,
    load: Callable[[], LocalModel],
    *,
    prune: PruneConfig | None,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
) -> Path:
    """The directory of a base made of loaded weights, pruned where asked; made once.

    Args:
        bases: where made bases live.
        fingerprint: of the source's content.
        load: reads the source into memory; what it returns is changed.
        prune: which layers stay.
        rows: training chats, to measure layers with.
        facts: what to keep in ``base.json``.

    Raises:
        ConfigError: layers that are not there.
        ModelError: it cannot be pruned.
    """
    sample = [row["messages"][:-1] for row in rows[:LEARNING_PROMPTS]]
    by_importance = prune is not None and prune.keep is None and prune.by == "importance"
    key = _key(
        {
            "source": fingerprint,
            "prune": prune.model_dump(mode="json") if prune else None,
            "prompts": content_hash(sample) if by_importance else None,
        }
    )
    directory = bases / key
    if (directory / FACTS).exists():
        return directory
    model = load()
    _dequantise(model.module)
    told: dict[str, Any] = dict(facts) | {"source_sha256": fingerprint}
    if prune is not None:
        kept, importance = _kept(model, prune, sample)
        told |= {
            "layers_kept": list(kept),
            "layers_before": len(layers_of(model.module)),
            "importance": importance,
        }
        prune_layers(model.module, kept)
    _write(model.module, model.chat.tokenizer, directory, told)
    return directory


def random_base(source: Path, bases: Path, seed: int, facts: Mapping[str, str]) -> Path:
    """The directory of a base with random weights, by the config of ``source`` and a seed.

    Raises:
        ModelError: no config of a causal model, or no tokenizer, is there.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    key = _key({"source": files_fingerprint(source), "seed": seed})
    directory = bases / key
    if (directory / FACTS).exists():
        return directory
    try:
        with quiet_transformers(), torch.random.fork_rng():
            torch.manual_seed(seed)
            config = AutoConfig.from_pretrained(source, local_files_only=True)
            module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            str(source),
            f"holds neither weights nor what random ones could be made of: {first}",
            "name a directory with safetensors, or with config.json and a tokenizer",
        ) from error
    _write(module, tokenizer, directory, dict(facts) | {"random_seed": seed})
    return directory


def _dequantise(module: Any) -> None:
    """Take off what says that weights from a GGUF file are quantised: they no longer are.

    Raises:
        ModelError: they still are.
    """
    quantizer = getattr(module, "hf_quantizer", None)
    if quantizer is None:
        return
    if not all(parameter.is_floating_point() for parameter in module.parameters()) or getattr(
        quantizer, "packed_modules", None
    ):
        raise ModelError(
            type(module).__name__,
            "its weights are quantised, and cannot be trained",
            "name the weights that they were made of",
        )
    quantizer.remove_quantization_config(module)


def _kept(
    model: LocalModel, prune: PruneConfig, sample: Sequence[Any]
) -> tuple[tuple[int, ...], list[float] | None]:
    """The layers that stay, and what was measured of them."""
    n_layers = len(layers_of(model.module))
    if prune.keep is not None:
        return chosen(prune.keep, n_layers), None
    if prune.by == "spaced":
        return spaced(n_layers, prune.layers), None
    most_important([0.0] * n_layers, prune.layers)  # a wrong number of layers, before measuring
    importance = layer_importance(model.module, _prompts(model, sample))
    return most_important(importance, prune.layers), importance


def _prompts(model: LocalModel, sample: Sequence[Any]) -> list[dict[str, torch.Tensor]]:
    """The training prompts as the base is asked them.

    Raises:
        ConfigError: its chat template refuses one.
    """
    batches = []
    for messages in sample:
        said = [{k: v for k, v in m.items() if v is not None} for m in messages]
        try:
            ids = model.chat.prompt_ids(Request(model=model.name, messages=messages_of(said)))
        except ValueError as error:
            raise ConfigError(
                "prune.by = 'importance'",
                f"measures layers with the training prompts, and {error}",
                "use prune.by = 'spaced', or another chat template",
            ) from error
        batches.append({"input_ids": torch.tensor([ids[: model.context]], device=model.device)})
    return batches


def _key(parts: Mapping[str, Any]) -> str:
    return content_hash(dict(parts)).removeprefix("sha256:")[:16]


def _write(module: Any, tokenizer: Any, directory: Path, facts: Mapping[str, Any]) -> None:
    """Write a base beside its place and move it there whole: another process may do the same.

    Raises:
        ModelError: the disk is full or may not be written to, or what was written does not load
            as what it was.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}")
    try:
        with quiet_transformers():
            module.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        _check_written(module, partial)
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (partial / FACTS).write_text(text, encoding="utf-8")
        usual_modes(partial)
        try:
            partial.rename(directory)
        except OSError:
            if not (directory / FACTS).exists():
                raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            str(directory), f"cannot be written: {reason}", "make room, and retry"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(directory: Path) -> None:
    """Remove what killed processes left of this base; another machine's may be at work."""
    for left in directory.parent.glob(f".{directory.name}.*"):
        owner = left.name.rpartition(".")[2]
        with contextlib.suppress(OSError):  # somebody else was faster
            is_old = time.time() - left.stat().st_mtime > ABANDONED_S
            if is_old and not Path("/proc", owner).exists():
                shutil.rmtree(left)


def _check_written(module: Any, partial: Path) -> None:
    """Load what was written and compare: a config may say of layers what is no longer so."""
    from transformers import AutoModelForCausalLM

    ids = torch.arange(8, device=module.device).unsqueeze(0)
    ids %= module.get_input_embeddings().weight.shape[0]
    with quiet_transformers(), torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(
            partial, local_files_only=True, dtype=module.dtype, use_safetensors=True
        )
        again = again.eval().to(module.device)
        was_training = module.training
        module.eval()
        same = torch.allclose(
            again(input_ids=ids).logits.float(), module(input_ids=ids).logits.float(),
            rtol=1e-3, atol=1e-3,
        )  # fmt: skip
        module.train(was_training)
    if not same:
        raise ModelError(
            f"{type(module).__name__}",
            "does not load as it was saved: its config says of single layers what no longer holds",
            "keep other layers, or use a model of the Llama kind",
        )


def refuse_pruning(prune: PruneConfig | None, base: str) -> None:
    """Random weights have no layers worth keeping.

    Raises:
        ConfigError: there is something to prune.
    """
    if prune is not None:
        raise ConfigError(
            f"prune of base {base!r}",
            "has no weights to keep: the base is a config for random ones",
            "set num_hidden_layers in its config.json, and take prune out",
        )
