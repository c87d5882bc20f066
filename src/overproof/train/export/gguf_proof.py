"""Prove a GGUF file: llama.cpp on it against transformers on the weights it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from overproof.clients.quiet import quiet_transformers
from overproof.errors import StudentError
from overproof.records.lm_export import GgufProof
from overproof.train.export.hf import load_lm, merged
from overproof.train.export.llama_server import LlamaServer
from overproof.train.export.samples import TEXTS, SampleChat, sample_chats

__all__ = ["TOLERANCES", "Reference", "prove_gguf", "reference_of"]

# Least agreement on the likeliest token, and most mean |difference of log-prob| in nats.
TOLERANCES = {
    "gguf-f16": (0.99, 0.01),
    "gguf-q8_0": (0.93, 0.10),
    "gguf-q4_0": (0.70, 0.60),
}
TIE = 0.02  # nats between two tokens that rounding may put either way
POSITIONS = 32  # of an answer, at most
ANSWER_TOKENS = 24
ROOM = 64


@dataclass(frozen=True)
class _Chat:
    """A chat in transformers' eyes: ``ids`` with the answer, log-probs from ``n_prompt`` on."""

    messages: list[dict[str, str]]
    ids: list[int]
    n_prompt: int
    logprobs: torch.Tensor  # (positions, V): of the token after ids[: n_prompt + i]
    greedy: list[int]


@dataclass(frozen=True)
class Reference:
    """What transformers says of a few chats and texts; serves every format."""

    chats: tuple[_Chat, ...]
    texts: tuple[tuple[str, list[int]], ...]
    ends: frozenset[int]
    letter: int  # a token that is a whole character by itself


def reference_of(module: Any, tokenizer: Any, chats: Sequence[SampleChat]) -> Reference:
    """Compute it, in the weights' own precision or better.

    bfloat16 weights are computed in float32: llama.cpp's sums are, too.
    """
    module = module.float().eval()
    named = module.generation_config.eos_token_id
    ends = frozenset(named if isinstance(named, list) else [named])
    return Reference(
        chats=tuple(_chat_of(module, tokenizer, chat, ends) for chat in chats),
        texts=tuple((text, _tokens(tokenizer, text)) for text in TEXTS),
        ends=ends,
        letter=_tokens(tokenizer, "a")[0],
    )


def prove_gguf(
    directory: Path,
    gguf_file: Path,
    prompts: Sequence[SampleChat] | None = None,
    *,
    kind: str = "gguf-f16",
    reference: Reference | None = None,
) -> GgufProof:
    """Compare a GGUF file, run by llama.cpp, with the directory it was made of.

    Args:
        directory: the student in transformers' format.
        gguf_file: the file.
        prompts: chats with answers; those of the student's run where unsaid.
        kind: decides what is tolerated.
        reference: what transformers says, where it is known already.

    Raises:
        StudentError: other tokens, another chat template, or out of tolerance.
        MissingExtraError: xllamacpp is not installed.
    """
    if reference is None:
        module, tokenizer = load_lm(directory)
        reference = reference_of(merged(module), tokenizer, prompts or sample_chats(directory))
    longest = max(len(chat.ids) for chat in reference.chats) + ANSWER_TOKENS + ROOM
    longest = max(longest, *(len(ids) + ROOM for _, ids in reference.texts))
    # llama.cpp rounds a context up to 256.
    with LlamaServer(gguf_file, context=math.ceil(longest / 256) * 256) as server:
        _same_tokens(server, gguf_file.name, reference)
        agreed, differences = [], []
        for chat in reference.chats:
            for position, expected in enumerate(chat.logprobs):
                token, logprob = _likeliest(
                    server, chat.ids[: chat.n_prompt + position], reference.letter
                )
                agreed.append(float(expected.max() - expected[token]) <= TIE)
                differences.append(abs(logprob - float(expected[token])))
        same = [_greedy(server, chat) == _until_end(chat, reference) for chat in reference.chats]
    least, most = TOLERANCES[kind]
    proof = GgufProof(
        prompts=len(reference.chats),
        positions=len(agreed),
        agreement=sum(agreed) / len(agreed),
        mean_difference=sum(differences) / len(differences),
        worst_difference=max(differences),
        same_answers=sum(same) / len(same),
        answer_tokens=ANSWER_TOKENS,
        texts=len(reference.texts),
        least_agreement=least,
        most_difference=most,
        engine=_engine(),
    )
    _within(proof, gguf_file.name)
    return proof


