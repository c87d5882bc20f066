"""The hidden states that foretell an answer, and the output head that makes logits of them.

Logits are the largest tensor of training by far, and prompts need none. So the model's own forward
pass stops short of them, and a loss makes them chunk by chunk, for answer tokens alone.

Shapes: B rows, T tokens, N answer tokens of the batch, C of them in a chunk, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from overproof.errors import ModelError
from overproof.train.lm.parts import IGNORED, Batch
from overproof.train.losses.chunked import chunked_sum

__all__ = [
    "Head",
    "Places",
    "answer_hidden",
    "answer_places",
    "answer_sum",
    "check_forward",
    "head_of",
    "unwrapped",
    "whole_head_of",
]

Places = tuple[torch.Tensor, torch.Tensor]  # row and column of each answer token, N each
LossOfLogits = Callable[[torch.Tensor, slice], torch.Tensor]

# Models whose logits are not their output layer's as it is. Each is a number of the config.
MULTIPLIED = ("logit_scale", "lm_head_multiplier")
DIVIDED = ("logits_scaling",)
MULTIPLIED_BY_LOGITS_SCALING = ("hyperclovax",)


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states: ``cap(scale * hidden @ weight.T + bias)``.

    ``cap`` is the final soft-capping of Gemma 2 (arXiv 2408.00118), ``cap * tanh(logits / cap)``.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    cap: float | None

    def logits(self, hidden_nd: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states as the decoder leaves them, N x V."""
        return self.capped(
            torch.nn.functional.linear(hidden_nd * self.scale, self.weight, self.bias)
        )

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits after the final soft-capping, where there is one."""
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def unwrapped(model: Any) -> Any:
    """The transformers model itself, without DDP and PEFT around it."""
    while isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def whole_head_of(model: Any) -> Head:
    """The output head with what comes after it.

    Raises:
        ModelError: the model has no output layer of its own.
    """
    inner = unwrapped(model)
    layer = inner.get_output_embeddings()
    if layer is None or not hasattr(layer, "weight") or hasattr(layer, "base_layer"):
        raise ModelError(
            _name(inner),
            "has no plain output layer to make logits with",
            "use a causal language model, and leave its output layer out of lora.targets",
        )
    config = inner.config.get_text_config()
    scale = 1.0
    for name in (*MULTIPLIED, *DIVIDED):
        number = getattr(config, name, None)
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        times = name in MULTIPLIED or config.model_type in MULTIPLIED_BY_LOGITS_SCALING
        scale = scale * number if times else scale / number
    cap = getattr(config, "final_logit_softcapping", None)
    return Head(layer.weight, getattr(layer, "bias", None), float(scale), cap or None)


def head_of(model: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight V x D and bias V of the output head, for the hidden states of ``answer_hidden``.

    Raises:
        ModelError: the model caps its logits, so that they are no linear function of the hidden
            states; ``answer_sum`` handles that.
    """
    head = whole_head_of(model)
    if head.cap is not None:
        raise ModelError(
            _name(unwrapped(model)), "caps its logits, which this computation leaves out"
        )
    return head.weight, head.bias


def answer_places(batch: Batch) -> Places:
    """Row and column of every answer token that something before it foretells.

    Raises:
        ValueError: a chat begins with a token to be learned, which nothing foretells.
    """
    learned_bt = batch["labels"] != IGNORED
    first_bt = torch.zeros_like(learned_bt)
    first_bt[:, 0] = True
    if "position_ids" in batch and "attention_mask" not in batch:
        first_bt |= batch["position_ids"] == 0
    if bool((learned_bt & first_bt).any()):
        raise ValueError("the first token of a chat is to be learned, and nothing foretells it")
    rows, columns = learned_bt.nonzero(as_tuple=True)
    return rows, columns


