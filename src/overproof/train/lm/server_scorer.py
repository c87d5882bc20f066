"""The student's text scored by a teacher elsewhere, through the log-probs of a prompt.

A server that gives ``prompt_logprobs`` (vLLM) is sent the chat with the student's text as the
beginning of the teacher's answer, and asked for one token more: that one tells whether the teacher
would have stopped there. What comes back is put onto the student's tokens by bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

from overproof.clients.local_model import ENDS
from overproof.clients.protocol import Teacher
from overproof.errors import CapabilityError, DataError, TeacherError
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    Tool,
)
from overproof.records.logprob_codec import SparseRow
from overproof.records.openai_json import messages_of
from overproof.records.openai_logprobs import LEAST_LOGPROB
from overproof.train.lm.alignment import Ends, align, place
from overproof.train.lm.parts import LmStudent, TokenizedChat
from overproof.train.lm.student_tokens import TokenBytes
from overproof.train.lm.teacher_text import TeacherText, told

__all__ = ["ServerScorer", "answer_tokens"]

USABLE = (Outcome.ANSWERED, Outcome.TRUNCATED)  # it was asked for a single token


class ServerScorer:
    """Asks a teacher what it thinks of every token of the student's answers.

    The connection is opened with the first question and kept until ``close``, or until nobody
    needs the scorer any more.

    Args:
        teacher: not yet started.
        student: whose tokens the scores are for.
        rows: the answered rows of the training split, which chats name by ``row``.
        k: alternatives to ask for at each token.

    Raises:
        StudentError: the student's tokenizer loses bytes.
        DataError: there are no rows to take messages from.
    """

    def __init__(
        self, teacher: Teacher, student: LmStudent, rows: Sequence[Mapping[str, Any]], *, k: int
    ) -> None:
        if not rows:
            raise DataError(
                "on-policy distillation by a server",
                "has no messages to send: the training rows were not handed over",
                "pass the answered rows of the training split as `rows`",
            )
        self._teacher = teacher
        self._rows = rows
        self._k = k
        self._end, self._ends = student.end, student.ends
        self._tokens = TokenBytes(student.tokenizer)
        names = student.tokenizer.convert_ids_to_tokens(sorted(student.ends))
        self._end_names = frozenset({*ENDS, *names})
        self._open: asyncio.Runner | None = None
        self._closing: weakref.finalize[Any, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later question opens it anew."""
        closing, self._closing, self._open = self._closing, None, None
        if closing is not None:
            closing()

    def score(self, chats: Sequence[TokenizedChat]) -> list[SparseRow]:
        """What the teacher thought at each answer token; see ``logprob_codec.SparseRow``.

        Raises:
            TeacherError: it failed for good, or gives no log-probs of a prompt.
            CapabilityError: it says itself that it cannot.
        """
        runner = self._runner()
        said = [self._text(chat) for chat in chats]
        requests = [self._request(chat, text) for chat, text in zip(chats, said, strict=True)]
        completions = runner.run(self._asked(requests))
        texts = [
            self._teacher_text(completion, text)
            for completion, text in zip(completions, said, strict=True)
        ]
        answers = [self._answer(chat) for chat in chats]
        placed = [
            place(text, answer, self._tokens, self._end)
            for text, answer in zip(texts, answers, strict=True)
        ]
        ends = Ends()
        for text, where in zip(texts, placed, strict=True):
            ends.observe(text, where)
        return [
            align(text, answer, self._tokens, end=self._end, k=self._k, ends=ends, placed=where).row
            for text, answer, where in zip(texts, answers, placed, strict=True)
        ]

    def _runner(self) -> asyncio.Runner:
        """The loop that the teacher lives in, started with it."""
        if self._open is None:
            runner = asyncio.Runner()
            try:
                runner.run(self._teacher.__aenter__())
                self._check()
            except BaseException:
                runner.close()
                raise
            self._open = runner
            self._closing = weakref.finalize(self, _close, runner, self._teacher)
        return self._open

    def _check(self) -> None:
        able = self._teacher.capabilities
        if not able.prompt_logprobs or not able.assistant_prefill:
            lacking = "log-probs of a prompt" if not able.prompt_logprobs else "a begun answer"
            raise CapabilityError(
                self._teacher.name,
                f"knows nothing of {lacking}, so it cannot score what the student writes",
                "serve the teacher with vLLM, or use teacher.kind = 'local'; 'sft' and 'sparse_kd' "
                "learn from what the teacher writes itself",
            )
        if able.top_logprobs:
            self._k = min(self._k, able.top_logprobs)

    async def _asked(self, requests: Sequence[Request]) -> list[Completion]:
        completions = await asyncio.gather(*map(self._teacher.complete, requests))
        for completion in completions:
            if completion.outcome not in USABLE:
                raise TeacherError(
                    self._teacher.name,
                    f"did not score the student's text: {completion.outcome} "
                    f"({completion.error or completion.finish_reason or 'no reason given'})",
                    "run the same command again: training goes on from its last checkpoint",
                )
            if completion.prompt_logprobs is None:
                raise TeacherError(
                    self._teacher.name,
                    "answers without prompt_logprobs, though they were asked for",
                    "serve the teacher with vLLM, or use teacher.kind = 'local'",
                )
        return list(completions)

    def _answer(self, chat: TokenizedChat) -> list[int]:
        """The answer's tokens, closed by the one end that alignment knows."""
        answer = list(chat.ids[chat.n_prompt :])
        if answer and answer[-1] in self._ends:
            answer[-1] = self._end
        return answer

    def _text(self, chat: TokenizedChat) -> str:
        """The answer as text, up to where it is none: a special token, or half a character."""
        data = b""
        for token in self._answer(chat):
            piece = self._tokens.bytes_of(token)
            if not piece:
                break
            data += piece
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            return data[: error.start].decode()

    def _request(self, chat: TokenizedChat, text: str) -> Request:
        row = self._rows[chat.row]
        history = [
            {name: value for name, value in message.items() if value is not None}
            for message in row["messages"][:-1]
        ]
        messages = messages_of(history)
        if text:
            messages = (*messages, Message(role="assistant", content=text))
        offered = row.get("tools") or "[]"
        tools = json.loads(offered) if isinstance(offered, str) else offered
        return Request(
            model=self._teacher.model,
            messages=messages,
            parameters=Parameters(
                max_tokens=1,
                prompt_logprobs=self._k,
                top_logprobs=self._k,
                tools=tuple(Tool.model_validate(tool["function"]) for tool in tools),
            ),
        )

    def _teacher_text(self, completion: Completion, text: str) -> TeacherText:
        """The student's text in the teacher's tokens, and what it would have written next."""
        tokens = answer_tokens(completion.prompt_logprobs or (), text)
        if text and not tokens:
            return TeacherText.of([])
        if completion.logprobs:
            tokens.append(self._next(completion.logprobs[0]))
        return told(tokens, text, self._end_names)

    def _next(self, token: TokenLogprob) -> TokenLogprob:
        """The place after the answer as one where the teacher ended it, however unlikely."""
        listed = {(each.token, each.logprob) for each in token.top}
        listed.add((token.token, token.logprob))
        ends = [each for each in listed if each[0] in self._end_names or not each[0]]
        name, logprob = max(ends, key=lambda each: each[1], default=("", LEAST_LOGPROB))
        own = next((each.data for each in token.top if each.token == name), ())
        return TokenLogprob(token=name, logprob=logprob, data=own, top=token.top)


def answer_tokens(tokens: Sequence[TokenLogprob | None], text: str) -> list[TokenLogprob]:
    """Of the tokens of a prompt, those of the text that it ends with.

    The first may begin before the text. Bytes that a server lost (part of a character, as U+FFFD)
    are skipped over to the tokens around them.

    Returns:
        Nothing where the prompt does not end with the text.
    """
    left, lost = text.encode(), False
    for start in range(len(tokens) - 1, -1, -1):
        if not left:
            return [token for token in tokens[start + 1 :] if token is not None]
        token = tokens[start]
        if token is None:
            return []
        data = bytes(token.data) if token.data is not None else token.token.encode()
        if not data or (token.data is None and "\ufffd" in token.token):
            lost = True
        elif left.endswith(data):
            left, lost = left[: -len(data)], False
        elif data.endswith(left):
            left, lost = b"", False
        elif lost and (at := left.rfind(data)) >= 0:
            left, lost = left[:at], False
        else:
            return []
    return [] if left else [token for token in tokens if token is not None]


def _close(runner: asyncio.Runner, teacher: Teacher) -> None:
    with contextlib.closing(runner):
        runner.run(teacher.__aexit__(None, None, None))
