"""Keeping secrets out of everything that is written: ledger and errors.

A secret is replaced wherever it stands as it is, percent-encoded, escaped as JSON, or inside
base64 at any alignment (``Authorization: Basic`` holds ``base64(user:secret)``), and where it is
spread over the tokens of a completion's log-probs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from overproof.errors import SecretError
from overproof.records.exchange import Completion, Exchange, TokenLogprob, TopLogprob

__all__ = ["SHORTEST_SECRET", "Redactor"]

SHORTEST_SECRET = 6
# Fewer base64 characters than this would be found in innocent text.
SHORTEST_BASE64 = 8


class Redactor:
    """Replaces secrets by ``[redacted:NAME]``.

    Args:
        secrets: values by the name to show for them, such as the environment variable's.

    Raises:
        SecretError: for a value shorter than six characters; redacting it would damage text
            that merely happens to contain it.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        forms: dict[str, str] = {}
        for name, value in secrets.items():
            if len(value) < SHORTEST_SECRET:
                raise SecretError(
                    name,
                    f"is a secret of fewer than {SHORTEST_SECRET} characters",
                    "use a longer one: a short value cannot be kept out of texts without "
                    "damaging them",
                )
            for form in _forms(value):
                forms.setdefault(form, name)
        self._names = forms
        self._written = [form.encode("utf-8", "backslashreplace") for form in forms]
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def text(self, text: str) -> str:
        """``text`` without any form of any secret."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._mark(match[0]), text)

    def value(self, value: Any) -> Any:
        """A JSON-like value with every string in it, and every key, redacted."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def exchange(self, exchange: Exchange) -> Exchange:
        """An exchange without secrets; also those that only its tokens together spell."""
        if self._pattern is None:
            return exchange
        completion = self._completion(exchange.completion)
        if completion is exchange.completion and self._writes_none(exchange):
            return exchange
        whole = exchange.model_copy(update={"completion": completion}).model_dump(mode="json")
        return Exchange.model_validate(self.value(whole))

    def is_clean(self, body: bytes) -> bool:
        """Whether no form of a secret stands in JSON, in one piece."""
        return not any(form in body for form in self._written)

    def _writes_none(self, exchange: Exchange) -> bool:
        try:
            return self.is_clean(exchange.model_dump_json().encode())
        except ValueError:  # half a surrogate pair: go the long way
            return False

    def _completion(self, completion: Completion) -> Completion:
        tokens = completion.logprobs
        if not tokens or self._pattern is None:
            return completion
        spelled = list(tokens)
        for pieces in ([token.token for token in tokens], [_bytes_text(token) for token in tokens]):
            for match in self._pattern.finditer("".join(pieces)):
                start = 0
                for index, piece in enumerate(pieces):
                    end = start + len(piece)
                    if start < match.end() and end > match.start():
                        spelled[index] = TokenLogprob(
                            token=self._mark(match[0]), logprob=tokens[index].logprob
                        )
                    start = end
        # The bytes of a token or of an alternative may hold what its text holds.
        cleaned = [
            token
            if not self._in_bytes(token)
            else token.model_copy(update={"data": None, "top": ()})
            for token in spelled
        ]
        if all(new is old for new, old in zip(cleaned, tokens, strict=True)):
            return completion
        return completion.model_copy(update={"logprobs": tuple(cleaned)})

    def _in_bytes(self, token: TokenLogprob) -> bool:
        if self._pattern is None:
            return False
        items: list[TokenLogprob | TopLogprob] = [token, *token.top]
        return any(
            self._pattern.search(_bytes_text(item)) or self._pattern.search(item.token)
            for item in items
        )

    def _mark(self, form: str) -> str:
        return f"[redacted:{self._names[form]}]"


def _bytes_text(item: TokenLogprob | TopLogprob) -> str:
    """Text of a token's bytes, its own text where it has none."""
    if item.data is None:
        return item.token
    return bytes(byte & 0xFF for byte in item.data).decode("utf-8", "replace")


def _forms(secret: str) -> set[str]:
    """Every way in which ``secret`` is likely to stand in a text."""
    quoted = {
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in quoted}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    escaped |= {form.replace("/", "\\/") for form in escaped}
    forms = {secret, *quoted, *lower, *escaped, *_base64_forms(secret)}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def _base64_forms(secret: str) -> set[str]:
    """The characters that depend on the secret alone, at each of the three alignments."""
    data = secret.encode("utf-8", "replace")
    forms = set()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data).decode()
        first = (shift * 8 + 5) // 6
        last = (shift + len(data)) * 8 // 6
        forms.add(encoded[first:last])
    forms.add(base64.b64encode(data).decode())
    forms |= {form.replace("+", "-").replace("/", "_") for form in forms}
    return {form for form in forms if len(form) >= SHORTEST_BASE64}
