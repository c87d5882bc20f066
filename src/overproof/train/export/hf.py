"""Save a student as transformers loads it, and prove that what was saved is what was trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from overproof.clients.quiet import quiet_transformers
from overproof.errors import MissingExtraError, StudentError
from overproof.records.lm_export import HfProof
from overproof.records.lm_student import LmStudentCard
from overproof.train.export.card import CardFacts, model_card
from overproof.train.export.samples import CHATS, TEXTS, SampleChat
from overproof.train.export.staging import staged_directory
from overproof.train.lm.parts import LmStudent

__all__ = ["MOST_APART", "load_lm", "merged", "prove_lm", "save_lm", "write_lm"]

MOST_APART = 1e-5  # of a logit, against the same weights in memory
MERGE_APART = 1e-3  # of a logit in float32, between a LoRA beside the weights and within them
ANSWER_TOKENS = 8
SHARD = "4GB"


def save_lm(
    student: LmStudent,
    card: LmStudentCard,
    directory: Path,
    *,
    files: Mapping[str, str] | None = None,
    facts: CardFacts | None = None,
    chats: Sequence[SampleChat] = CHATS[:2],
) -> HfProof:
    """Write a finished student to ``directory`` in one step, proved.

    All that ``records.lm_student`` lists is written beside first, loaded again and compared with
    the student in memory; only then does it take the place of what was at ``directory``,
    checkpoints included. An interrupted or failed export leaves that as it was.

    A LoRA is merged into the weights (``student.module`` is the merged model afterwards), unless
    ``card.adapter`` keeps it beside the base.

    Args:
        student: what was trained, still in memory.
        card: what ``student.json`` will say.
        directory: ``RUN/students/NAME``.
        files: further files, name to content, such as ``training.json``.
        facts: what the model card tells besides.
        chats: what the proof is about.

    Raises:
        StudentError: what was written answers differently, or cannot be written.
    """
    merge_difference = None
    if not card.adapter:
        merge_difference = _merge(student, chats)
    with staged_directory(directory) as stage:
        write_lm(student, stage)
        for name, content in (files or {}).items():
            (stage / name).write_text(content, encoding="utf-8")
        (stage / "README.md").write_text(model_card(card, facts), encoding="utf-8")
        card.save(stage)  # a neighbour of the directory to be: its base lies as far away
        return prove_lm(student, stage, chats, merge_difference=merge_difference)


def write_lm(student: LmStudent, directory: Path) -> None:
    """Write weights (or ``adapter/``), tokenizer, chat template and generation config.

    The generation config names every token that ends an answer and recommends no sampling: a
    temperature that a base recommends is none that the student was measured with.
    """
    from transformers import GenerationConfig

    module, tokenizer = student.module, student.tokenizer
    ends = [student.end, *sorted(student.ends - {student.end})]
    pad = tokenizer.pad_token_id
    generation = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends,
        pad_token_id=student.end if pad is None else pad,
    )
    place = directory / "adapter" if is_adapter(module) else directory
    with quiet_transformers():
        if is_adapter(module):
            module.save_pretrained(place, safe_serialization=True)
            (place / "README.md").unlink(missing_ok=True)  # a form that nobody filled in
        else:
            _forget_quantisation(module)
            before = module.generation_config
            module.generation_config = generation
            if module.config.get_text_config().eos_token_id not in student.ends:
                module.config.get_text_config().eos_token_id = student.end
            try:
                module.save_pretrained(place, max_shard_size=SHARD)
            finally:
                module.generation_config = before
        generation.save_pretrained(place)
        tokenizer.save_pretrained(place)


def _forget_quantisation(module: Any) -> None:
    """Let weights that were read from a GGUF file, and are plain numbers since, be saved as such.

    Raises:
        StudentError: weights that still are quantised.
    """
    quantiser = getattr(module, "hf_quantizer", None)
    if quantiser is None:
        return
    method = getattr(quantiser.quantization_config, "quant_method", "")
    if getattr(method, "value", method) != "gguf":
        raise StudentError(
            "the student", f"has quantised weights ({method})", "train it from plain weights"
        )
    module.hf_quantizer = None
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config


def is_adapter(module: Any) -> bool:
    """Whether a module is wrapped by PEFT."""
    return hasattr(module, "peft_config") and hasattr(module, "merge_and_unload")


def merged(module: Any) -> Any:
    """A module with its LoRA folded into the weights; one without a LoRA as it is."""
    return module.merge_and_unload() if is_adapter(module) else module


def _merge(student: LmStudent, chats: Sequence[SampleChat]) -> float | None:
    """Merge a LoRA in place; how far a logit moved, ``None`` where there was none."""
    if not is_adapter(student.module):
        return None
    rows = [_ids(student.tokenizer, chat) for chat in chats]
    before = [_logits(student.module, row) for row in rows]
    student.module = merged(student.module)
    moved = max(_apart(b, _logits(student.module, r)) for b, r in zip(before, rows, strict=True))
    scale = max(float(b.abs().max()) for b in before)
    if _dtype(student.module) == "float32" and not moved <= MERGE_APART * max(1.0, scale):
        raise StudentError(
            f"student {student.name}",
            f"answers differently once its LoRA is merged (a logit moved by {moved:.2g})",
            "keep it beside the weights: lora.merge = false",
        )
    return moved


def prove_lm(
    student: LmStudent,
    directory: Path,
    chats: Sequence[SampleChat] = CHATS[:2],
    *,
    merge_difference: float | None = None,
) -> HfProof:
    """Load ``directory`` with transformers and compare it with the student in memory.

    Raises:
        StudentError: a logit differs by more than 1e-5, or a greedy answer or a text's tokens do.
    """
    dtype = _dtype(student.module)
    module, tokenizer = load_lm(directory, dtype=dtype)
    module = module.to(next(student.module.parameters()).device)
    texts = [*TEXTS, *(_rendered(student.tokenizer, chat) for chat in chats)]
    same_tokens = sum(_tokens(student.tokenizer, t) == _tokens(tokenizer, t) for t in texts)
    worst, positions, same = 0.0, 0, 0
    for chat in chats:
        ids = _ids(student.tokenizer, chat)
        worst = max(worst, _apart(_logits(student.module, ids), _logits(module, ids)))
        positions += len(ids)
        same += _answer(student.module, ids, student) == _answer(module, ids, student)
    proof = HfProof(
        dtype=dtype,
        prompts=len(chats),
        positions=positions,
        worst_logit=worst,
        same_answers=same,
        texts=len(texts),
        same_tokens=same_tokens,
        merge_difference=merge_difference,
    )
    wrong = _what_is_wrong(proof)
    if wrong:
        raise StudentError(
            f"student {student.name}",
            f"was saved, and loaded again it {wrong}",
            "nothing was replaced; this model does not survive saving, so choose another base",
        )
    return proof


def _what_is_wrong(proof: HfProof) -> str:
    if proof.same_tokens < proof.texts:
        return f"splits {proof.texts - proof.same_tokens} of {proof.texts} texts differently"
    if not proof.worst_logit <= MOST_APART:
        return f"differs by {proof.worst_logit:.2g} in a logit (at most {MOST_APART:g})"
    if proof.same_answers < proof.prompts:
        return f"answers {proof.prompts - proof.same_answers} of {proof.prompts} prompts otherwise"
    return ""


@dataclass(frozen=True)
class _Place:
    path: Path
    adapter: bool


def _place(directory: Path) -> _Place:
    if (directory / "adapter" / "adapter_config.json").is_file():
        return _Place(directory / "adapter", adapter=True)
    return _Place(directory, adapter=False)


def load_lm(directory: Path, *, dtype: str = "auto") -> tuple[Any, Any]:
    """Load a student's directory: model and tokenizer; an adapter onto its base.

    Raises:
        StudentError: something is missing or broken; says what.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = _place(directory)
    if not place.adapter and not (place.path / "config.json").is_file():
        raise StudentError(
            str(directory), "holds no weights (no config.json)", "name RUN/students/NAME"
        )
    wanted: Any = getattr(torch, dtype, dtype)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(place.path, local_files_only=True)
            if place.adapter:
                module, loading = _with_adapter(directory, place.path, wanted), {}
            else:
                module, loading = AutoModelForCausalLM.from_pretrained(
                    place.path,
                    dtype=wanted,
                    output_loading_info=True,
                    use_safetensors=True,
                    local_files_only=True,
                )
    except MissingExtraError:
        raise
    except Exception as error:  # whatever a broken file makes the library raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StudentError(
            str(directory), f"cannot be loaded: {reason}", "train or export it again"
        ) from error
    if missing := sorted(loading.get("missing_keys", ())):
        raise StudentError(str(directory), f"lacks the weights {missing[0]} ...", "train it again")
    return module.eval(), tokenizer


