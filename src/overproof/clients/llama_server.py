"""What llama.cpp's own server offers beyond the OpenAI protocol: ``/props`` and ``/tokenize``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from overproof.clients.protocol import Capabilities

__all__ = ["MOST_LOGPROBS", "capabilities_from_props", "pieces_of", "root_of"]

MOST_LOGPROBS = 200


def root_of(base_url: str) -> str:
    """The address without its trailing ``/v1``, where the server's own endpoints are."""
    parts = urlsplit(base_url)
    return urlunsplit(
        (parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/v1"), "", "")
    )


def capabilities_from_props(props: Any) -> Capabilities | None:
    """Capabilities by the answer of ``GET /props``, ``None`` where it is not llama.cpp's."""
    settings = props.get("default_generation_settings") if isinstance(props, dict) else None
    if not isinstance(settings, dict) or "total_slots" not in props:
        return None
    n_ctx = settings.get("n_ctx")
    slots, template = props["total_slots"], props.get("chat_template_caps")
    return Capabilities(
        top_logprobs=MOST_LOGPROBS,
        assistant_prefill=True,
        tokenize=True,
        seed=True,
        context_length=n_ctx if isinstance(n_ctx, int) and n_ctx > 0 else None,
        # Each choice of a call takes a slot; more of them are refused.
        choices=slots if isinstance(slots, int) and slots > 0 else 1,
        structured=True,
        # A chat template that knows no tools leaves them out of the prompt without a word.
        tools=template.get("supports_tools") is not False if isinstance(template, dict) else True,
    )


def pieces_of(answer: Any) -> list[bytes] | None:
    """Byte pieces by the answer of ``POST /tokenize`` with ``with_pieces``.

    A piece is a string, or a list of bytes where it is not valid UTF-8 by itself.
    """
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(tokens, list):
        return None
    pieces = []
    for token in tokens:
        piece = token.get("piece") if isinstance(token, dict) else None
        if isinstance(piece, str):
            pieces.append(piece.encode())
        elif isinstance(piece, list):
            pieces.append(bytes(piece))
        else:
            return None
    return pieces
