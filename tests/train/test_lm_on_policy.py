"""On-policy distillation: the student's own text, judged by the teacher wherever it is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny_students import (
    chats_of,
    configured,
    load_model,
    rows_of_exchanges,
    student_of,
    write_model,
)

from overproof.clients.local_weights import LocalTeacher
from overproof.clients.protocol import Capabilities
from overproof.config.teacher import TeacherConfig
from overproof.errors import CapabilityError, DataError, TeacherError
from overproof.records.exchange import Completion, Outcome, TokenLogprob, TopLogprob
from overproof.train.lm.methods.build import build_method
from overproof.train.lm.parts import IGNORED
from overproof.train.lm.server_scorer import ServerScorer, answer_tokens

ALL = {"chat_index": torch.arange(5)}


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    home = tmp_path_factory.mktemp("on_policy")
    return (
        write_model(home / "student", layers=1),
        write_model(home / "teacher", layers=2, seed=1),
    )


@pytest.fixture
def student(homes):
    return load_model(homes[0])


@pytest.fixture
def teacher(homes):
    return load_model(homes[1])


def _built(model, *, teacher=None, scorer=None, seed=0, rows=(), **more):
    config = configured("on_policy", **{"start": "sft", "rollout_tokens": 8, **more})
    return build_method(
        config, student_of(model), teacher=teacher, scorer=scorer, chats=chats_of(model),
        seed=seed, rows=rows,
    )  # fmt: skip


def _answers(batch):
    return [
        row[labels != IGNORED].tolist()
        for row, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]


def test_a_step_is_what_the_student_says_to_the_prompts(student, teacher):
    method = _built(student, teacher=teacher)
    batch = method.prepare(student.module, ALL, 0)
    chats = chats_of(student)
    for row, chat in enumerate(chats):
        prompt = batch["input_ids"][row, : chat.n_prompt]
        assert tuple(prompt.tolist()) == chat.ids[: chat.n_prompt]
        assert (batch["labels"][row, : chat.n_prompt] == IGNORED).all()
        said = _answers(batch)[row]
        assert 1 <= len(said) <= 8
        assert int(batch["attention_mask"][row].sum()) == chat.n_prompt + len(said)
    assert _answers(batch) != [list(chat.ids[chat.n_prompt :]) for chat in chats]


def test_rollouts_depend_on_seed_step_and_chat_alone(student, teacher):
    method = _built(student, teacher=teacher)
    batch = method.prepare(student.module, ALL, 4)
    torch.manual_seed(99)
    again = _built(student, teacher=teacher).prepare(student.module, ALL, 4)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    part = method.prepare(student.module, {"chat_index": torch.tensor([3, 1])}, 4)
    assert _answers(part) == [_answers(batch)[3], _answers(batch)[1]]
    assert _answers(method.prepare(student.module, ALL, 5)) != _answers(batch)
    other = _built(student, teacher=teacher, seed=1)
    assert _answers(other.prepare(student.module, ALL, 4)) != _answers(batch)


def test_a_share_of_the_prompts_keeps_the_teachers_text(student, teacher):
    own = [list(chat.ids[chat.n_prompt :]) for chat in chats_of(student)]
    never = _built(student, teacher=teacher, on_policy_share=0.0, rollout_tokens=3)
    assert _answers(never.prepare(student.module, ALL, 0)) == own
    half = _built(student, teacher=teacher, on_policy_share=0.5, rollout_tokens=3)
    kept = sum(
        answer == mine
        for step in range(60)
        for answer, mine in zip(_answers(half.prepare(student.module, ALL, step)), own, strict=True)
    )
    assert abs(kept - 150) < 4 * math.sqrt(300 * 0.25)


def test_an_answer_stays_within_the_context(student, teacher):
    longest = max(len(chat.ids) for chat in chats_of(student))
    small = dataclasses.replace(teacher, context=longest)
    method = _built(student, teacher=small, rollout_tokens=60)
    filled = [
        n
        for step in range(3)
        for n in method.prepare(student.module, ALL, step)["attention_mask"].sum(-1).tolist()
    ]
    assert max(filled) == longest


def test_the_loss_is_the_divergence_at_every_token_that_was_said(student, teacher):
    method = _built(student, teacher=teacher, temperature=1.3)
    batch = method.prepare(student.module, ALL, 0)
    loss = method.loss(student.module, batch)
    wanted = 0.0
    for row, chat in enumerate(chats_of(student)):
        n = int(batch["attention_mask"][row].sum())
        ids = batch["input_ids"][row : row + 1, :n]
        with torch.no_grad():
            q, p = (
                torch.log_softmax(
                    m.module(ids).logits[0, chat.n_prompt - 1 : -1].double() / 1.3, -1
                )
                for m in (student, teacher)
            )
        wanted += float((q.exp() * (q - p)).sum()) * 1.3**2
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-4)


def _reverse_kl(student, teacher):
    """Mean reverse KL a token of what the student writes, at steps that were not trained on."""
    method = _built(student, teacher=teacher)
    total = count = 0.0
    with torch.no_grad():
        for step in range(1000, 1004):
            batch = method.prepare(student.module, ALL, step)
            total += float(method.loss(student.module, batch))
            count += int((batch["labels"] != IGNORED).sum())
    return total / count


def test_a_few_steps_bring_the_student_to_its_teacher(student, teacher):
    before = _reverse_kl(student, teacher)
    method = _built(student, teacher=teacher)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=3e-3)
    student.module.train()
    for step in range(20):
        batch = method.prepare(student.module, ALL, step)
        assert student.module.training
        loss = method.loss(student.module, batch) / int((batch["labels"] != IGNORED).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert _reverse_kl(student, teacher) < 0.75 * before


def _server(home, **more):
    return LocalTeacher(
        TeacherConfig(kind="local", model=str(home), device="cpu", concurrency=8), **more
    )


def _logprobs(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model.module(torch.tensor([ids])).logits[0].double(), -1)


@pytest.mark.parametrize("ended", [True, False])
def test_a_server_with_prompt_logprobs_says_what_the_weights_say(student, teacher, homes, ended):
    """The same vocabulary: what is listed is the teacher's own, and the rest is one bucket."""
    chats = [chat for chat in chats_of(student) if ended or chat.n_answer > 1]
    if not ended:  # rollouts that reached their limit
        chats = [dataclasses.replace(chat, ids=chat.ids[:-1]) for chat in chats]
    with _scorer(student, _server(homes[1])) as scorer:
        scores = scorer.score(chats)
        assert [s.ids.tolist() for s in scorer.score(chats)] == [s.ids.tolist() for s in scores]
    closest = []
    for chat, score in zip(chats, scores, strict=True):
        logprobs = _logprobs(teacher, chat.ids)
        assert score.known.all()
        mass = torch.from_numpy(score.logprobs).double().exp().sum(-1)
        mass += torch.from_numpy(score.tail).double().exp()
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-4)
        for a in range(chat.n_answer):
            theirs = logprobs[chat.n_prompt - 1 + a]
            used = score.logprobs[a] > -math.inf
            ids = torch.from_numpy(score.ids[a][used]).long()
            found = torch.from_numpy(score.logprobs[a][used]).double()
            # Besides the likeliest, a server tells of the token that stands there.
            told = {*theirs.topk(20).indices.tolist(), chat.ids[chat.n_prompt + a]}
            assert set(ids.tolist()) <= told
            closest += (found - theirs[ids]).abs().tolist()
    # Tokens that a longer one could swallow give up a share of their mass; most are exact.
    assert sorted(closest)[len(closest) // 2] < 1e-4


def test_the_place_after_the_answer_tells_whether_the_teacher_would_stop(student, teacher, homes):
    chats = chats_of(student)[2:4]
    with _scorer(student, _server(homes[1]), k=200) as scorer:
        scores = scorer.score(chats)
    for chat, score in zip(chats, scores, strict=True):
        at_end = dict(zip(score.ids[-1].tolist(), score.logprobs[-1].tolist(), strict=True))
        theirs = _logprobs(teacher, chat.ids)[-2]
        if 260 in theirs.topk(200).indices.tolist():
            assert at_end[260] == pytest.approx(float(theirs[260]), abs=1e-4)


def test_text_that_is_no_text_is_not_known_from_there_on(student, homes):
    chat = chats_of(student)[0]
    half = student.chat.ids("\u00e9")[0]  # the first byte of two
    ids = (*chat.ids[: chat.n_prompt], *student.chat.ids("bee"), half, *student.chat.ids("bee"))
    odd = dataclasses.replace(chat, ids=ids)
    special = dataclasses.replace(chat, ids=(*ids[:-4], 261, *ids[-3:]))
    with _scorer(student, _server(homes[1])) as scorer:
        for score in scorer.score([odd, special]):
            known = score.known.tolist()
            assert known[:2] == [True, True]
            assert not any(known[3:])


def test_a_step_scored_by_a_server_is_learned_where_it_is_known(student, homes):
    with _scorer(student, _server(homes[1])) as scorer:
        method = _built(student, scorer=scorer, on_policy_share=0.5)
        batch = method.prepare(student.module, ALL, 0)
    assert torch.equal(batch["labels"] != IGNORED, batch["teacher_known"])
    loss = method.loss(student.module, batch)
    loss.backward()
    assert float(loss.detach()) > 0
    assert any(float(p.grad.abs().max()) > 0 for p in student.module.parameters())


class _Stub:
    """A teacher's client that says one thing."""

    name = model = "stub"

    def __init__(self, completion=None, **able):
        self.capabilities = Capabilities(
            **{"prompt_logprobs": True, "assistant_prefill": True, **able}
        )
        self._completion = completion
        self.opened = self.closed = 0
        self.asked = []

    async def __aenter__(self):
        self.opened += 1
        return self

    async def __aexit__(self, *_):
        self.closed += 1

    async def complete(self, request, meter=None):
        self.asked.append(request)
        return self._completion


def _scorer(student, stub, k=20):
    return ServerScorer(stub, student_of(student), rows_of_exchanges(), k=k)


def test_what_the_server_is_asked(student):
    stub = _Stub(Completion(outcome=Outcome.TRUNCATED, prompt_logprobs=(None,)), top_logprobs=5)
    scorer = _scorer(student, stub)
    scores = scorer.score(chats_of(student))
    assert [len(score.known) for score in scores] == [c.n_answer for c in chats_of(student)]
    assert not any(score.known.any() for score in scores)
    first, nothing = stub.asked[0], stub.asked[3]
    assert [m.role for m in first.messages] == ["user", "assistant"]
    assert first.messages[-1].content == "a bee is a fly"
    assert [m.role for m in nothing.messages] == ["user"]  # an answer of nothing but its end
    assert (first.parameters.max_tokens, first.parameters.prompt_logprobs) == (1, 5)
    assert first.parameters.top_logprobs == 5
    scorer.close()
    assert (stub.opened, stub.closed) == (1, 1)


def test_the_connection_is_closed_with_the_scorer(student):
    stub = _Stub(Completion(outcome=Outcome.TRUNCATED, prompt_logprobs=(None,)))
    scorer = _scorer(student, stub)
    scorer.score(chats_of(student)[:1])
    assert (stub.opened, stub.closed) == (1, 0)
    del scorer
    assert stub.closed == 1


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        (Completion(outcome=Outcome.FAILED, error="HTTP 500"), "HTTP 500"),
        (Completion(outcome=Outcome.FILTERED, finish_reason="content_filter"), "content_filter"),
        (Completion(outcome=Outcome.TRUNCATED), "without prompt_logprobs"),
    ],
)
def test_a_score_that_did_not_come_is_an_error_and_not_a_score(student, completion, said):
    with _scorer(student, _Stub(completion)) as scorer, pytest.raises(TeacherError, match=said):
        scorer.score(chats_of(student))