def _within(proof: GgufProof, name: str) -> None:
    """Raise where a proof is out of tolerance; NaN is."""
    if proof.agreement >= proof.least_agreement and proof.mean_difference <= proof.most_difference:
        return
    raise StudentError(
        name,
        f"answers differently in llama.cpp: the likeliest token agrees at {proof.agreement:.1%} "
        f"of {proof.positions} positions (at least {proof.least_agreement:.0%}), its log-prob is "
        f"off by {proof.mean_difference:.3g} nats (at most {proof.most_difference:g})",
        "nothing was exported; use a finer format (gguf-q8_0, gguf-f16) or safetensors",
    )


def _same_tokens(server: LlamaServer, name: str, reference: Reference) -> None:
    for text, ids in reference.texts:
        got = _split(server, text, special=False)
        if got != ids:
            raise _other_tokens(name, f"the text {text[:40]!r}", ids, got)
    for chat in reference.chats:
        # As its own chat endpoint does it: template, then tokens with special ones read.
        answer = server.post("/apply-template", {"messages": chat.messages})
        got = _split(server, answer["prompt"], special=True)
        if got != chat.ids[: chat.n_prompt]:
            expected = chat.ids[: chat.n_prompt]
            asked = chat.messages[-1]["content"][:40]
            raise _other_tokens(name, f"the chat about {asked!r}", expected, got)


def _split(server: LlamaServer, text: str, *, special: bool) -> list[int]:
    body = {"content": text, "add_special": special, "parse_special": special}
    return [int(token) for token in server.post("/tokenize", body)["tokens"]]


def _other_tokens(name: str, what: str, expected: list[int], got: list[int]) -> StudentError:
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    return StudentError(
        name,
        f"llama.cpp reads {what} as other tokens: from token {at} on {got[at : at + 5]}, where "
        f"transformers has {expected[at : at + 5]}",
        "nothing was exported; llama.cpp has no pre-tokenizer like this one: use safetensors",
    )


def _likeliest(server: LlamaServer, ids: list[int], letter: int) -> tuple[int, float]:
    """llama.cpp's likeliest next token and its log-probability.

    It tells none where its own choice is an end or a part of a character, so that it is made to
    choose a letter; the probabilities are those before that.
    """
    answer = _complete(server, ids, 1, logit_bias=[[letter, 1000.0]])
    [top] = answer["completion_probabilities"][0]["top_logprobs"][:1]
    return int(top["id"]), float(top["logprob"])


def _greedy(server: LlamaServer, chat: _Chat) -> list[int]:
    answer = _complete(server, chat.ids[: chat.n_prompt], ANSWER_TOKENS)
    return [int(token) for token in answer["tokens"]]


def _complete(server: LlamaServer, ids: list[int], n_predict: int, **more: Any) -> Any:
    return server.post(
        "/completion",
        {
            "prompt": ids,
            "n_predict": n_predict,
            "n_probs": 1,
            "temperature": 0,
            "cache_prompt": True,
            "return_tokens": True,
            **more,
        },
    )


def _until_end(chat: _Chat, reference: Reference) -> list[int]:
    """Greedy tokens before the one that ends the answer, which llama.cpp does not return."""
    said: list[int] = []
    for token in chat.greedy:
        if token in reference.ends:
            break
        said.append(token)
    return said


def _chat_of(module: Any, tokenizer: Any, chat: SampleChat, ends: frozenset[int]) -> _Chat:
    from transformers import GenerationConfig

    messages = [dict(message) for message in chat.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = _tokens(tokenizer, text)
    ids = prompt + _tokens(tokenizer, chat.answer)[:POSITIONS]
    limit = getattr(module.config, "max_position_embeddings", None) or len(ids)
    ids = ids[:limit]
    if len(prompt) >= len(ids):
        raise StudentError(
            f"a chat of {len(prompt)} tokens",
            f"leaves no room for an answer in the context of {limit}",
            "prove it on shorter chats",
        )
    device = next(module.parameters()).device
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=ANSWER_TOKENS,
        eos_token_id=sorted(ends),
        pad_token_id=min(ends),
    )
    with torch.no_grad(), quiet_transformers():
        row = torch.tensor([ids], device=device)
        logits = module(input_ids=row).logits[0, len(prompt) - 1 :].float().cpu()
        row = row[:, : len(prompt)]
        said = module.generate(
            input_ids=row, attention_mask=torch.ones_like(row), generation_config=greedy
        )
    return _Chat(
        messages=messages,
        ids=ids,
        n_prompt=len(prompt),
        logprobs=torch.log_softmax(logits, dim=-1),
        greedy=[int(token) for token in said[0, len(prompt) :]],
    )


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _engine() -> str:
    import importlib.metadata

    return f"llama.cpp (xllamacpp {importlib.metadata.version('xllamacpp')})"
