from __future__ import annotations

import math
from collections import Counter

from overproof.clients.connect import connect
from overproof.clients.fake import END, FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.config.recipe import TeacherConfig
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request

OPTIONS = "Which?\nA. abbreviation\nB. place\nC. person\nAnswer with one letter."


def ask(text: str, *, prefill: str = "", sample: int = 0, **parameters: object) -> Request:
    messages = [Message(role="system", content=OPTIONS), Message(role="user", content=text)]
    if prefill:
        messages.append(Message(role="assistant", content=prefill))
    wanted = {"max_tokens": 8, "temperature": 0.0} | parameters
    return Request(
        model="fake",
        messages=tuple(messages),
        parameters=Parameters.model_validate(wanted),
        sample=sample,
    )


async def test_it_answers_an_option_the_same_every_time() -> None:
    teacher = connect(TeacherConfig(kind="fake", model="fake"))
    async with teacher:
        answers = [await teacher.complete(ask("Where is the river?")) for _ in range(3)]
    assert answers[0].outcome is Outcome.ANSWERED
    assert answers[0].text in ("A", "B", "C")
    assert len({answer.model_dump_json() for answer in answers}) == 1


async def test_its_logprobs_are_its_distribution() -> None:
    teacher = FakeTeacher()
    request = ask("Where is the long river?", top_logprobs=20)
    truth = teacher.distribution(request)
    answer = await teacher.complete(request)
    assert answer.logprobs is not None
    first = {t.token: math.exp(t.logprob) for t in answer.logprobs[0].top}
    mass = sum(first[label] for label in truth)
    assert mass < sum(first.values()) <= 1 + 1e-12
    for label, probability in truth.items():
        assert math.isclose(first[label] / mass, probability)
    assert answer.text == max(truth, key=lambda label: truth[label])


async def test_whole_labels_are_spoken_along_their_pieces() -> None:
    labels = ("place name", "place on a map", "person")
    teacher = FakeTeacher(labels=labels)
    assert await teacher.tokenize("place on") == [b"place", b" on"]
    request = ask("Who or where?", top_logprobs=5)
    truth = teacher.distribution(request)
    after = await teacher.complete(ask("Who or where?", prefill="place", top_logprobs=5))
    assert after.logprobs is not None
    branch = {t.token: math.exp(t.logprob) for t in after.logprobs[0].top}
    ratio = truth["place name"] / (truth["place name"] + truth["place on a map"])
    assert math.isclose(branch[" name"] / (branch[" name"] + branch[" on"]), ratio)
    whole = await teacher.complete(request)
    assert whole.text in labels
    assert whole.logprobs is not None
    assert whole.logprobs[-1].token == END


async def test_it_keeps_to_its_limits() -> None:
    teacher = FakeTeacher(labels=("one two three", "four five six"))
    cut = await teacher.complete(ask("x", max_tokens=1))
    assert (cut.outcome, cut.finish_reason) == (Outcome.TRUNCATED, "length")
    assert cut.logprobs is None
    blind = FakeTeacher(capabilities=Capabilities())
    assert (await blind.complete(ask("x", top_logprobs=5))).logprobs is None
    assert await blind.tokenize("x") is None


async def test_samples_follow_the_distribution() -> None:
    teacher = FakeTeacher(labels=("A", "B"))
    request = ask("one", temperature=1.0)
    truth = teacher.distribution(request)
    said = Counter(
        [(await teacher.complete(ask("one", temperature=1.0, sample=n))).text for n in range(400)]
    )
    share = said["A"] / (said["A"] + said["B"])
    assert abs(share - truth["A"]) < 0.1


async def test_any_answer_can_be_given() -> None:
    refused = Completion(outcome=Outcome.REFUSED, text="no")
    teacher = FakeTeacher(answer=lambda request: refused)
    assert await teacher.complete(ask("x")) == refused
    assert teacher.calls == 1
