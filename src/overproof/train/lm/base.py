"""A student before training: its base loaded, checked, and wrapped for LoRA."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from overproof.clients import registry
from overproof.clients.local_model import LocalModel, Source, load, source_of
from overproof.clients.quiet import quiet_transformers
from overproof.config.lm_students import LmStudentConfig, LoraConfig
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, MissingExtraError, ModelError, StudentError
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.lm_student import LmStudentCard
from overproof.train.bases import read_licence
from overproof.train.lm.endings import endings_of, settle_padding
from overproof.train.lm.forward import check_forward
from overproof.train.lm.made_bases import (
    files_fingerprint,
    has_weights,
    make_base,
    random_base,
    refuse_pruning,
    weights_fingerprint,
)
from overproof.train.lm.parts import LmStudent
from overproof.train.lm.vocabularies import check_tokenizer

__all__ = ["load_student"]

TIED_TO_LOGITS = ("lm_head", "embed_tokens", "embed_out", "wte")


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where a student begins: ``directory`` is loaded, ``base_dir`` holds the untrained base.

    ``adapter`` is folded in; ``kept`` says that ``directory`` was made to put a LoRA onto.
    """

    base: str
    directory: Path
    base_dir: Path
    licence: str
    adapter: Path | None = None
    notes: tuple[str, ...] = ()
    kept: bool = False


def load_student(
    config: LmStudentConfig,
    *,
    seed: int,
    precision_dtype: torch.dtype | None = None,
    teacher: LocalModel | None,
    students: Path,
    bases: Path,
    resolve: Callable[[str], Path],
    rows: Sequence[Mapping[str, Any]] = (),
) -> LmStudent:
    """Load what a student of the recipe begins with, on the CPU.

    The base is a directory with safetensors, one with a config and a tokenizer alone (random
    weights by ``seed``), a GGUF file, a pulled model, a hub's name or the teacher's weights; or an
    earlier student. What is no directory with safetensors yet is written to ``bases`` first, in
    one step, so that the untrained base can be measured. So is an earlier student that a LoRA is to
    be put onto and kept beside.

    Args:
        config: the student's section of the recipe.
        seed: of random weights and of LoRA's.
        precision_dtype: of the weights; float32 where unsaid.
        teacher: the local teacher's weights, for ``base = "teacher"``; they are left as they are.
        students: the run's finished students.
        bases: where bases are written that are made here.
        resolve: finds a model that was pulled.
        rows: rows of the training split, for ``prune.by = "importance"``.

    Raises:
        ModelError: the base cannot be read, has no chat template or nothing that ends an answer,
            or its tokenizer disagrees with its weights.
        ConfigError: layers or LoRA targets that are not there.
        StudentError: the student to start from is not finished.
        MissingExtraError: peft is not installed, for LoRA.
    """
    if config.start is not None:
        origin = _earlier(students / config.start)
        if config.lora is not None and not config.lora.merge:
            origin = _kept(origin, config.start, seed, bases)
    else:
        origin = _based(config, seed, teacher, bases, resolve=resolve, rows=rows)
    name = origin.base if config.start is None else f"student {config.start}"
    # Loading a model may draw random numbers for weights that it overwrites.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loaded = _load_directory(origin.directory, name)
        _refuse_quantised(loaded.module, name)
        module = _merged(loaded.module, origin.adapter)
        tokenizer = loaded.chat.tokenizer
        module = module.to(precision_dtype or torch.float32)
        check_tokenizer(tokenizer, module.get_input_embeddings().weight.shape[0], name)
        check_forward(module, name)
        endings = endings_of(module, tokenizer, name)
        notes = [*origin.notes, *endings.notes, *settle_padding(tokenizer, endings.end, name)]
        others = sorted((endings.ends | loaded.ends) - {endings.end})
        _agree_on_ends(module, tokenizer, [endings.end, *others])
        if config.lora is not None:
            module = _with_lora(module, config.lora)
    return LmStudent(
        name=config.name,
        module=module,
        tokenizer=tokenizer,
        base=origin.base,
        base_dir=str(origin.base_dir.resolve()),
        base_licence=origin.licence,
        end=endings.end,
        ends=endings.ends | loaded.ends,
        context=loaded.context,
        notes=notes,
        adapter_base=str(origin.directory.resolve()) if origin.kept else None,
    )


def _earlier(directory: Path) -> _Origin:
    """An earlier student of the recipe."""
    card = LmStudentCard.load(directory)
    base_dir = (directory / card.base_dir).resolve()  # an absolute one stays as it is
    if not card.adapter:
        return _Origin(card.base, directory, base_dir, card.base_licence)
    adapter = directory / "adapter"
    if not (adapter / "adapter_config.json").exists():
        raise StudentError(str(adapter), "is not there, though the student's card names it")
    return _Origin(
        card.base, (directory / card.beneath).resolve(), base_dir, card.base_licence, adapter
    )


def _kept(origin: _Origin, start: str, seed: int, bases: Path) -> _Origin:
    """The start's weights in a directory of their own, with its adapter folded in.

    A LoRA that stays beside its base is nothing without it, and the student that it starts from
    may be trained again.
    """
    name = f"student {start}"

    def read() -> LocalModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loaded = _load_directory(origin.directory, name)
            return dataclasses.replace(loaded, module=_merged(loaded.module, origin.adapter))

    parts = [files_fingerprint(d) for d in (origin.directory, origin.adapter) if d is not None]
    facts = {"source": name, "licence": origin.licence}
    made = make_base(bases, content_hash(parts), read, prune=None, rows=(), facts=facts)
    return dataclasses.replace(origin, directory=made, adapter=None, kept=True)