def answer_hidden(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Places]:
    """The hidden states that foretell each answer token, before the output head.

    The pass goes through ``model`` as it is given, whatever wraps it, so that DDP synchronises
    gradients and PEFT adapts. A scale of the logits (Granite, Cohere) is already in.

    Args:
        model: a causal model, bare or wrapped by PEFT and DDP.
        batch: see ``parts.Batch``.

    Returns:
        Hidden states N x D, the tokens they foretell N, and where these stand.
    """
    rows, columns = answer_places(batch)
    inner = unwrapped(model)
    inputs = {
        name: batch[name]
        for name in ("input_ids", "position_ids", "attention_mask")
        if name in batch
    }
    with _decoder_output(inner) as caught:
        # One column of logits is made and dropped: the pass has to reach the end for DDP.
        model(**inputs, use_cache=False, logits_to_keep=1)
    hidden_btd = caught[-1]
    hidden_nd = hidden_btd[rows, columns - 1]
    scale = whole_head_of(inner).scale
    if scale != 1.0:
        hidden_nd = hidden_nd * scale
    return hidden_nd, batch["labels"][rows, columns], (rows, columns)


def answer_sum(
    model: Any,
    batch: Batch,
    loss_of_logits: Callable[[torch.Tensor, slice, torch.Tensor, Places], torch.Tensor],
) -> torch.Tensor:
    """The sum over answer tokens of a loss of their logits; (N, V) never exists whole.

    Args:
        model: a causal model, bare or wrapped.
        batch: see ``parts.Batch``.
        loss_of_logits: of a chunk's logits C x V, which answer tokens these are, the targets C,
            and the places of all N; gives C losses.
    """
    hidden_nd, targets_n, places = answer_hidden(model, batch)
    head = whole_head_of(model)

    def of_chunk(logits_cv: torch.Tensor, chunk: slice) -> torch.Tensor:
        return loss_of_logits(head.capped(logits_cv), chunk, targets_n[chunk], places)

    return chunked_sum(of_chunk, hidden_nd, head.weight, head.bias)


def check_forward(module: Any, name: str) -> None:
    """Check that logits made here are the model's own, on eight tokens.

    Raises:
        ModelError: its forward pass takes no positions, or it makes its logits in a way that is
            not known here.
    """
    inner = unwrapped(module)
    taken = inspect.signature(inner.forward).parameters
    if lacking := [each for each in ("position_ids", "logits_to_keep") if each not in taken]:
        raise ModelError(
            name,
            f"its model ({type(inner).__name__}) takes no {lacking[0]}",
            "use a decoder of the Llama kind: Llama, Qwen, Mistral, Gemma, SmolLM, Granite, ...",
        )
    rows = inner.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(8, device=inner.device) % rows).unsqueeze(0)
    was_training = inner.training
    inner.eval()
    try:
        with torch.no_grad(), _decoder_output(inner) as caught:
            own = inner(input_ids=ids, use_cache=False).logits[0].float()
            ours = whole_head_of(inner).logits(caught[-1][0]).float()
    finally:
        inner.train(was_training)
    spread = float(own.abs().max()) if bool(own.isfinite().all()) else float("nan")
    if not spread < float("inf"):
        raise ModelError(
            name, "computes no numbers (NaN): its weights are damaged", "fetch it anew"
        )
    tolerance = 1e-3 if inner.dtype == torch.float32 else 5e-2
    if own.shape != ours.shape or float((own - ours).abs().max()) > tolerance * (1 + spread):
        raise ModelError(
            name,
            f"its model ({type(inner).__name__}) makes logits in a way that is not known here",
            "use a decoder of the Llama kind",
        )


@contextmanager
def _decoder_output(inner: Any) -> Iterator[list[torch.Tensor]]:
    """Within the block, what the decoder of a causal model returns: B x T x D each pass."""
    caught: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", None)
        caught.append(output[0] if hidden is None else hidden)

    handle = inner.base_model.register_forward_hook(keep)
    try:
        yield caught
    finally:
        handle.remove()


def _name(inner: Any) -> str:
    return str(getattr(inner.config, "name_or_path", "") or type(inner).__name__)
