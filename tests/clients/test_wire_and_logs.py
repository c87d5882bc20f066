"""An answer from the wire and the same answer from a log are one and the same completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from overproof.clients.openai_wire import WireError, completion_of
from overproof.errors import DataError
from overproof.records.imports import import_logs
from overproof.records.ledger import Ledger

ASKED = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
SPOKEN = {
    "token": "b",
    "bytes": [98],
    "logprob": None,
    "top_logprobs": [{"token": "b", "logprob": None}, {"token": "a", "logprob": -0.5}],
}


def imported(tmp_path: Path, raw: str) -> Any:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"request": {json.dumps(ASKED)}, "response": {raw}}}\n')
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        import_logs(path, ledger, teacher="t")
        [exchange] = ledger.exchanges()
    return exchange.completion


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"logprobs": {"content": [SPOKEN]}},
        {"finish_reason": "length", "message": {"content": None}},
        {"finish_reason": "tool_calls"},
        {"message": {"content": None}},
        {"message": {"content": None, "refusal": "No."}},
        {"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "A"}, "B"]}},
    ],
)
def test_they_read_alike(tmp_path: Path, wire: Any, changes: dict[str, Any]) -> None:
    body = wire.chat_completion(**changes)
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 3}
    raw = json.dumps(body)
    assert imported(tmp_path, raw) == completion_of(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"logprobs": {"content": [SPOKEN | {"logprob": 1e308 * 10}]}},
        {"logprobs": {"content": [SPOKEN | {"token": 3}]}},
        {"message": {"content": [{"type": "image_url"}]}},
    ],
)
def test_neither_reads_what_could_be_mistaken(
    tmp_path: Path, wire: Any, changes: dict[str, Any]
) -> None:
    raw = json.dumps(wire.chat_completion(**changes)).replace("Infinity", "1e999")
    with pytest.raises(WireError):
        completion_of(raw)
    with pytest.raises(DataError, match="nothing that can be imported"):
        imported(tmp_path, raw)
