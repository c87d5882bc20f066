"""The fakes are faithful: the providers' own packages talk to them and parse what they say."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
from fake_anthropic_batches import FakeAnthropicBatches
from fake_batches import FakeOpenAIBatches, Fate
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion


@pytest.fixture
async def openai_fake() -> AsyncIterator[FakeOpenAIBatches]:
    server = FakeOpenAIBatches()
    server.looks = 0
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def anthropic_fake() -> AsyncIterator[FakeAnthropicBatches]:
    server = FakeAnthropicBatches()
    server.looks = 0
    await server.start()
    yield server
    await server.stop()


def line(number: int) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    item = {"custom_id": f"id-{number}", "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps(item | {"body": body})


async def test_the_openai_package_speaks_to_the_fake(openai_fake: FakeOpenAIBatches) -> None:
    openai_fake.fates = [Fate(word="expired", results={"id-1": 400, "id-2": "expired"})]
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{openai_fake.url}/v1") as client:
        data = "\n".join(line(n) for n in range(3)).encode()
        file = await client.files.create(file=("a.jsonl", io.BytesIO(data)), purpose="batch")
        assert FileObject.model_validate(file.model_dump(), strict=True).bytes == len(data)
        batch = await client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"overproof": "t"},
        )
        Batch.model_validate(batch.model_dump(), strict=True)
        ended = await client.batches.retrieve(batch.id)
        strict = Batch.model_validate(ended.model_dump(), strict=True)
        assert (strict.status, strict.metadata) == ("expired", {"overproof": "t"})
        assert strict.request_counts is not None
        assert (strict.request_counts.completed, strict.request_counts.failed) == (1, 2)
        listed = [b.id async for b in client.batches.list(limit=1)]
        assert listed == [batch.id]
        assert ended.output_file_id is not None
        assert ended.error_file_id is not None
        good = json.loads((await client.files.content(ended.output_file_id)).text)
        answer = ChatCompletion.model_validate(good["response"]["body"])
        assert answer.choices[0].message.content == "A"
        bad = (await client.files.content(ended.error_file_id)).text.splitlines()
        assert json.loads(bad[0])["response"]["status_code"] == 400
        assert json.loads(bad[1])["error"]["code"] == "batch_expired"
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_none")


async def test_the_openai_fake_refuses_what_the_service_does(
    openai_fake: FakeOpenAIBatches,
) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{openai_fake.url}/v1") as client:
        data = f"{line(0)}\n{line(0)}".encode()
        file = await client.files.create(file=("a.jsonl", io.BytesIO(data)), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == ("duplicate_custom_id", 2)


async def test_the_anthropic_package_speaks_to_the_fake(
    anthropic_fake: FakeAnthropicBatches,
) -> None:
    anthropic_fake.fates = [Fate(results={"id-1": 400, "id-2": "expired", "id-3": "cancelled"})]
    params = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    requests = [{"custom_id": f"id-{n}", "params": params} for n in range(4)]
    async with anthropic.AsyncAnthropic(api_key="k", base_url=anthropic_fake.url) as client:
        batches = client.messages.batches
        made = await batches.create(requests=requests)  # type: ignore[arg-type]
        assert (made.processing_status, made.request_counts.processing) == ("in_progress", 4)
        ended = await batches.retrieve(made.id)
        assert ended.processing_status == "ended"
        assert ended.ended_at is not None
        assert ended.ended_at > ended.created_at
        assert [b.id async for b in batches.list(limit=1)] == [made.id]
        found = {r.custom_id: r.result async for r in await batches.results(made.id)}
        kinds = {name: result.type for name, result in found.items()}
        assert kinds == {
            "id-0": "succeeded",
            "id-1": "errored",
            "id-2": "expired",
            "id-3": "canceled",
        }
        assert found["id-0"].message.content[0].text == "A"  # type: ignore[union-attr]
        assert found["id-1"].error.error.type == "invalid_request_error"  # type: ignore[union-attr]
        with pytest.raises(anthropic.BadRequestError, match="custom_id"):
            await batches.create(
                requests=[{"custom_id": "a b", "params": params}]  # type: ignore[typeddict-item]
            )
