"""Where a suspect's log-probs come from: weights on this machine, or a server's prompt log-probs.

A source is written as a path or a name for weights here, ``MODEL@http://HOST/v1`` for a server.
Both give what `overproof.audit.ghost_scores.attach_logprobs` asks for: the total log-prob of each
answer in nats, and its number of tokens.

A server that tokenises (``/tokenize``, vLLM's) is sent token ids, prompt and answer joined as a
model would have written them, and asked for ``prompt_logprobs`` of ``/v1/completions``. Any other
OpenAI-compatible server is asked to ``echo`` plain text with ``logprobs``; chats need the former,
for only the server knows its chat template.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from overproof.audit.ghost_scores import LogprobOf
from overproof.clients.http_teacher import HttpTransport
from overproof.clients.llama_server import root_of
from overproof.clients.local_scores import Prompt, load_scores
from overproof.clients.openai_wire import WireError
from overproof.config.keys import check_variable
from overproof.config.teacher import TeacherConfig
from overproof.errors import (
    CapabilityError,
    ConfigError,
    DataError,
    TeacherError,
    TeacherUnreachableError,
)
from overproof.records.exchange import Completion, Outcome, TokenLogprob
from overproof.records.hashing import canonical_json
from overproof.records.openai_json import messages_of

__all__ = ["ModelSource", "Progress", "open_scorer", "parse_source"]

Progress = Callable[[int, int], None]
"""Told how many answers are scored, and of how many."""

CHUNK = 64  # answers between two words of progress
CONCURRENCY = 8
TIMEOUT_S = 300.0
WAY_OUT = "serve the suspect with vLLM, or give its weights"
# A client's advice that names keys of a recipe: an audit has none.
OF_A_RECIPE = re.compile(r"; [^;]*\bteacher\.\w+[^;]*$")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is.

    Attributes:
        model: a directory, a GGUF file, a hub's name; or the model's name at the server.
        base_url: of the server; None for weights here.
        key_env: the environment variable with the server's key; None for none.
        raw: prompts stand as they are, without a chat template.
    """

    model: str
    base_url: str | None = None
    key_env: str | None = None
    raw: bool = False

    @property
    def shown(self) -> str:
        """As the user wrote it."""
        return self.model if self.base_url is None else f"{self.model}@{self.base_url}"


def parse_source(text: str, *, key_env: str | None = None, raw: bool = False) -> ModelSource:
    """Read ``MODEL@http://HOST/v1``, or a path or name of weights.

    Raises:
        ConfigError: a URL without a model, a key for weights that are here, or what looks like a
            key in place of a variable's name.
    """
    text = text.strip()
    if text.startswith(("http://", "https://")):
        raise ConfigError(text, "does not say which model", f"write MODEL@{text}")
    for scheme in ("@http://", "@https://"):
        at = text.find(scheme)
        if at > 0:
            source = ModelSource(text[:at], text[at + 1 :].rstrip("/"), key_env, raw)
            _config(source)
            return source
    if not text:
        raise ConfigError("the model", "is not named", "give a directory, or MODEL@http://HOST/v1")
    if key_env is not None:
        raise ConfigError(
            f"a key for {text}", "has no meaning: these are weights, not a server",
            "leave --key-env out, or write MODEL@http://HOST/v1",
        )  # fmt: skip
    return ModelSource(text, raw=raw)


def _config(source: ModelSource) -> TeacherConfig:
    try:
        if source.key_env is not None:
            check_variable(source.key_env)
        return TeacherConfig(
            kind="openai", model=source.model, base_url=source.base_url, timeout_s=TIMEOUT_S,
            api_key_env=source.key_env, concurrency=CONCURRENCY,
        )  # fmt: skip
    except ValueError as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = told.removeprefix("Value error, ")
    # Raised out here: the library's error holds the values.
    raise ConfigError("the model's server", reason, "write MODEL@http://HOST/v1")


def prompt_of(prompt: Any) -> Prompt:
    """A prompt of a log as a text or a chat.

    Raises:
        DataError: neither.
    """
    if isinstance(prompt, str):
        return prompt
    try:
        return messages_of(prompt)
    except ValueError as error:
        raise DataError("a prompt", str(error), "give a text, or a list of messages") from error


