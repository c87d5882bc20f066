from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tiny_lm import write_tiny_lm

from overproof.clients.local_rows import Row
from overproof.clients.local_stream import TextPiece, _Listener, said_tokens, stream_of
from overproof.clients.local_weights import LocalTeacher
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
)


def row_of(stop: tuple[str, ...] = ()) -> Row:
    request = Request(model="m", messages=(), parameters=Parameters(stop=stop))
    return Row(request, [1], 10, 0, lambda: False, lambda _: None)


def heard(
    tokens: list[bytes], stop: tuple[str, ...] = (), text: str | None = None
) -> list[tuple[str, int]]:
    """What is told as tokens come, and the rest once the answer is whole: text, log-probs.

    The last of the tokens ends the answer, and nobody hears of it before.
    """
    told: list[TextPiece] = []
    listener = _Listener(stop, told.append)
    row = row_of(stop)
    for number, token in enumerate(tokens):
        row.tokens.append(number)
        row.said += token
        row.logprobs.append(TokenLogprob(token="t", logprob=-1.0, data=tuple(token)))
        if number < len(tokens) - 1:
            listener.hear(row)
    whole = row.said.decode("utf-8", "replace") if text is None else text
    told.append(
        listener.rest_of(
            Completion(outcome=Outcome.ANSWERED, text=whole, logprobs=tuple(row.logprobs))
        )
    )
    return [(piece.text, len(piece.logprobs)) for piece in told]


def test_a_character_is_told_whole() -> None:
    tokens = [b"a", "é".encode()[:1], "é".encode()[1:], "青".encode()[:2], "青".encode()[2:] + b"b"]
    assert heard(tokens) == [("a", 1), ("", 1), ("é", 1), ("", 1), ("青b", 1)]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    told = heard([b"one", b" S", b"T", b"AY", b" ST", b"OP!"], ("STOP",), "one STAY ")
    assert told[:3] == [("one", 1), (" ", 1), ("STAY", 2)]
    assert "".join(text for text, _ in told) == "one STAY "
    assert sum(n for _, n in told) == 5  # the tokens of the stop string alone are left out


def test_an_answer_begun_anew_is_not_told_twice() -> None:
    told: list[TextPiece] = []
    listener = _Listener((), told.append)
    for _ in range(2):
        row = row_of()
        for number, token in enumerate((b"a", b"b")):
            row.tokens.append(number)
            row.said += token
            listener.hear(row)
    assert [piece.text for piece in told] == ["a", "b"]


def test_half_a_character_of_an_unknown_spelling_is_held_back() -> None:
    told: list[TextPiece] = []
    listener = _Listener((), told.append)
    row = row_of()
    for number, text in enumerate(("x", "x\ufffd", "xé")):
        row.tokens.append(number)
        row.said = bytearray(text.encode())
        listener.hear(row)
    assert [piece.text for piece in told] == ["x", "é"]


def test_the_end_of_turn_is_no_part_of_the_text() -> None:
    tokens = tuple(
        TokenLogprob(token=t, logprob=-1.0, data=tuple(d))
        for t, d in (("a", b"a"), ("b", b"b"), ("<|end|>", b""))
    )
    answer = Completion(outcome=Outcome.ANSWERED, text="ab", logprobs=tokens)
    assert [token.token for token in said_tokens(answer)] == ["a", "b"]
    assert said_tokens(answer.model_copy(update={"text": "", "logprobs": None})) == ()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("models") / "tiny-lm")


def ask(**parameters: object) -> Request:
    wanted = {"max_tokens": 16, "temperature": 1.0, "top_logprobs": 1} | parameters
    messages = (Message(role="user", content="The sky"),)
    return Request(model="m", messages=messages, parameters=Parameters.model_validate(wanted))


@pytest.mark.slow
async def test_a_stream_says_what_the_whole_answer_says(weights: Path) -> None:
    config = TeacherConfig(kind="local", model=str(weights), device="cpu", concurrency=4)
    async with LocalTeacher(config) as teacher:
        for seed in range(3):
            request = ask(seed=seed, stop=("a", "bc") if seed % 2 else ())
            whole = await teacher.complete(request)
            pieces = [piece async for piece in stream_of(teacher, request)]
            *told, last = pieces
            assert isinstance(last, Completion)
            assert last.text == whole.text
            texts = [piece for piece in told if isinstance(piece, TextPiece)]
            assert len(texts) == len(told)
            assert "".join(piece.text for piece in texts) == whole.text
            streamed = tuple(token for piece in texts for token in piece.logprobs)
            assert [t.token for t in streamed] == [t.token for t in said_tokens(last)]
            assert last.logprobs == whole.logprobs


@pytest.mark.slow
async def test_a_stream_that_is_left_ends_the_generation(weights: Path) -> None:
    config = TeacherConfig(kind="local", model=str(weights), device="cpu", concurrency=1)
    async with LocalTeacher(config) as teacher:
        request = ask(max_tokens=480, top_logprobs=None)
        loops = request.model_copy(update={"messages": (Message(role="user", content="x"),)})
        stream = stream_of(teacher, loops)
        await anext(stream)
        await stream.aclose()
        # The next one is answered without waiting for 480 tokens of the first.
        answer = await asyncio.wait_for(teacher.complete(ask(max_tokens=1)), 5)
        assert answer.usage is not None
        assert answer.usage.output_tokens == 1
