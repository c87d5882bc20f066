"""Answering several requests with one pass of local weights at a time.

Shapes: B requests, L tokens of the longest prompt, V vocabulary. Prompts are padded on the left,
so that all answers begin in the same column. Every log-prob is the log-softmax of the model's
logits over the whole vocabulary in float32, before temperature and ``top_p``. Those of an answer
cover every token that was generated: the one that ended it too, or those of a stop string.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from overproof.clients.local_chat import called_tools
from overproof.clients.local_model import LocalModel
from overproof.clients.local_rows import Row
from overproof.records.exchange import (
    Completion,
    Outcome,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Usage,
)

if TYPE_CHECKING:
    import torch

__all__ = ["answer", "drawn"]

# Logits of prompts are made for so many bytes at a time: a long prompt's would fill the memory.
LOGITS_BYTES = 256 * 2**20
NO_NUMBER = "the model computed no number (NaN): set teacher.dtype to 'bfloat16' or 'float32'"
TOO_LARGE = (
    "there is not enough memory to answer it alone: lower teacher.context_length or max_tokens, "
    "or set teacher.dtype to 'bfloat16'"
)


def answer(model: LocalModel, rows: list[Row]) -> None:
    """Answer requests together; each is delivered as soon as it ends.

    Where the memory does not suffice for all of them, for half of them at a time.
    """
    import torch

    try:
        with torch.inference_mode():
            _Batch(model, rows).run()
        return
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    # Outside the handler, whose traceback would hold on to the tensors.
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    left = [row for row in rows if not row.is_done]
    if len(left) == 1:
        _finish(left[0], Completion(outcome=Outcome.FAILED, error=TOO_LARGE))
        return
    for row in left:
        row.restart()
    for half in (left[: len(left) // 2], left[len(left) // 2 :]):
        answer(model, half)


def drawn(
    logits_bv: torch.Tensor,
    temperature_b: torch.Tensor,
    top_p_b: torch.Tensor,
    uniform_b: torch.Tensor,
) -> torch.Tensor:
    """One token a row: the likeliest at temperature 0, else drawn by inverting the distribution.

    ``uniform_b`` in [0, 1) picks a place in the cumulative probabilities in order of token id, so
    that rounding matters only where the place falls onto a border. ``top_p`` keeps the fewest
    tokens that have that much probability together (Holtzman et al., arXiv 1904.09751).
    """
    import torch

    likeliest_b = logits_bv.argmax(-1)
    warm_b = temperature_b > 0
    if not bool(warm_b.any()):
        return likeliest_b
    precise = torch.float32 if logits_bv.device.type == "mps" else torch.float64
    divisor_b = torch.where(warm_b, temperature_b, torch.ones_like(temperature_b))
    scaled_bv = logits_bv.to(precise) / divisor_b.to(precise).unsqueeze(-1)
    chances_bv = torch.softmax(scaled_bv, -1)
    if bool((top_p_b < 1).any()):
        falling_bv = chances_bv.sort(-1, descending=True).values
        before_bv = falling_bv.cumsum(-1) - falling_bv
        kept_b = (before_bv < top_p_b.to(precise).unsqueeze(-1)).sum(-1).clamp(min=1)
        least_b = falling_bv.gather(-1, (kept_b - 1).unsqueeze(-1))
        chances_bv = chances_bv.masked_fill(chances_bv < least_b, 0.0)
    up_to_bv = chances_bv.cumsum(-1)
    place_b = uniform_b.to(precise).unsqueeze(-1) * up_to_bv[:, -1:]
    picked_b = torch.searchsorted(up_to_bv, place_b, right=True).squeeze(-1)
    picked_b = picked_b.clamp(max=logits_bv.shape[-1] - 1)
    return torch.where(warm_b, picked_b, likeliest_b)


class _Batch:
    """Rows that are generated together, one column of tokens at a time."""

    def __init__(self, model: LocalModel, rows: list[Row]) -> None:
        import torch

        self.model = model
        self.rows = [row for row in rows if not row.is_abandoned()]
        self.started = time.monotonic()
        self.cache: Any = None
        takes = inspect.signature(model.module.forward).parameters
        self._takes_positions = "position_ids" in takes
        self._keeps_last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        width = max((len(row.prompt) for row in self.rows), default=0)
        self.ids_bl = torch.tensor(
            [[0] * (width - len(row.prompt)) + row.prompt for row in self.rows]
        ).to(model.device)
        self.mask_bl = torch.tensor(
            [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in self.rows]
        ).to(model.device)
        self.uniform_bt = self._uniforms()

    def run(self) -> None:
        """Generate until every row has ended."""
        if not self.rows:
            return
        logits_bv = self._read_prompts()
        step = 0
        while True:
            asked = [row.request.parameters for row in self.rows]
            tokens_b = drawn(
                logits_bv,
                self._numbers([1.0 if p.temperature is None else p.temperature for p in asked]),
                self._numbers([1.0 if p.top_p is None else p.top_p for p in asked]),
                self.uniform_bt[:, step],
            )
            kept = self._record(logits_bv, tokens_b)
            if not kept:
                return
            if len(kept) <= len(self.rows) // 2 and hasattr(self.cache, "batch_select_indices"):
                tokens_b = self._shrink(kept, tokens_b)
            logits_bv = self._forward(tokens_b.unsqueeze(-1), self._grown())[:, -1].float()
            step += 1

    def _uniforms(self) -> torch.Tensor:
        """Numbers in [0, 1) for every row and step, which depend on the row's seed alone."""
        import torch

        steps = max((row.limit for row in self.rows), default=1)
        uniforms = torch.zeros((len(self.rows), steps), dtype=torch.float64)
        for i, row in enumerate(self.rows):
            generator = torch.Generator().manual_seed(row.seed)
            uniforms[i, : row.limit] = torch.rand(
                row.limit, generator=generator, dtype=torch.float64
            )
        on_device = torch.float32 if self.model.device.type == "mps" else torch.float64
        return uniforms.to(dtype=on_device).to(self.model.device)

    def _numbers(self, values: list[float]) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.float32, device=self.model.device)

    def _forward(self, ids_bl: torch.Tensor, mask_bl: torch.Tensor, **more: Any) -> torch.Tensor:
        """Logits of further columns, B x L x V; the cache holds the columns before."""
        if self._takes_positions:
            positions_bl = (mask_bl.cumsum(-1) - 1).clamp(min=0)
            more["position_ids"] = positions_bl[:, -ids_bl.shape[1] :]
        out = self.model.module(
            input_ids=ids_bl,
            attention_mask=mask_bl,
            past_key_values=self.cache,
            use_cache=True,
            **more,
        )
        self.cache = out.past_key_values
        logits: torch.Tensor = out.logits
        return logits

    def _grown(self) -> torch.Tensor:
        import torch

        self.mask_bl = torch.cat([self.mask_bl, torch.ones_like(self.mask_bl[:, :1])], -1)
        return self.mask_bl

    def _read_prompts(self) -> torch.Tensor:
        """The logits after the prompts, B x V; on the way, log-probs of prompts that want them."""
        wanted = [row.request.parameters.prompt_logprobs is not None for row in self.rows]
        if not any(wanted):
            return self._forward(self.ids_bl, self.mask_bl, **self._keeps_last)[:, -1].float()
        for row in self.rows:
            row.prompt_logprobs = [None]
        vocabulary = self.model.module.get_output_embeddings().weight.shape[0]
        columns = max(1, LOGITS_BYTES // (4 * vocabulary * len(self.rows)))
        logits_blv: Any = None
        for start in range(0, self.ids_bl.shape[1], columns):
            end = min(start + columns, self.ids_bl.shape[1])
            logits_blv = self._forward(self.ids_bl[:, start:end], self.mask_bl[:, :end])
            for i, row in enumerate(self.rows):
                if wanted[i]:
                    self._score(row, i, start, logits_blv[i])
        last_bv: torch.Tensor = logits_blv[:, -1].float()
        return last_bv

    def _score(self, row: Row, i: int, start: int, logits_lv: torch.Tensor) -> None:
        """Log-probs of the prompt's tokens that columns ``start`` and on foretell."""
        import torch

        width = self.ids_bl.shape[1]
        first = max(start, width - len(row.prompt))
        last = min(start + logits_lv.shape[0], width - 1)
        if first >= last:
            return
        logprobs_lv = torch.log_softmax(logits_lv[first - start : last - start].float(), -1)
        tokens_l = self.ids_bl[i, first + 1 : last + 1]
        k = row.request.parameters.prompt_logprobs or 0
        row.prompt_logprobs.extend(self._told(tokens_l, logprobs_lv, [k] * len(tokens_l)))

    def _told(
        self, tokens_n: torch.Tensor, logprobs_nv: torch.Tensor, ks: list[int]
    ) -> Iterator[TokenLogprob]:
        """Each token with its log-prob and the ``k`` likeliest ones in its place."""
        most = min(max(ks), logprobs_nv.shape[-1])
        values, ids = logprobs_nv.topk(most, -1)
        own = logprobs_nv.gather(-1, tokens_n.unsqueeze(-1)).squeeze(-1).tolist()
        chat = self.model.chat
        rows = zip(tokens_n.tolist(), own, values.tolist(), ids.tolist(), ks, strict=True)
        for token, logprob, likeliest, alternatives, k in rows:
            pairs = list(zip(alternatives, likeliest, strict=True))[:k]
            yield TokenLogprob(
                token=chat.shown(token),
                logprob=min(logprob, 0.0),
                data=tuple(chat.bytes_of(token)) if chat.knows_bytes else None,
                top=tuple(
                    TopLogprob(
                        token=chat.shown(other),
                        logprob=min(value, 0.0),
                        data=tuple(chat.bytes_of(other)) if chat.knows_bytes else None,
                    )
                    for other, value in pairs
                ),
            )

    def _record(self, logits_bv: torch.Tensor, tokens_b: torch.Tensor) -> list[int]:
        """Add a token to every row that is under way; which rows go on."""
        import torch

        asked = [row.request.parameters.top_logprobs for row in self.rows]
        told: list[TokenLogprob | None] = [None] * len(self.rows)
        if any(k is not None for k in asked):
            logprobs_bv = torch.log_softmax(logits_bv, -1)
            told = list(self._told(tokens_b, logprobs_bv, [k or 0 for k in asked]))
        broken = logits_bv.isnan().any(-1).tolist()
        kept = []
        for i, (row, token) in enumerate(zip(self.rows, tokens_b.tolist(), strict=True)):
            if row.is_done or row.is_abandoned():
                continue
            if broken[i]:
                _finish(row, Completion(outcome=Outcome.FAILED, error=NO_NUMBER))
                continue
            if asked[i] is not None and (logprob := told[i]) is not None:
                row.logprobs.append(logprob)
            reason = self._ended(row, token)
            if reason is None:
                kept.append(i)
                if row.hear is not None:
                    row.hear(row)
            else:
                _finish(row, _completion(self.model, row, reason, self.started))
        return kept

    def _ended(self, row: Row, token: int) -> str | None:
        """Take a token into the row's answer: why the answer ends with it, ``None`` if not."""
        if token in self.model.ends:
            row.tokens.append(token)
            return "stop"
        before = len(row.said)
        row.tokens.append(token)
        if self.model.chat.knows_bytes:
            row.said += self.model.chat.bytes_of(token)
        else:
            row.said = bytearray(self.model.chat.text(row.tokens).encode())
            before = 0
        ends = [
            at
            for stop in row.request.parameters.stop
            if (at := row.said.find(stop.encode(), max(0, before - len(stop.encode()) + 1))) >= 0
        ]
        if ends:
            del row.said[min(ends) :]
            return "stop"
        return "length" if len(row.tokens) >= row.limit else None

    def _shrink(self, kept: list[int], tokens_b: torch.Tensor) -> torch.Tensor:
        """Go on without the rows that have ended."""
        import torch

        index = torch.tensor(kept, device=self.model.device)
        self.cache.batch_select_indices(index)
        self.rows = [self.rows[i] for i in kept]
        self.mask_bl, self.uniform_bt = self.mask_bl[index], self.uniform_bt[index]
        return tokens_b[index]


def _completion(model: LocalModel, row: Row, reason: str, started: float) -> Completion:
    text = row.said.decode("utf-8", "replace")
    calls: tuple[ToolCall, ...] = ()
    if row.request.parameters.tools:
        text, calls = called_tools(text)
    return Completion(
        outcome=Outcome.TRUNCATED if reason == "length" else Outcome.ANSWERED,
        text=text,
        finish_reason="tool_calls" if calls else reason,
        logprobs=None if row.request.parameters.top_logprobs is None else tuple(row.logprobs),
        prompt_logprobs=(
            None if row.request.parameters.prompt_logprobs is None else tuple(row.prompt_logprobs)
        ),
        tool_calls=calls,
        usage=Usage(input_tokens=len(row.prompt), output_tokens=len(row.tokens)),
        model=model.name,
        system_fingerprint=model.fingerprint,
        latency_s=time.monotonic() - started,
    )


def _finish(row: Row, completion: Completion) -> None:
    row.is_done = True
    row.deliver(completion)


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
