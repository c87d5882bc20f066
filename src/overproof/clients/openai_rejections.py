"""What to do about a request that a server rejects for good: the way out beside its message."""

from __future__ import annotations

__all__ = ["advice"]

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
