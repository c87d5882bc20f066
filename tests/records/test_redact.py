"""Secrets reach neither the ledger's file nor a log."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.errors import SecretError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Request,
    TokenLogprob,
    TopLogprob,
)
from overproof.records.ledger import Ledger
from overproof.records.redact import Redactor

KEY = 'sk-live/4+f "Zq%9é=='
MARK = "[redacted:TEACHER_KEY]"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor({"TEACHER_KEY": KEY, "OTHER": "abcdef"})


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        quote(KEY, safe="").lower().replace("sk-live%2f4%2bf%20%22zq", "sk-live%2f4%2bf%20%22Zq"),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
    ],
)
def test_every_form_is_replaced(redactor: Redactor, form: str) -> None:
    said = redactor.text(f"before {form} after, and abcdef")
    assert said == f"before {MARK} after, and [redacted:OTHER]"


@pytest.mark.parametrize("user", ["", ":", "u:", "us:", "someone:"])
def test_basic_authorization_at_every_alignment(redactor: Redactor, user: str) -> None:
    header = base64.b64encode(f"{user}{KEY}".encode()).decode()
    said = redactor.text(f"Authorization: Basic {header}")
    assert MARK in said
    # What is left around the mark decodes to no run of the secret's characters.
    left = "".join(said.removeprefix("Authorization: Basic ").split(MARK))
    assert len(left) <= len(header) - len(KEY.encode())


def test_values_of_every_shape(redactor: Redactor) -> None:
    value = {"a": [KEY, 1, None, {"b": (KEY, True)}], KEY: 2.5}
    assert redactor.value(value) == {"a": [MARK, 1, None, {"b": [MARK, True]}], MARK: 2.5}


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(SecretError, match="SHORT") as caught:
        Redactor({"SHORT": "12345"})
    assert "12345" not in str(caught.value)
    with pytest.raises(SecretError):
        Redactor({"EMPTY": ""})


def test_without_secrets_nothing_changes() -> None:
    redactor = Redactor({})
    assert not redactor
    assert redactor.text(KEY) == KEY
    assert redactor.value([KEY]) == [KEY]


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=6, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    said = Redactor({"K": secret}).text(before + secret + after)
    # A secret may by chance be spelled by the mark and its surroundings.
    assert secret not in said.replace("[redacted:K]", "\0\0")


def exchange(text: str, completion: Completion) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=completion,
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
    )


def tokens_of(text: str) -> tuple[TokenLogprob, ...]:
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    return tuple(
        TokenLogprob(
            token=piece,
            logprob=-0.5,
            data=tuple(piece.encode()),
            top=(TopLogprob(token=piece, logprob=-0.5, data=tuple(piece.encode())),),
        )
        for piece in pieces
    )


def test_a_secret_never_reaches_the_file(tmp_path: Path, redactor: Redactor) -> None:
    path = tmp_path / "ledger.sqlite"
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    exchanges = [
        exchange("a", Completion(outcome=Outcome.FAILED, error=f"401: header {KEY!r}: {KEY}")),
        exchange("b", Completion(outcome=Outcome.FAILED, error=f"echo: Basic {basic}")),
        exchange("c", Completion(outcome=Outcome.ANSWERED, text=f"your key is {KEY}.")),
        exchange(f"my key is {KEY}", Completion(outcome=Outcome.ANSWERED, text="thanks")),
        exchange(
            "d",
            Completion(
                outcome=Outcome.ANSWERED,
                text=f"it is {KEY}, I say",
                logprobs=tokens_of(f"it is {KEY}, I say"),
            ),
        ),
    ]
    with Ledger.open(path, write=True, redactor=redactor) as ledger:
        for item in exchanges:
            ledger.submit(item).result()
        ledger.note("look", {"said": KEY})
        ledger.submit(exchange("e", Completion(outcome=Outcome.ANSWERED, text="x")))
        ledger.erase(exchange("e", exchanges[0].completion).request.key, f"because of {KEY}")
        # A request that held the secret is found under the key of what was really asked.
        found = ledger.lookup(exchanges[3].request.key)
        assert found is not None
        assert found.request.messages[0].content == f"my key is {MARK}"
        assert ledger.verify().ok
        spelled = ledger.lookup(exchanges[4].request.key)
        assert spelled is not None
        assert spelled.completion.logprobs is not None
        text = "".join(token.token for token in spelled.completion.logprobs)
        assert text.startswith("it is ")
        assert text.endswith(" say")
        assert MARK in text
        for file in path.parent.glob("ledger.sqlite*"):
            data = file.read_bytes()
            for part in (KEY[:9], KEY[3:12], json.dumps(KEY)[1:-1], basic[8:24], "Zq%9"):
                assert part.encode() not in data, (file.name, part)
            for at in range(len(KEY) - 3):
                piece = ",".join(str(byte) for byte in KEY[at : at + 3].encode())
                assert f"[{piece}]".encode() not in data


def test_a_pending_answer_is_seen_as_it_will_be_stored(tmp_path: Path, redactor: Redactor) -> None:
    item = exchange("a", Completion(outcome=Outcome.ANSWERED, text=KEY))
    with Ledger.open(tmp_path / "l.sqlite", write=True, redactor=redactor) as ledger:
        future = ledger.submit(item)
        first = ledger.lookup(item.request.key)
        future.result()
        assert first == ledger.lookup(item.request.key)
        assert first is not None
        assert first.completion.text == MARK