def _with_adapter(directory: Path, path: Path, dtype: Any) -> Any:
    """An adapter on its base: the one that the card leads to, else the one it was trained on."""
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    from transformers import AutoModelForCausalLM, GenerationConfig

    named = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
    if (directory / "student.json").is_file():
        beside = directory / LmStudentCard.load(directory).beneath
        named = str(beside) if (beside / "config.json").is_file() else named
    base = AutoModelForCausalLM.from_pretrained(named, dtype=dtype, local_files_only=True)
    base.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
    with warnings.catch_warnings():  # it asks transformers by a name that is going
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return PeftModel.from_pretrained(base, str(path))


def _dtype(module: Any) -> str:
    return str(next(module.parameters()).dtype).removeprefix("torch.")


def _rendered(tokenizer: Any, chat: SampleChat) -> str:
    return str(
        tokenizer.apply_chat_template(
            list(chat.messages), tokenize=False, add_generation_prompt=True
        )
    )


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _ids(tokenizer: Any, chat: SampleChat) -> list[int]:
    return _tokens(tokenizer, _rendered(tokenizer, chat) + chat.answer)


def _logits(module: Any, ids: Sequence[int]) -> torch.Tensor:
    """(T, V) in float32, in evaluation mode."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            device = next(module.parameters()).device
            logits = module(input_ids=torch.tensor([ids], device=device)).logits[0]
    finally:
        module.train(was_training)
    return torch.as_tensor(logits.float().cpu())


def _apart(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest absolute difference; NaN counts as infinitely far."""
    if first.shape != second.shape:
        return math.inf
    apart = float((first - second).abs().max())
    return apart if math.isfinite(apart) else math.inf


def _answer(module: Any, ids: Sequence[int], student: LmStudent) -> list[int]:
    """The greedy continuation, at most 8 tokens, up to an end."""
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=ANSWER_TOKENS,
        eos_token_id=sorted(student.ends),
        pad_token_id=student.end,
    )
    was_training = module.training
    module.eval()
    row = torch.tensor([list(ids)], device=next(module.parameters()).device)
    try:
        with torch.no_grad(), quiet_transformers():
            said = module.generate(
                input_ids=row, attention_mask=torch.ones_like(row), generation_config=greedy
            )
    finally:
        module.train(was_training)
    return [int(token) for token in said[0, len(ids) :]]
