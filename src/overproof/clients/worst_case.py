"""The most tokens that a request can take: what caps on money and tokens reserve."""

from __future__ import annotations

import json
from typing import Any

from overproof.records.exchange import Request, Usage

__all__ = ["worst_usage"]

# Role, separators and the like: what a chat template adds to a message.
TOKENS_AROUND_A_MESSAGE = 16
# What a template says about tools and schemas in general, beside their JSON.
TOKENS_AROUND_A_TOOL = 64


def worst_usage(request: Request, choices: int = 1) -> Usage:
    """Input and output tokens that a call cannot exceed.

    A tokenizer of bytes makes at most one token of a byte. Tools, tool calls and the schema of the
    answer are part of the prompt as JSON; the answer has at most ``max_tokens``, which count
    reasoning too, and so has each of the ``choices``.
    """
    tokens = 0
    for message in request.messages:
        tokens += TOKENS_AROUND_A_MESSAGE + len(message.content.encode(errors="replace"))
        for call in message.tool_calls:
            tokens += TOKENS_AROUND_A_TOOL + _bytes([call.id, call.name, call.arguments])
    asked = request.parameters
    for tool in asked.tools:
        tokens += TOKENS_AROUND_A_TOOL + _bytes([tool.name, tool.description, tool.parameters])
    if asked.response_schema is not None:
        tokens += TOKENS_AROUND_A_TOOL + _bytes(asked.response_schema)
    return Usage(input_tokens=tokens, output_tokens=asked.max_tokens * choices)


def _bytes(value: Any) -> int:
    # As ASCII with indentation it is longest: nobody puts JSON into a prompt in a longer form.
    return len(json.dumps(value, indent=2))
