"""What vLLM's server offers beyond the OpenAI protocol: its model's length, prefills, pieces.

By vLLM's ``entrypoints/openai`` and ``entrypoints/serve/tokenize``, read and run at 0.32.
"""

from __future__ import annotations

from typing import Any

from overproof.clients.protocol import Capabilities
from overproof.clients.token_bytes import pieces_of_text
from overproof.records.exchange import Request

__all__ = [
    "MOST_LOGPROBS",
    "capabilities_from_models",
    "pieces_of",
    "prefill_body",
    "tokenize_body",
]

# ``--max-logprobs`` of a server that was not told otherwise; it does not say what it was told.
MOST_LOGPROBS = 20
MOST_CHOICES = 128


def capabilities_from_models(models: Any, model: str) -> Capabilities | None:
    """Capabilities by the answer of ``GET /v1/models``, ``None`` where it is not vLLM's.

    Args:
        models: the answer's JSON, whatever it is.
        model: which of them is asked; its length is that of the only one where it is not listed.
    """
    listed = models.get("data") if isinstance(models, dict) else None
    ours = [
        entry
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and entry.get("owned_by") == "vllm"
    ]
    if not ours:
        return None
    named = [entry for entry in ours if entry.get("id") == model] or ours
    longest = named[0].get("max_model_len")
    return Capabilities(
        top_logprobs=MOST_LOGPROBS,
        prompt_logprobs=True,
        assistant_prefill=True,
        tokenize=True,
        seed=True,
        context_length=longest if type(longest) is int and longest > 0 else None,
        choices=MOST_CHOICES,
        structured=True,
        tools=True,
    )


def prefill_body(request: Request) -> dict[str, Any]:
    """What has to be said for a last message of role assistant to be continued."""
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "assistant" or not last.content:
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def tokenize_body(text: str, model: str) -> dict[str, Any]:
    """The body of ``POST /tokenize``, which stands beside ``/v1``."""
    return {
        "model": model,
        "prompt": text,
        "add_special_tokens": False,
        "return_token_strs": True,
    }


def pieces_of(answer: Any, text: str) -> list[bytes] | None:
    """Byte pieces by the answer of ``POST /tokenize``, ``None`` where they do not show."""
    tokens = answer.get("token_strs") if isinstance(answer, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return None
    return pieces_of_text(text, tokens)
