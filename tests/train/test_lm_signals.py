"""The signal of a student: from a ledger's log-probs, and from a local teacher's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lm import TEMPLATE, write_tiny_lm

from overproof.clients.local_model import LocalModel, Source, load
from overproof.config.teacher import TeacherConfig
from overproof.errors import CapabilityError, DataError, ModelError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Request,
    TokenLogprob,
    TopLogprob,
)
from overproof.records.logprob_store import LogprobStore
from overproof.train.lm import scoring
from overproof.train.lm.chats import tokenize_chats
from overproof.train.lm.ledger_signal import signal_from_ledger
from overproof.train.lm.parts import TokenizedChat
from overproof.train.lm.scoring import drawn, likeliest, signal_from_weights

ANSWERS = ("the bat", "a then b", "hé 😀 the", "b", "the end of all that", "")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    place = write_tiny_lm(tmp_path_factory.mktemp("teacher"))
    return load(Source("tiny", str(place)), TeacherConfig(kind="local", model=str(place)))


@pytest.fixture(scope="module")
def coarse(teacher: LocalModel) -> Any:
    """A tokenizer of another vocabulary: longer pieces, other ids, another template."""
    return tokenizer_of(
        ["Ġ", "t", "h", "e", "a"], [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "t")]
    )


def tokenizer_of(first: Sequence[str], merges: Sequence[tuple[str, str]]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = [*first, *sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(first))]
    pieces = [*alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(BPE({piece: i for i, piece in enumerate(pieces)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    fast.chat_template = TEMPLATE.replace("<|end|>", "<|im_end|>")
    return fast


def rows_of(answers: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"say {i}"},
                {"role": "assistant", "content": a},
            ],
            "outcome": "answered",
            "item": str(i),
            "sample": 0,
            "request_keys": [f"earlier {i}", f"key {i}"],
        }
        for i, a in enumerate(answers)
    ]


def chats_of(tokenizer: Any, answers: Sequence[str] = ANSWERS) -> list[TokenizedChat]:
    end = tokenizer.eos_token_id
    return tokenize_chats(rows_of(answers), tokenizer, end=end, max_length=200).chats


def exchange(answer: str, logprobs: tuple[TokenLogprob, ...] | None) -> Exchange:
    return Exchange(
        request=Request(model="t", messages=(Message(role="user", content="?"),)),
        completion=Completion(outcome=Outcome.ANSWERED, text=answer, logprobs=logprobs),
        teacher="t",
        created_at="2026-01-01T00:00:00Z",
    )


def by_letter(answer: str) -> tuple[TokenLogprob, ...]:
    """Letter by letter: each with probability 0.6 and "z" with 0.3."""
    own = math.log(0.6)
    return tuple(
        TokenLogprob(
            token=c, logprob=own,
            top=(TopLogprob(token=c, logprob=own), TopLogprob(token="z", logprob=math.log(0.3))),
        )
        for c in answer
    )  # fmt: skip


def from_ledger(
    exchanges: Callable[[str], Exchange | None], tokenizer: Any, out: Path, k: int = 4
) -> tuple[LogprobStore, Any]:
    chats = chats_of(tokenizer)
    answers = [ANSWERS[chat.row] for chat in chats]
    return signal_from_ledger(
        exchanges, chats, answers, tokenizer, tokenizer.eos_token_id, out, k=k
    )


# From the ledger


def test_log_probs_of_the_ledger_come_out_in_the_students_tokens(
    tmp_path: Path, coarse: Any
) -> None:
    known = {f"key {i}": exchange(a, by_letter(a)) for i, a in enumerate(ANSWERS[:4])}
    store, report = from_ledger(known.get, coarse, tmp_path / "s")
    chats = chats_of(coarse)
    assert len(store) == len(chats)
    assert [len(store.read(i).ids) for i in range(len(chats))] == [c.n_answer for c in chats]
    assert (report.chats, report.without) == (len(chats), len(chats) - 4)
    assert report.known == sum(int(store.read(i).known.sum()) for i in range(len(chats)))
    assert 0 < report.known_share < 1
    assert report.kept + report.tail == pytest.approx(1.0, abs=1e-3)
    row = store.read(3)  # "b", then an end of which nobody told
    assert row.known.tolist() == [True, False]
    b, z = coarse.convert_tokens_to_ids(["b", "z"])
    assert row.ids[0, :2].tolist() == [b, z]
    assert np.exp(row.logprobs[0, :2]) == pytest.approx([0.6, 0.3], abs=0.01)
    assert "answer tokens" in str(report)


def test_a_store_of_the_same_is_used_again_and_one_of_other_things_is_not(
    tmp_path: Path, coarse: Any
) -> None:
    asked: list[str] = []

    def lookup(key: str) -> Exchange | None:
        asked.append(key)
        i = int(key.removeprefix("key "))
        return exchange(ANSWERS[i], by_letter(ANSWERS[i]))

    out = tmp_path / "s"
    _, first = from_ledger(lookup, coarse, out)
    n = len(asked)
    _, again = from_ledger(lookup, coarse, out)
    assert len(asked) == n
    assert again == first.model_copy(update={"reused": True})
    _, other = from_ledger(lookup, coarse, out, k=2)
    assert len(asked) > n
    assert not other.reused
    n = len(asked)
    (out / "00000.bin").write_bytes(b"")  # damaged: made again
    store, made = from_ledger(lookup, coarse, out, k=2)
    assert len(asked) > n
    assert not made.reused
    store.verify()


def test_without_log_probs_there_is_nothing_to_learn_from(tmp_path: Path, coarse: Any) -> None:
    for lookup in (lambda _key: None, lambda _key: exchange("b", None)):
        with pytest.raises(DataError, match="came with log-probs") as raised:
            from_ledger(lookup, coarse, tmp_path / "s")
        assert "task.top_logprobs" in raised.value.way_out
    with pytest.raises(DataError, match="spell other texts"):
        from_ledger(lambda _key: exchange("?", by_letter("?????")), coarse, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


# From weights


def dense(teacher: LocalModel, ids: Sequence[int], n_prompt: int) -> np.ndarray:
    """What the model thinks of each answer token, by a plain pass."""
    with torch.inference_mode():
        logits = teacher.module(torch.tensor([list(ids)])).logits[0].double()
    return torch.log_softmax(logits, -1)[n_prompt - 1 : len(ids) - 1].numpy()


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_the_likeliest_tokens_are_the_models_own(
    tmp_path: Path, teacher: LocalModel, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "LOGITS_BYTES", 8 * 300 * 3)  # three tokens at a time
    tokenizer = teacher.chat.tokenizer
    chats = chats_of(tokenizer)
    shares: list[float] = []
    store, report = signal_from_weights(
        teacher, chats, tokenizer, tmp_path / "s", k=5, seed=0, batch_tokens=batch_tokens,
        progress=shares.append,
    )  # fmt: skip
    assert (report.known_share, report.without, report.aligned) == (1.0, 0, False)
    assert shares[-1] == 1.0
    for i, chat in enumerate(chats):
        expected = dense(teacher, chat.ids, chat.n_prompt)
        row = store.read(i)
        top = -np.sort(-expected, axis=1)[:, :5]
        assert row.logprobs == pytest.approx(top, abs=0.08)  # rounded to 8 bits
        assert np.exp(row.tail) == pytest.approx(1 - np.exp(top).sum(1), abs=0.02)
        own = np.take_along_axis(expected, row.ids, 1)
        assert own == pytest.approx(top, abs=1e-4)


def test_draws_depend_on_row_and_seed_alone_and_are_right_on_average(
    tmp_path: Path, teacher: LocalModel
) -> None:
    tokenizer = teacher.chat.tokenizer
    chats = chats_of(tokenizer)

    def drawn_with(name: str, chats: Sequence[TokenizedChat], **more: int) -> LogprobStore:
        settings = {"draws": 200, "seed": 1, **more}
        return signal_from_weights(teacher, chats, tokenizer, tmp_path / name, **settings)[0]  # type: ignore[arg-type]

    together, alone = drawn_with("a", chats), drawn_with("b", chats[2:3], batch_tokens=1)
    other = drawn_with("c", chats, seed=2)
    assert together.kind == "sampled"
    (row, same), different = (s.read(n) for s, n in ((together, 2), (alone, 0))), other.read(2)
    width = min(row.ids.shape[1], same.ids.shape[1])
    assert (row.ids[:, :width] == same.ids[:, :width]).all()
    assert (row.logprobs[:, :width] == same.logprobs[:, :width]).all()
    assert (row.ids[0, :5].tolist(), row.logprobs[0, :5].tolist()) != (
        different.ids[0, :5].tolist(), different.logprobs[0, :5].tolist()
    )  # fmt: skip
    expected = np.exp(dense(teacher, chats[2].ids, chats[2].n_prompt))
    for a in range(len(expected)):
        shares = np.zeros(expected.shape[1])
        used = row.logprobs[a] > -np.inf
        shares[row.ids[a][used]] = np.exp(row.logprobs[a][used])
        assert shares.sum() == pytest.approx(1.0, abs=1e-5)
        # 200 draws: 5 standard errors
        error = 5 * np.sqrt(expected[a] * (1 - expected[a]) / 200) + 1 / 200
        assert (np.abs(shares - expected[a]) < error).all()


def test_drawing_is_unbiased_where_the_likeliest_alone_are_not() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]]).repeat(20_000, 1)
    row = drawn(logits, np.random.default_rng(0).random((20_000, 4)))
    shares = np.zeros(5)
    used = row.logprobs > -np.inf
    np.add.at(shares, row.ids[used], np.exp(row.logprobs[used]) / 20_000)
    chances = torch.softmax(logits[0], -1).numpy()
    error = 4 * np.sqrt(chances * (1 - chances) / 80_000)
    assert (np.abs(shares - chances) < error).all()
    top = likeliest(logits[:1], 2)
    assert np.exp(top.tail[0]) == pytest.approx(chances[2:].sum(), rel=1e-4)


def test_a_student_of_another_vocabulary_is_told_by_bytes(
    tmp_path: Path, teacher: LocalModel, coarse: Any
) -> None:
    chats = chats_of(coarse)
    store, report = signal_from_weights(
        teacher, chats, coarse, tmp_path / "s", k=8, seed=0, rows=rows_of(ANSWERS)
    )
    assert report.aligned
    assert report.known_share > 0.5
    assert store.vocabulary == 256 + 4 + 1
    # "b" and the end are tokens of both: the teacher's own numbers.
    theirs = teacher.chat.tokenizer
    read = chats_of(theirs)[3]
    expected = np.exp(dense(teacher, read.ids, read.n_prompt))
    row = store.read(3)
    b, end = coarse.convert_tokens_to_ids(["b", "<|im_end|>"])
    assert row.known.all()
    for n, (ours, their) in enumerate(
        ((b, theirs.convert_tokens_to_ids("b")), (end, theirs.eos_token_id))
    ):
        got = dict(zip(row.ids[n].tolist(), np.exp(row.logprobs[n]).tolist(), strict=True))
        if ours in got:
            assert got[ours] == pytest.approx(expected[n, their], abs=0.01)
        else:
            assert expected[n, their] < 0.05
    with pytest.raises(CapabilityError, match="another vocabulary"):
        signal_from_weights(
            teacher, chats, coarse, tmp_path / "t", draws=8, seed=0, rows=rows_of(ANSWERS)
        )
    with pytest.raises(DataError, match="has to read the chats"):
        signal_from_weights(teacher, chats, coarse, tmp_path / "t", k=8, seed=0)


def test_a_student_with_another_template_learns_its_own_end(
    tmp_path: Path, teacher: LocalModel
) -> None:
    import copy

    tokenizer = copy.deepcopy(teacher.chat.tokenizer)
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", "<|tools|>")
    end = tokenizer.convert_tokens_to_ids("<|tools|>")
    chats = tokenize_chats(rows_of(ANSWERS), tokenizer, end=end, max_length=200).chats
    store, report = signal_from_weights(
        teacher, chats, tokenizer, tmp_path / "s", k=250, seed=0, rows=rows_of(ANSWERS)
    )
    assert not report.aligned
    read = chats_of(teacher.chat.tokenizer)[0]
    expected = dense(teacher, read.ids, read.n_prompt)[-1]
    row = store.read(0)
    place = row.ids[-1].tolist().index(end)
    assert row.logprobs[-1, place] == pytest.approx(
        expected[teacher.chat.tokenizer.eos_token_id], abs=0.1
    )


def test_chats_that_are_too_long_for_the_teacher_are_counted(
    tmp_path: Path, teacher: LocalModel
) -> None:
    from dataclasses import replace

    tokenizer = teacher.chat.tokenizer
    chats = chats_of(tokenizer)
    lengths = sorted(len(chat.ids) for chat in chats)
    short = replace(teacher, context=lengths[2])
    store, report = signal_from_weights(short, chats, tokenizer, tmp_path / "s", k=4, seed=0)
    assert report.without == len(chats) - 3
    assert [store.read(i).known.all() for i in range(len(chats))] == [
        len(chat.ids) <= lengths[2] for chat in chats
    ]
    none = replace(teacher, context=3)
    with pytest.raises(DataError, match="can read none"):
        signal_from_weights(none, chats, tokenizer, tmp_path / "t", k=4, seed=0)
    assert not (tmp_path / "t").exists()


def test_a_teacher_that_computes_no_number_is_named(tmp_path: Path, teacher: LocalModel) -> None:
    tokenizer = teacher.chat.tokenizer
    weight = teacher.module.model.norm.weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0] = math.nan
        with pytest.raises(ModelError, match="NaN"):
            signal_from_weights(
                teacher, chats_of(tokenizer), tokenizer, tmp_path / "s", k=4, seed=0
            )
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert list(tmp_path.iterdir()) == []


def test_where_memory_runs_out_fewer_chats_are_read_at_a_time(
    tmp_path: Path, teacher: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = teacher.chat.tokenizer
    chats = chats_of(tokenizer)
    whole, _ = signal_from_weights(teacher, chats, tokenizer, tmp_path / "a", k=4, seed=0)
    plainly, most = scoring.answer_hidden, 2

    def within(model: Any, batch: Any) -> Any:
        if len(batch["input_ids"]) > most:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return plainly(model, batch)

    monkeypatch.setattr(scoring, "answer_hidden", within)
    halved, _ = signal_from_weights(teacher, chats, tokenizer, tmp_path / "b", k=4, seed=0)
    for i in range(len(chats)):
        assert halved.read(i).logprobs == pytest.approx(whole.read(i).logprobs, abs=0.02)
    most = 0
    with pytest.raises(ModelError, match="not enough memory"):
        signal_from_weights(teacher, chats, tokenizer, tmp_path / "c", k=4, seed=0)