@contextmanager
def open_scorer(source: ModelSource, progress: Progress | None = None) -> Iterator[LogprobOf]:
    """What scores answers, ready to be called any number of times.

    Args:
        source: of `parse_source`.
        progress: called as answers are scored.

    Raises:
        MissingExtraError: weights here, and torch is not installed.
        ModelError: they cannot be loaded.
        SecretError: the key's variable is not set, or the server refuses the key.
        TeacherError: the server failed for good.
        CapabilityError: it gives no log-probs of a prompt.
    """
    if source.base_url is None:
        scores = load_scores(source.model, raw=source.raw)

        def local(pairs: Sequence[tuple[Any, str]]) -> list[tuple[float, int]]:
            found: list[tuple[float, int]] = []
            ready = [(prompt_of(prompt), text) for prompt, text in pairs]
            for start in range(0, len(ready), CHUNK):
                found += scores.logprobs(ready[start : start + CHUNK])
                if progress is not None:
                    progress(len(found), len(ready))
            return found

        yield local
        return
    with asyncio.Runner() as runner:
        server = _Server(source, progress)
        runner.run(server.open())
        try:
            yield lambda pairs: runner.run(server.score(pairs))
        finally:
            runner.run(server.close())


class _Server:
    """One model behind an OpenAI-compatible URL."""

    def __init__(self, source: ModelSource, progress: Progress | None) -> None:
        self._transport = HttpTransport(_config(source))
        self._source = source
        self._progress = progress
        self._tokenizes = False
        self._prompts: dict[bytes, asyncio.Task[list[int]]] = {}
        self._places = asyncio.Semaphore(CONCURRENCY)

    async def open(self) -> None:
        await self._transport.open()
        try:
            self._tokenizes = await self._ids({"prompt": "a", "add_special_tokens": False}) != []
        except TeacherError:
            await self.close()
            raise
        if not self._tokenizes and not self._source.raw:
            await self.close()
            raise CapabilityError(
                self._source.shown,
                "does not say how it tokenises a chat (POST /tokenize), so nobody knows which "
                "log-probs are the answer's",
                f"{WAY_OUT}; or score prompts as plain text, with --raw",
            )

    async def close(self) -> None:
        await self._transport.close()

    async def score(self, pairs: Sequence[tuple[Any, str]]) -> list[tuple[float, int]]:
        """Each pair in its place; the first failure ends all."""
        done = 0

        async def one(prompt: Any, text: str) -> tuple[float, int]:
            nonlocal done
            async with self._places:
                found = await self._one(prompt_of(prompt), text)
            done += 1
            if self._progress is not None and done % CHUNK == 0:
                self._progress(done, len(pairs))
            return found

        tasks = [asyncio.create_task(one(prompt, text)) for prompt, text in pairs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, prompt: Prompt, text: str) -> tuple[float, int]:
        if not text:
            raise DataError("an answer", "is empty", "leave its prompt out of the log, whole")
        if not self._tokenizes:
            return await self._echoed(prompt, text)
        before = await self._prompt_ids(prompt)
        answer = await self._ids({"prompt": text, "add_special_tokens": False})
        if not before or not answer:
            which = "a prompt" if not before else "an answer"
            raise DataError(which, f"has no token at {self._source.shown}", "leave it out, whole")
        ids = [*before, *answer]
        body = {"prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
        tokens = await self._asked(body, lambda raw: _by_ids(raw, ids, self._source.shown))
        return math.fsum(tokens[len(before) :]), len(answer)

    async def _echoed(self, prompt: Prompt, text: str) -> tuple[float, int]:
        if not isinstance(prompt, str):
            raise DataError(
                "a prompt", "is a list of messages, which plain text cannot hold", WAY_OUT
            )
        body = {"prompt": prompt + text, "max_tokens": 1, "temperature": 0, "echo": True,
                "logprobs": 1}  # fmt: skip
        tokens = await self._asked(
            body, lambda raw: _by_text(raw, prompt, text, self._source.shown)
        )
        return math.fsum(tokens), len(tokens)

    async def _prompt_ids(self, prompt: Prompt) -> list[int]:
        """Asked once a prompt, whoever asks first."""
        name = canonical_json(
            prompt if isinstance(prompt, str) else [m.model_dump(mode="json") for m in prompt]
        )
        if name not in self._prompts:
            self._prompts[name] = asyncio.create_task(self._ids(self._prompt_body(prompt)))
        return await asyncio.shield(self._prompts[name])

    def _prompt_body(self, prompt: Prompt) -> dict[str, Any]:
        if self._source.raw:
            if not isinstance(prompt, str):
                raise DataError("a prompt", "is a list of messages", "leave --raw out")
            return {"prompt": prompt, "add_special_tokens": True}
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [
            {"role": m.role, "content": m.content} for m in prompt
        ]  # fmt: skip
        return {"messages": chat, "add_generation_prompt": True, "add_special_tokens": False}

    async def _ids(self, body: dict[str, Any]) -> list[int]:
        """Token ids by ``/tokenize``; none where the server does not offer it."""
        url = root_of(self._transport.base_url) + "/tokenize"
        with self._named():
            reply = await self._transport.request(
                "POST", url, json={"model": self._source.model, **body}
            )
        if reply.status in (404, 405, 501):
            return []
        said = reply.body.decode("utf-8", "replace")
        if reply.status >= 400 and self._tokenizes:
            raise TeacherError(
                self._source.shown, f"does not tokenise: HTTP {reply.status}: {said[:200]}", WAY_OUT
            )
        try:
            ids = json.loads(said)["tokens"]
        except (ValueError, LookupError, TypeError):
            return []
        whole = isinstance(ids, list) and all(type(i) is int for i in ids)
        return ids if whole else []

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of a server that nobody answers at, in words of an audit."""
        try:
            yield
        except TeacherUnreachableError as error:
            raise TeacherUnreachableError(
                self._source.shown, error.reason,
                "check the address behind the @, the network, and that the server runs",
            ) from error  # fmt: skip

    async def _asked(self, body: dict[str, Any], read: Callable[[Any], list[float]]) -> list[float]:
        """The log-probs of one question to ``/completions``, with retries."""

        def completion(raw: str) -> Completion:
            try:
                parsed = json.loads(raw)
            except ValueError as error:
                raise WireError("a completion", is_json=False) from error
            if not isinstance(parsed, dict) or not isinstance(parsed.get("choices"), list):
                raise WireError("a completion with choices", is_json=True)
            values = read(parsed["choices"][0] if parsed["choices"] else {})
            told = tuple(TokenLogprob(token="", logprob=value) for value in values)
            return Completion(outcome=Outcome.ANSWERED, prompt_logprobs=told)

        with self._named():
            found = await self._transport.ask(
                "/completions", {"model": self._source.model, **body}, completion
            )
        if found.outcome is not Outcome.ANSWERED:
            raise TeacherError(
                self._source.shown,
                f"did not score a text: {OF_A_RECIPE.sub('', found.error or found.outcome)}",
                "mend the server, then run the same command again",
            )
        return [token.logprob for token in found.prompt_logprobs or () if token is not None]


def _missing(shown: str, what: str) -> CapabilityError:
    return CapabilityError(shown, f"answers without {what}: log-probs are missing", WAY_OUT)


def _by_ids(choice: Any, ids: Sequence[int], shown: str) -> list[float]:
    """Of vLLM's ``prompt_logprobs``: one dictionary a token, None for the first."""
    told = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if not isinstance(told, list):
        raise _missing(shown, "prompt_logprobs")
    if len(told) != len(ids):
        raise DataError(
            shown,
            f"gives log-probs of {len(told)} tokens for the {len(ids)} that were sent",
            "its tokenizer differs from what it says: ask its operator",
        )
    found = [0.0]
    for number, entry in zip(ids[1:], told[1:], strict=True):
        own = entry.get(str(number)) if isinstance(entry, dict) else None
        value = own.get("logprob") if isinstance(own, dict) else own
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _missing(shown, f"the log-prob of token {number}")
        found.append(float(value))
    return found


def _by_text(choice: Any, prompt: str, text: str, shown: str) -> list[float]:
    """Of an echoed text: the tokens that reach beyond the prompt, and not beyond the answer."""
    told = choice.get("logprobs") if isinstance(choice, dict) else None
    tokens, values = (
        (told.get("tokens"), told.get("token_logprobs")) if isinstance(told, dict) else (None, None)
    )
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        raise _missing(shown, "the log-probs of its prompt (echo)")
    echoed = "".join(map(str, tokens))
    if not echoed.startswith(prompt + text):
        raise DataError(
            shown,
            "echoes another text than it was sent: its tokens do not spell prompt and answer",
            f"{WAY_OUT}; a tokenizer that changes a text cannot be read so",
        )
    at, found = 0, []
    for token, value in zip(tokens, values, strict=True):
        start, at = at, at + len(str(token))
        if at <= len(prompt) or start >= len(prompt) + len(text):
            continue
        if value is None and start == 0:
            continue  # the first token of all has nothing before it
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _missing(shown, "the log-prob of an echoed token")
        found.append(float(value))
    if not found:
        raise _missing(shown, "a log-prob of the answer")
    return found
