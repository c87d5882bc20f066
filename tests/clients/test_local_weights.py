from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_lm import write_tiny_lm

from overproof.clients.local_weights import LocalTeacher
from overproof.config.teacher import TeacherConfig
from overproof.errors import BudgetError, ConfigError, MissingExtraError, ModelError, TeacherError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Tool

# Seconds of torch.
pytestmark = pytest.mark.slow

TEXTS = ["Hi", "The sky is blue and the sea is too", "ab", "Blåbær, 青い: was ist das? " * 4]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("models") / "tiny-lm")


def config(weights: Path | str, **changes: object) -> TeacherConfig:
    wanted = {"kind": "local", "model": str(weights), "device": "cpu", "concurrency": 4} | changes
    return TeacherConfig.model_validate(wanted)


def ask(text: str, *more: Message, sample: int = 0, **parameters: object) -> Request:
    wanted = {"max_tokens": 12, "temperature": 0.0} | parameters
    messages = (Message(role="user", content=text), *more)
    return Request(
        model="m",
        messages=messages,
        parameters=Parameters.model_validate(wanted),
        sample=sample,
    )


def plain(weights: Path) -> tuple[Any, Any]:
    """The model and tokenizer without any of our code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(weights).eval(),
        AutoTokenizer.from_pretrained(weights),
    )


def plain_logprobs(module: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return torch.log_softmax(module(torch.tensor([ids])).logits[0].float(), -1)


async def test_logprobs_are_those_of_a_plain_forward_pass(weights: Path) -> None:
    wanted = {"top_logprobs": 200, "prompt_logprobs": 3}
    async with LocalTeacher(config(weights)) as teacher:
        answers = await asyncio.gather(*(teacher.complete(ask(t, **wanted)) for t in TEXTS))
    module, tokenizer = plain(weights)
    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer.logprobs is not None
        assert answer.prompt_logprobs is not None
        prompt = tokenizer.encode(f"<|user|>{text}<|end|><|assistant|>", add_special_tokens=False)
        ids, said = list(prompt), []
        for token in answer.logprobs:  # greedy: the plain model says the same tokens
            likeliest = int(plain_logprobs(module, ids)[-1].argmax())
            said.append(likeliest)
            assert token.token == (tokenizer.convert_ids_to_tokens(likeliest) if not token.data
                                   else bytes(token.data).decode(errors="replace"))  # fmt: skip
            ids.append(likeliest)
        expected = plain_logprobs(module, ids)
        for i, token in enumerate(answer.logprobs):
            row = expected[len(prompt) - 1 + i]
            assert token.logprob == pytest.approx(float(row[said[i]]), abs=1e-5)
            best = row.topk(200).values.tolist()
            assert [top.logprob for top in token.top] == pytest.approx(best, abs=1e-5)
        assert answer.prompt_logprobs[0] is None
        assert len(answer.prompt_logprobs) == len(prompt)
        for i, scored in enumerate(answer.prompt_logprobs[1:]):
            assert scored is not None
            assert scored.logprob == pytest.approx(float(expected[i][prompt[i + 1]]), abs=1e-5)
            assert [top.logprob for top in scored.top] == pytest.approx(
                expected[i].topk(3).values.tolist(), abs=1e-5
            )


async def test_long_prompts_are_scored_in_pieces(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.clients import local_batch

    wanted = {"prompt_logprobs": 0, "top_logprobs": 0, "max_tokens": 5}
    async with LocalTeacher(config(weights)) as teacher:
        whole = await asyncio.gather(*(teacher.complete(ask(t, **wanted)) for t in TEXTS))
        monkeypatch.setattr(local_batch, "LOGITS_BYTES", 4 * 300 * 4 * 7)  # seven columns
        pieces = await asyncio.gather(*(teacher.complete(ask(t, **wanted)) for t in TEXTS))
    for one, other in zip(whole, pieces, strict=True):
        assert one.text == other.text
        for kind in ("prompt_logprobs", "logprobs"):
            first, second = getattr(one, kind), getattr(other, kind)
            assert [t and t.token for t in first] == [t and t.token for t in second]
            assert [t.logprob for t in first if t] == pytest.approx(
                [t.logprob for t in second if t], abs=1e-5
            )


async def test_probabilities_over_the_vocabulary_sum_to_one(weights: Path) -> None:
    request = ask("Hi", top_logprobs=1000, max_tokens=3)
    async with LocalTeacher(config(weights)) as teacher:
        answer = await teacher.complete(request)
    assert answer.logprobs is not None
    for token in answer.logprobs:
        assert len(token.top) == 266  # 256 bytes, 4 merges, 6 special tokens
        assert math.fsum(math.exp(top.logprob) for top in token.top) == pytest.approx(1, abs=1e-5)
        assert [top.logprob for top in token.top] == sorted(
            (top.logprob for top in token.top), reverse=True
        )


async def test_an_answer_depends_on_its_own_request_alone(weights: Path) -> None:
    """Float32 on a CPU: drawn answers agree to the last character, log-probs to 1e-5."""
    requests = [
        ask(f"{TEXTS[i % 4]} {i}", temperature=1.0, top_p=(0.9, 1.0)[i % 2], seed=i,
            max_tokens=6 + i, top_logprobs=1)
        for i in range(24)
    ]  # fmt: skip
    async with LocalTeacher(config(weights, concurrency=8)) as teacher:
        together = await asyncio.gather(*(teacher.complete(request) for request in requests))
    async with LocalTeacher(config(weights, concurrency=1)) as teacher:
        alone = [await teacher.complete(request) for request in requests]
    assert [a.text for a in together] == [a.text for a in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs is not None
        assert other.logprobs is not None
        assert [t.logprob for t in one.logprobs] == pytest.approx(
            [t.logprob for t in other.logprobs], abs=1e-5
        )


async def test_seeds_and_samples_tell_answers_apart(weights: Path) -> None:
    def drawn(**wanted: Any) -> Request:
        return ask("Hi", temperature=1.0, **wanted)

    async with LocalTeacher(config(weights)) as teacher:
        first, again = [await teacher.complete(drawn(seed=3)) for _ in range(2)]
        other_seed = await teacher.complete(drawn(seed=4))
        other_sample = await teacher.complete(drawn(seed=3, sample=1))
        free = [await teacher.complete(drawn()) for _ in range(3)]
    assert first.text == again.text
    assert len({first.text, other_seed.text, other_sample.text}) == 3
    assert len({answer.text for answer in free}) > 1


def test_drawing_follows_the_distribution() -> None:
    import torch

    from overproof.clients.local_batch import drawn

    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    n = 20_000
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n  # a grid: the exact shares

    def shares(temperature: float, top_p: float) -> list[float]:
        tokens = drawn(
            logits.expand(n, -1), torch.full((n,), temperature), torch.full((n,), top_p), uniform
        )
        return (torch.bincount(tokens, minlength=4) / n).tolist()

    assert shares(1.0, 1.0) == pytest.approx(torch.softmax(logits[0], -1).tolist(), abs=1e-4)
    assert shares(2.0, 1.0) == pytest.approx(torch.softmax(logits[0] / 2, -1).tolist(), abs=1e-4)
    assert shares(0.0, 1.0) == [1.0, 0.0, 0.0, 0.0]
    # 0.64 + 0.24 reach 0.8 with the second token: the other two are never drawn.
    kept = torch.softmax(logits[0, :2], -1).tolist()
    assert shares(1.0, 0.8) == pytest.approx([*kept, 0.0, 0.0], abs=1e-4)
    assert shares(1.0, 1e-9) == [1.0, 0.0, 0.0, 0.0]


async def test_prefill_stops_and_limits(weights: Path) -> None:
    prefill = Message(role="assistant", content="The sky ")
    async with LocalTeacher(config(weights)) as teacher:
        whole = await teacher.complete(ask("Hi", max_tokens=12))
        assert whole.outcome is Outcome.TRUNCATED
        assert whole.finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.output_tokens == 12
        cut = whole.text[3:6]
        stopped = await teacher.complete(ask("Hi", stop=(cut, "never said")))
        assert stopped.outcome is Outcome.ANSWERED
        assert stopped.text == whole.text[: whole.text.index(cut)]
        begun = await teacher.complete(ask("Hi", prefill, max_tokens=3, prompt_logprobs=0))
        assert begun.prompt_logprobs is not None
        last = [token.token for token in begun.prompt_logprobs[-8:] if token]
        assert "".join(last).endswith("sky ")
        assert not begun.text.startswith("The sky")
        empty = Message(role="assistant", content="")
        assert (await teacher.complete(ask("Hi", empty, max_tokens=12))).text == whole.text


async def test_the_end_of_turn_ends_an_answer_and_has_a_logprob(weights: Path) -> None:
    async with LocalTeacher(config(weights)) as teacher:
        requests = [
            ask("Hi", temperature=1.5, seed=i, max_tokens=150, top_logprobs=0) for i in range(8)
        ]
        answers = await asyncio.gather(*(teacher.complete(request) for request in requests))
    ended = [answer for answer in answers if answer.finish_reason == "stop"]
    assert ended
    for answer in ended:
        assert answer.outcome is Outcome.ANSWERED
        assert answer.logprobs is not None
        assert answer.logprobs[-1].token == "<|end|>"
        assert answer.logprobs[-1].data == ()
        assert "<|end|>" not in answer.text
        said = b"".join(bytes(token.data or ()) for token in answer.logprobs)
        assert said.decode(errors="replace") == answer.text


async def test_what_cannot_be_asked_fails_with_a_reason(weights: Path) -> None:
    async with LocalTeacher(config(weights, context_length=64)) as teacher:
        assert teacher.capabilities.context_length == 64
        long, odd, room = await asyncio.gather(
            teacher.complete(ask("x" * 64)),
            teacher.complete(ask("x", extra={"guided_json": {}})),
            teacher.complete(ask("x" * 50, max_tokens=500)),
        )
    assert long.outcome is Outcome.FAILED
    assert "67 tokens" in (long.error or "")
    assert odd.outcome is Outcome.FAILED
    assert "guided_json" in (odd.error or "")
    assert room.usage is not None
    assert room.usage.input_tokens + room.usage.output_tokens <= 64


async def test_pieces_are_bytes(weights: Path) -> None:
    async with LocalTeacher(config(weights)) as teacher:
        assert await teacher.tokenize("the å") == [b"th", b"e", b" ", b"\xc3", b"\xa5"]


async def test_tools_reach_the_template_and_calls_are_read(weights: Path) -> None:
    tool = Tool(name="weather", parameters={"type": "object"})
    async with LocalTeacher(config(weights)) as teacher:
        assert teacher.capabilities.tools
        answer = await teacher.complete(ask("Hi", tools=(tool,), prompt_logprobs=0, max_tokens=1))
    assert answer.prompt_logprobs is not None
    prompt = b"".join(bytes(t.data or ()) for t in answer.prompt_logprobs if t)
    assert b'"name": "weather"' in prompt


class Meter:
    def __init__(self, room: int = 100) -> None:
        self.room, self.log = room, []

    async def before(self) -> None:
        if not self.room:
            raise BudgetError("budget", "is spent")
        self.room -= 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        self.log.append((completion.outcome, reached))


async def test_the_meter_sees_every_attempt_once(weights: Path) -> None:
    meter = Meter(room=3)
    async with LocalTeacher(config(weights, context_length=64)) as teacher:
        await teacher.complete(ask("Hi"), meter)
        await teacher.complete(ask("x" * 64), meter)
        given_up = asyncio.create_task(teacher.complete(ask("Hi"), meter))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        with pytest.raises(BudgetError):
            await teacher.complete(ask("Hi"), meter)
    assert meter.log == [
        (Outcome.TRUNCATED, True), (Outcome.FAILED, False), (Outcome.FAILED, False)
    ]  # fmt: skip


async def test_the_cancelled_are_dropped_and_the_others_answered(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.clients import local_batch

    sizes, real = [], local_batch.answer

    def counted(model: Any, rows: list[Any]) -> None:
        sizes.append(len(rows))
        real(model, rows)

    monkeypatch.setattr(local_batch, "answer", counted)
    async with LocalTeacher(config(weights, concurrency=8)) as teacher:
        tasks = [asyncio.create_task(teacher.complete(ask(text))) for text in TEXTS * 3]
        await asyncio.sleep(0)
        for task in tasks[::4]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, Completion) for each in done] == [i % 4 > 0 for i in range(12)]
    assert sizes == [8, 1]


async def test_closing_ends_a_batch_under_way(weights: Path) -> None:
    async with LocalTeacher(config(weights, context_length=512)) as teacher:
        endless = [
            asyncio.create_task(teacher.complete(ask(text, max_tokens=400, temperature=0.7)))
            for text in TEXTS
        ]
        await asyncio.sleep(0.05)
    answers = await asyncio.gather(*endless)
    assert any("closed" in (answer.error or "") for answer in answers)
    assert all(answer.outcome is Outcome.FAILED for answer in answers if answer.error)


async def test_half_a_batch_where_memory_is_short(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.clients import local_batch

    real = local_batch._Batch.run

    def short_of_memory(self: Any) -> None:
        if len(self.rows) > 2 or any("too large" in str(row.request) for row in self.rows):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        real(self)

    monkeypatch.setattr(local_batch._Batch, "run", short_of_memory)
    async with LocalTeacher(config(weights, concurrency=8)) as teacher:
        answers = await asyncio.gather(
            *(teacher.complete(ask(text)) for text in [*TEXTS, "too large"])
        )
    assert [answer.outcome for answer in answers[:4]] == [Outcome.TRUNCATED] * 4
    assert answers[4].outcome is Outcome.FAILED
    assert "memory" in (answers[4].error or "")


async def test_a_broken_computation_is_said(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.clients import local_batch

    def broken(self: Any) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(local_batch._Batch, "run", broken)
    async with LocalTeacher(config(weights)) as teacher:
        with pytest.raises(TeacherError, match="device-side assert"):
            await teacher.complete(ask("Hi"))


async def test_no_number_is_no_answer(weights: Path) -> None:
    async with LocalTeacher(config(weights)) as teacher:
        assert teacher._loaded is not None
        teacher._loaded.module.lm_head.weight.data.fill_(math.nan)
        answer = await teacher.complete(ask("Hi"))
    assert answer.outcome is Outcome.FAILED
    assert "NaN" in (answer.error or "")


async def _loading(model: object, **changes: object) -> None:
    async with LocalTeacher(config(str(model), **changes)):
        pass


async def test_weights_that_cannot_be_loaded(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a directory nor a GGUF"):
        await _loading(weights / "config.json")
    with pytest.raises(ModelError, match="is not there"):
        await _loading(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="cannot be loaded"):
        await _loading(tmp_path)
    (tmp_path / "broken.gguf").write_bytes(b"this is no model")
    with pytest.raises(ModelError, match="cannot be loaded"):
        await _loading(tmp_path / "broken.gguf")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        await _loading("nobody/has-this-model")
    with pytest.raises(ConfigError, match="device"):
        await _loading(weights, device="abacus")
    with pytest.raises(ConfigError, match="top_k"):
        await _loading(weights, body={"top_k": 5})
    mute = write_tiny_lm(tmp_path / "mute", template=None)
    with pytest.raises(ModelError, match="chat template"):
        await _loading(mute)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="local"):
        LocalTeacher(config(weights))
