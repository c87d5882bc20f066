"""How servers spell tokens, and what is made of each way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toy_tokens import END, ToyTokens, aligned, masses

from overproof.records.exchange import TokenLogprob, TopLogprob
from overproof.train.lm.alignment import Ends, align, place
from overproof.train.lm.teacher_text import TeacherText, TeacherToken, told

ENDS = frozenset({"<|im_end|>"})
BYTES = ToyTokens([bytes([i]) for i in range(256)])


def logprob(token: str, mass: float = 1.0, data: bytes | None = None, **top: float) -> TokenLogprob:
    """A token; ``top`` are alternatives by their text, itself not among them."""
    own = TopLogprob(
        token=token, logprob=math.log(mass), data=None if data is None else tuple(data)
    )
    others = [TopLogprob(token=t, logprob=math.log(m)) for t, m in top.items()]
    return TokenLogprob(token=token, logprob=own.logprob, data=own.data, top=(own, *others))


def read(tokens: list[TokenLogprob], answer: str) -> TeacherText:
    return told(tokens, answer, ENDS)


def known(text: TeacherText, answer: str) -> str:
    """The bytes of ``answer`` with what is not known as dots; "!" is a known end."""
    ids = [*BYTES.tokenize(answer.encode()), END]
    row = aligned(text, BYTES, ids)
    shown = [bytes([b]) if k else b"." for b, k in zip(answer.encode(), row.known, strict=False)]
    return (b"".join(shown) + (b"!" if row.known[-1] else b".")).decode()


def test_the_end_is_known_where_the_server_tells_of_it() -> None:
    for end in (logprob("<|im_end|>", 0.75), logprob("", 0.75, b""),
                logprob("<|im_end|>", 0.75, b"<|im_end|>")):  # fmt: skip
        text = read([logprob("ab"), end], "ab")
        row = aligned(text, BYTES, [*BYTES.tokenize(b"ab"), END])
        assert masses(row, 2) == {END: pytest.approx(0.75)}
        assert np.exp(row.tail[2]) == pytest.approx(0.25)
    assert known(read([logprob("ab")], "ab"), "ab") == "ab."


def test_the_end_as_an_alternative() -> None:
    empty = TopLogprob(token="", logprob=math.log(0.25), data=())
    token = logprob("b", 0.5).model_copy(update={"top": (empty,)})
    for given in (logprob("b", 0.5, **{"<|im_end|>": 0.25}), token):
        row = aligned(read([logprob("a"), given], "ab"), BYTES, BYTES.tokenize(b"ab"))
        assert masses(row, 1)[END] == pytest.approx(0.25)
        assert masses(row, 1)[BYTES.ids[b"b"]] == pytest.approx(0.5)


def test_a_character_in_several_tokens_with_their_bytes() -> None:
    emoji = "😀".encode()
    tokens = [logprob(" \ufffd", 0.5, b" " + emoji[:1]), logprob("\ufffd", 0.9, emoji[1:3]),
              logprob("\ufffd", 0.8, emoji[3:]), logprob("!")]  # fmt: skip
    text = read(tokens, " 😀!")
    student = ToyTokens([*BYTES.pieces, emoji])
    row = aligned(text, student, student.tokenize(" 😀!".encode()))
    assert row.known.tolist() == [True, True, True]
    assert masses(row, 0)[student.ids[b" "]] == pytest.approx(0.5)
    # The character is three tokens: what is left of the first is certain after " ".
    assert masses(row, 1)[student.ids[emoji]] == pytest.approx(0.9 * 0.8, rel=1e-2)


def test_a_character_in_several_tokens_without_their_bytes() -> None:
    tokens = [logprob(t) for t in ("a", " \ufffd", "\ufffd", "b c", "\ufffd", "d")]
    text = read(tokens, "a 😀b cé" + "d")
    assert text.data == "a 😀b céd".encode()
    assert known(text, "a 😀b céd") == "a.....b c..d."


def test_vllm_spells_the_parts_of_a_character_as_nothing_and_then_the_whole() -> None:
    emoji = "🧎".encode()
    empty = TopLogprob(token="", logprob=-1.0, data=())
    parts = [logprob("", 1.0, b"").model_copy(update={"top": (empty, empty)})] * 3
    text = read([logprob("a"), *parts, logprob("🧎", 0.5, emoji), logprob("b", 0.5)], "a🧎b")
    assert text.data == b"a" + emoji + b"b"
    assert known(text, "a🧎b") == "a....b."


def test_llama_cpp_gives_a_whole_character_with_the_alternatives_of_its_last_part() -> None:
    emoji = "🎁".encode()
    last = TopLogprob(token="\ufffd", logprob=math.log(0.3), data=tuple(emoji[3:]))
    other = TopLogprob(token="\ufffd", logprob=math.log(0.6), data=(0x89,))
    whole = TokenLogprob(token="🎁", logprob=math.log(0.3), data=tuple(emoji), top=(other, last))
    text = read([logprob("a"), whole, logprob("b")], "a🎁b")
    ids = BYTES.tokenize("a🎁b".encode())
    row = aligned(text, BYTES, ids)
    assert row.known.tolist() == [True, False, False, False, True, True]
    assert masses(row, 4) == {
        ids[4]: pytest.approx(0.3),
        BYTES.ids[b"\x89"]: pytest.approx(0.6),
    }
    rare = whole.model_copy(update={"top": (other,)})  # beyond the alternatives
    assert known(read([logprob("a"), rare, logprob("b")], "a🎁b"), "a🎁b") == "a....b."


def test_alternatives_without_bytes_are_open_not_lost() -> None:
    token = logprob("b", 0.3, **{"\ufffd": 0.4, "c": 0.2})
    row = aligned(read([token], "b"), BYTES, BYTES.tokenize(b"b"))
    assert masses(row, 0) == {
        BYTES.ids[b"b"]: pytest.approx(0.3),
        BYTES.ids[b"c"]: pytest.approx(0.2),
    }
    assert np.exp(row.tail[0]) == pytest.approx(0.5)
    mostly = logprob("b", 0.3, **{"\ufffd": 0.6})
    assert known(read([mostly], "b"), "b") == ".."


@pytest.mark.parametrize(
    ("tokens", "answer", "shown", "parted"),
    [
        (["\n ", "Hi", " you"], "Hi you", "Hi you.", 0),  # trimmed before
        ([" Hi", " you"], "Hi you", "Hi you.", 0),  # inside a token
        (["Hi", " you \n"], "Hi you", "Hi you.", 0),  # behind: the end is not the teacher's
        (["so, think", "\n\n", "Hi", " you"], "Hi you", "Hi you.", 0),  # reasoning before
        (["Hi", " me"], "Hi you", "Hi ....", 4),  # another text
        (["Hi"], "Hi you", "Hi.....", 5),  # cut off
        (["Hello"], "Hi", "H..", 2),
    ],
)
def test_answers_that_are_not_what_was_generated(
    tokens: list[str], answer: str, shown: str, parted: int
) -> None:
    text = read([logprob(t, 0.9) for t in tokens], answer)
    assert known(text, answer) == shown
    ids = [*BYTES.tokenize(answer.encode()), END]
    assert align(text, ids, BYTES, end=END, k=4, ends=Ends()).parted == parted


def test_a_trimmed_blank_is_said_already() -> None:
    text = read([logprob(" Hi", 0.4, **{" Ho": 0.4, "Ha": 0.2})], "Hi")
    row = aligned(text, BYTES, BYTES.tokenize(b"Hi"))
    assert masses(row, 0)[BYTES.ids[b"H"]] == pytest.approx(1.0)
    assert masses(row, 1) == {
        BYTES.ids[b"i"]: pytest.approx(0.5),
        BYTES.ids[b"o"]: pytest.approx(0.5),
    }


def test_a_space_that_the_students_tokenizer_puts_before_the_answer() -> None:
    student = ToyTokens([b" Hi", b" Ho", b"Hi", *BYTES.pieces])
    text = read([logprob("Hi", 0.6, Ho=0.3)], "Hi")
    row = aligned(text, student, [student.ids[b" Hi"]])
    assert masses(row, 0) == {
        student.ids[b" Hi"]: pytest.approx(0.6),
        student.ids[b" Ho"]: pytest.approx(0.3),
    }


def test_what_a_template_puts_before_the_answer_is_not_known() -> None:
    text = read([logprob("Hi"), logprob("<|im_end|>")], "Hi")
    said = b"<think>\n\n</think>\n\nHi"
    ids = [*BYTES.tokenize(said), END]
    placed = place(text, ids, BYTES, END, "Hi")
    row = align(text, ids, BYTES, end=END, k=4, ends=Ends(), placed=placed).row
    assert row.known.tolist() == [False] * (len(said) - 2) + [True] * 3
    assert placed.parted == 0


def test_numbers_that_are_no_probabilities_are_not_believed() -> None:
    broken = TokenLogprob(
        token="a",
        logprob=-0.1,
        top=(TopLogprob(token="a", logprob=-0.1), TopLogprob(token="b", logprob=-0.1)),
    )
    assert known(read([broken, logprob("b")], "ab"), "ab") == ".b."
    slightly = logprob("a", 0.6, b=0.405)  # rounding
    row = aligned(read([slightly], "a"), BYTES, BYTES.tokenize(b"a"))
    assert sum(masses(row, 0).values()) == pytest.approx(1.0, abs=1e-6)


def test_a_token_outside_of_the_alternatives_and_no_alternatives_at_all() -> None:
    rare = TokenLogprob(
        token="z", logprob=math.log(0.01), top=(TopLogprob(token="a", logprob=math.log(0.9)),)
    )
    alone = TokenLogprob(token="b", logprob=math.log(0.7))
    row = aligned(read([rare, alone], "zb"), BYTES, BYTES.tokenize(b"zb"))
    assert masses(row, 0) == {
        BYTES.ids[b"z"]: pytest.approx(0.01),
        BYTES.ids[b"a"]: pytest.approx(0.9),
    }
    assert masses(row, 1) == {BYTES.ids[b"b"]: pytest.approx(0.7)}
    impossible = TokenLogprob(token="b", logprob=-9999.0, top=())
    row = aligned(read([impossible], "b"), BYTES, BYTES.tokenize(b"b"))
    assert masses(row, 0) == {}
    assert row.tail[0] == 0.0


def test_only_the_likeliest_are_kept_and_the_others_join_the_tail() -> None:
    token = logprob("a", 0.1, b=0.4, c=0.3, d=0.15)
    ids = BYTES.tokenize(b"a")
    row = align(read([token], "a"), ids, BYTES, end=END, k=2, ends=Ends()).row
    # What was written is always among them.
    assert masses(row, 0) == {BYTES.ids[b"b"]: pytest.approx(0.4), ids[0]: pytest.approx(0.1)}
    assert np.exp(row.tail[0]) == pytest.approx(0.5)


def test_an_empty_answer_and_no_tokens() -> None:
    assert known(TeacherText.of([]), "") == "."
    assert known(read([logprob("<|im_end|>")], ""), "") == "!"
    assert TeacherToken(b"a", 0.5, ((b"b", 0.7),)).rest == 0.0