def _based(
    config: LmStudentConfig,
    seed: int,
    teacher: LocalModel | None,
    bases: Path,
    *,
    resolve: Callable[[str], Path],
    rows: Sequence[Mapping[str, Any]],
) -> _Origin:
    """A base by its name; made first where it is no directory with safetensors yet."""
    source = None if config.base == "teacher" else source_of(_located(config.base, resolve))
    if source is not None:
        name, licence = config.base, _licence(config.base, source)
    elif teacher is not None:
        name, licence = teacher.name, _pinned_licence(teacher.name)
    else:
        raise ConfigError(
            f"students.{config.name}.base = 'teacher'",
            "the teacher's weights are not here",
            "use teacher.kind = 'local', or name the base",
        )
    facts = {"source": name, "licence": licence}

    def made(fingerprint: str, read: Callable[[], LocalModel]) -> _Origin:
        directory = make_base(bases, fingerprint, read, prune=config.prune, rows=rows, facts=facts)
        return _Origin(name, directory, directory, licence)

    if source is None:
        assert teacher is not None
        return made(weights_fingerprint(teacher), lambda: _copied(teacher))
    directory = Path(source.place)
    if not directory.is_dir():  # a hub's name, in the hub's own cache
        loaded = _load(source)
        return made(weights_fingerprint(loaded), lambda: loaded)
    if source.file is not None:
        return made(file_sha256(directory / source.file), lambda: _load(source))
    if not has_weights(directory):
        refuse_pruning(config.prune, config.base)
        drawn = random_base(directory, bases, seed, facts)
        note = f"the base has random weights, seed {seed}"
        return _Origin(name, drawn, drawn, licence, notes=(note,))
    if config.prune is None:
        return _Origin(name, directory.resolve(), directory.resolve(), licence)
    return made(files_fingerprint(directory), lambda: _load(source))


def _located(base: str, resolve: Callable[[str], Path]) -> str:
    """Where a pulled model lies by its registered name; any other name as it is."""
    return str(resolve(base)) if registry.find(base) and not Path(base).exists() else base


def _licence(base: str, source: Source) -> str:
    for name in (base, source.name):
        if (pinned := _pinned_licence(name)) != "unknown":
            return pinned
    directory = Path(source.place)
    return read_licence(directory) if directory.is_dir() else "unknown"


def _pinned_licence(name: str) -> str:
    pinned = registry.find(name)
    return pinned.licence if pinned else "unknown"


def _load(source: Source) -> LocalModel:
    """Weights on the CPU in float32, exact whatever they are stored as."""
    return load(source, TeacherConfig(kind="local", model=source.place, device="cpu"))


def _load_directory(directory: Path, name: str) -> LocalModel:
    loaded = _load(Source(directory.name, str(directory)))
    return dataclasses.replace(loaded, name=name)


def _refuse_quantised(module: Any, name: str) -> None:
    quantizer = getattr(module, "hf_quantizer", None)
    if quantizer is not None:
        kind = getattr(quantizer.quantization_config, "quant_method", "some method")
        raise ModelError(
            name,
            f"its weights are quantised ({getattr(kind, 'value', kind)}), and cannot be trained",
            "name the weights that they were made of",
        )


def _copied(teacher: LocalModel) -> LocalModel:
    """The teacher's weights once more: pruning takes them apart."""
    return dataclasses.replace(teacher, module=copy.deepcopy(teacher.module))


def _agree_on_ends(module: Any, tokenizer: Any, ends: list[int]) -> None:
    """Let everyone who generates with these weights stop where they were taught to."""
    if module.generation_config is not None:
        module.generation_config.eos_token_id = ends
        module.generation_config.pad_token_id = tokenizer.pad_token_id


def _merged(module: Any, adapter: Path | None) -> Any:
    """The weights with an earlier student's adapter folded in."""
    if adapter is None:
        return module
    peft = _peft()
    with _quiet_peft():
        merged = peft.PeftModel.from_pretrained(module, str(adapter)).merge_and_unload()
    merged.requires_grad_(True)  # peft froze them
    return merged


def _with_lora(module: Any, lora: LoraConfig) -> Any:
    """The module with low-rank updates of its linear layers; only these are trained.

    Raises:
        ConfigError: targets that are not there, or that make the logits.
    """
    peft = _peft()
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    for target in () if isinstance(targets, str) else targets:
        if target.rpartition(".")[2] in TIED_TO_LOGITS:
            raise ConfigError(
                f"lora.targets: {target!r}",
                "is the embedding or the output layer, which losses read as they are",
                "leave it out; 'all-linear' is every linear layer between them",
            )
    adapter = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.scale,
        lora_dropout=lora.dropout,
        target_modules=targets,
        bias="none",
    )
    try:
        with _quiet_peft():
            return peft.get_peft_model(module, adapter)
    except ValueError as error:
        linear = {
            name.rpartition(".")[2]
            for name, part in module.named_modules()
            if isinstance(part, torch.nn.Linear)
        }
        raise ConfigError(
            f"lora.targets = {targets!r}",
            f"cannot be adapted: {str(error).partition(chr(10))[0]}",
            f"linear layers here: {', '.join(sorted(linear - set(TIED_TO_LOGITS)))}",
        ) from error


@contextlib.contextmanager
def _quiet_peft() -> Iterator[None]:
    """Within the block peft says nothing of names that transformers has renamed since."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _peft() -> Any:
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("peft", "train")
    import peft

    return peft
