"""What the parts of training a language-model student hand to one another.

Shapes: B sequences or packed rows, T tokens, N answer tokens of a batch, K alternatives, D width,
V vocabulary. Whatever is said of a token stands at the token's own place: ``labels[b, t]``,
``teacher_ids[b, t]`` and so on are about token t, which the model foretells at t - 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORED", "Batch", "LmStudent", "Method", "TokenizedChat"]

IGNORED = -100  # the label of a token that is not learned: torch's and transformers' convention

# A batch is a mapping of tensors, as transformers' Trainer moves them:
#   input_ids (B, T) int64, position_ids (B, T) int64 (beginning anew with every chat of a packed
#   row), labels (B, T) int64 with IGNORED outside of answers; attention_mask (B, T) only where
#   rows are padded and not packed.
# With a sparse signal also teacher_ids (B, T, K) int32, teacher_logprobs (B, T, K) float32 with
# -inf for places that hold nothing, teacher_tail (B, T) float32 log of the remaining mass (-inf:
# none), teacher_known (B, T) bool: whether anything is known of what the teacher thought there.
# With method "on_policy" also chat_index (C,) int64: which training chats the step is about.
Batch = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class TokenizedChat:
    """One training example in the student's tokens.

    ``ids`` are prompt, answer and what ends the answer; the first ``n_prompt`` are not learned.
    ``row`` is its place among the answered rows of its split. ``item`` and ``sample`` lead to the
    dataset's row, ``request_keys`` into the ledger.
    """

    row: int
    item: str
    sample: int
    ids: tuple[int, ...]
    n_prompt: int
    request_keys: tuple[str, ...] = ()

    @property
    def n_answer(self) -> int:
        """Tokens that are learned."""
        return len(self.ids) - self.n_prompt


@dataclass
class LmStudent:
    """A student in memory: what is trained, with its tokenizer and where it came from.

    ``module`` is a transformers causal model, wrapped by PEFT for LoRA. ``base_dir`` holds the
    untrained base (a pruned one was written there first), ``adapter_base`` what a LoRA is put onto
    where that is not it: an earlier student's weights. ``ends`` are the tokens that end an
    answer; ``end`` is the one that training appends.
    """

    name: str
    module: Any
    tokenizer: Any
    base: str
    base_dir: str
    base_licence: str
    end: int
    ends: frozenset[int]
    context: int | None
    notes: list[str] = field(default_factory=list)
    adapter_base: str | None = None


class Method(Protocol):
    """How a student learns from a batch: one short file a method.

    ``loss`` returns the *sum* of the loss over the batch's answer tokens; the trainer divides by
    the number of answer tokens of the whole step, over all its pieces and processes, so that
    cutting a step differently changes nothing. ``prepare`` may replace a batch before that (the
    student's own text, on-policy); it is told the global step, so that a resumed run draws the
    same.
    """

    name: str

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        """The batch to learn from."""
        ...

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The summed loss over answer tokens, a scalar with a gradient."""
        ...
