"""What to do about a request that a server rejects for good: the way out beside its message.

Also what a rejection is about, where its status alone does not tell: a quota that is used up says
429 like a pace that is too fast, and a moderator says 403 like a key that is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["advice", "is_moderated", "is_used_up"]

# Codes and types of errors, as OpenAI ("insufficient_quota"), its resellers and gateways have them.
# A pace that is too fast ("rate_limit_exceeded") is none of them.
_USED_UP = re.compile(
    r"insufficient_(quota|balance|credits?|funds)"
    r"|\w*(spend|spending|billing|credit)_?(hard_|soft_)?(limit|cap|budget)\w*"
    r"|budget_exceeded|billing_not_active|billing_error"
)
_MODERATED = re.compile(r"content[ _-]?(policy|filter|management)|moderat|flagged")

# Parameter names as servers quote them, and the line of the recipe that leaves them out. The
# order matters: messages about max_tokens often name max_completion_tokens as well.
_WAYS_OUT = (
    ("logprobs", "it offers no log-probs: set teacher.top_logprobs = 0"),
    ("logits", "it offers no log-probs: set teacher.top_logprobs = 0"),
    ("temperature", "set teacher.supports_temperature = false"),
    ("seed", "set teacher.supports_seed = false"),
)


def advice(status: int, message: str, max_tokens_field: str) -> str:
    """The way out for a rejected request, empty where the server's message is all there is."""
    said = message.casefold()
    if "context" in said and ("exceed" in said or "maximum context" in said):
        return "the prompt is too long: shorten the input, or raise teacher.context_length"
    if status == 404:
        return "check teacher.base_url, teacher.path and teacher.model"
    if status in (301, 302, 303, 307, 308):
        return "the address redirects: set teacher.base_url to where it leads"
    if status not in (400, 422):
        return ""
    for name, way_out in _WAYS_OUT:
        if name in said:
            return way_out
    if max_tokens_field in said and max_tokens_field == "max_tokens":
        return 'set teacher.max_tokens_field = "max_completion_tokens"'
    if "max_completion_tokens" in said:
        return 'set teacher.max_tokens_field = "max_tokens"'
    return ""


def is_used_up(status: int, raw: str) -> bool:
    """Whether an error body says that the money or the quota is gone, so that waiting is in vain.

    Told by the error's code and type, never by its message.
    """
    error = _error(raw)
    named = (error.get(key) for key in ("code", "type"))
    return status in (400, 402, 403, 429) and any(
        isinstance(name, str) and _USED_UP.fullmatch(name.casefold()) for name in named
    )


def is_moderated(raw: str) -> bool:
    """Whether an error body says that what was asked is refused, and not who asks."""
    error = _error(raw)
    detail = error.get("metadata")
    if isinstance(detail, dict) and "flagged_input" in detail:
        return True
    said = (error.get(key) for key in ("code", "type", "message"))
    return any(isinstance(text, str) and _MODERATED.search(text.casefold()) for text in said)


def _error(raw: str) -> dict[str, Any]:
    """OpenAI's ``{"error": {...}}``, or the object itself where that is missing."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}