def test_a_server_that_matches_nothing_stops_the_run(student):
    stub = _Stub(Completion(outcome=Outcome.TRUNCATED, prompt_logprobs=(None,)))
    with _scorer(student, stub) as scorer:
        method = _built(student, scorer=scorer)
        with pytest.raises(TeacherError, match="nothing that could be matched"):
            method.prepare(student.module, ALL, 0)


@pytest.mark.parametrize("lacking", ["prompt_logprobs", "assistant_prefill"])
def test_a_server_that_cannot_score_is_refused_before_it_is_asked(student, lacking):
    stub = _Stub(**{lacking: False})
    with _scorer(student, stub) as scorer, pytest.raises(CapabilityError, match="cannot score"):
        scorer.score(chats_of(student))
    assert stub.asked == []


def test_a_server_needs_the_messages(student):
    with pytest.raises(DataError, match="training rows were not handed over"):
        _built(student, scorer=_Stub())


def _token(text, data=None):
    return TokenLogprob(
        token=text, logprob=-1.0, data=data, top=(TopLogprob(token=text, logprob=-1.0),)
    )


def test_the_answers_tokens_are_found_at_the_end_of_the_prompt():
    prompt = [None, _token("<|user|>"), _token("a bee"), _token("<|assistant|>")]
    said = [_token("a"), _token(" bee")]
    assert answer_tokens([*prompt, *said], "a bee") == said
    merged = [*prompt[:-1], _token("\na"), _token(" bee")]
    assert answer_tokens(merged, "a bee") == merged[-2:]
    lost = [_token("\ufffd"), _token("\ufffd"), _token("!")]
    assert answer_tokens([*prompt, _token("oh "), *lost], "oh \u00e9!") == [_token("oh "), *lost]
    assert answer_tokens([*prompt, *said], "another") == []
    assert answer_tokens([None], "a") == []
