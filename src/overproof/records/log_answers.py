"""What a row of a log says: a request with its answers, whatever the log's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from overproof.errors import DataError
from overproof.records.anthropic_answers import completion_of_message
from overproof.records.anthropic_json import is_anthropic, plain_batch_line, request_of_anthropic
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request
from overproof.records.log_lines import LogRow, check_text, delimited_rows, json_rows, parquet_rows
from overproof.records.openai_answers import completion_of_choice
from overproof.records.openai_json import message_text, messages_of, request_of_body
from overproof.records.reasoning import THOUGHTS, reasoning_of, split_thoughts
from overproof.records.tool_calls import called, tools_of

__all__ = ["EXPECTED", "Answer", "BadRow", "LogFormat", "Reading", "read_answers"]

LogFormat = Literal["auto", "openai", "chat", "csv"]
EXPECTED = (
    'expected: JSONL of {"request": …, "response": …} in the form of OpenAI or of Anthropic, their '
    'batch lines (input and output in one file), JSONL of {"messages": […]} that end with the '
    "assistant's, or CSV with an input and a label column"
)


# What ``exports`` writes of a completion beside the API's own objects.
RESTORED = (
    "outcome",
    "latency_s",
    "status",
    "attempts",
    "uncertain_attempts",
    "choice",
    "batch",
    "prompt_logprobs",
)


class Answer(NamedTuple):
    """One answer found in a log. ``sample`` is known only where the log came from a ledger."""

    where: str
    request: Request
    completion: Completion
    answer_id: str | None = None
    created_at: str | None = None
    cost_usd: float | None = None
    sample: int | None = None
    uncertain_usd: float = 0.0


class BadRow(NamedTuple):
    """A row that cannot be imported. ``late``: it was read, and counted, earlier."""

    where: str
    reason: str
    late: bool = False


class Reading(NamedTuple):
    """How to read a log."""

    format: LogFormat
    model: str | None
    input_column: str
    label_column: str
    encoding: str


def read_answers(path: Path, reading: Reading) -> Iterator[list[Answer] | BadRow]:
    """Go through a log, one item a row.

    Raises:
        DataError: the file as a whole cannot be read, or its ending tells no format.
    """
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(".parquet"):
        check_text(path, reading.encoding)
    parser = _Parser(reading)
    if name.endswith((".csv", ".tsv")):
        if reading.format not in ("auto", "csv"):
            raise DataError(str(path), f"is CSV, not {reading.format!r}", "leave the format out")
        columns = (reading.input_column, reading.label_column)
        delimiter = "\t" if name.endswith(".tsv") else ","
        yield from _each(
            delimited_rows(path, delimiter, columns, reading.encoding), parser.labelled
        )
        return
    if name.endswith(".parquet"):
        rows = parquet_rows(path)
    elif name.endswith((".jsonl", ".ndjson", ".json")):
        rows = json_rows(path, reading.encoding)
    elif reading.format == "csv":
        columns = (reading.input_column, reading.label_column)
        rows = delimited_rows(path, ",", columns, reading.encoding)
    elif reading.format == "auto":
        raise DataError(
            str(path),
            "its ending tells no format",
            "name a .jsonl, .csv, .tsv or .parquet file (.gz too), or say the format",
        )
    else:
        rows = json_rows(path, reading.encoding)
    yield from _each(rows, parser.parse)
    yield from parser.unpaired()


def _each(
    rows: Iterator[LogRow], parse: Callable[[str, dict[str, Any]], list[Answer]]
) -> Iterator[list[Answer] | BadRow]:
    for where, row, reason in rows:
        if row is None:
            yield BadRow(where, reason)
            continue
        try:
            yield parse(where, row)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            yield BadRow(where, f"{place}: {first['msg']}")
        except (ValueError, TypeError, AttributeError) as error:
            yield BadRow(where, str(error))
        except LookupError as error:
            yield BadRow(where, f"lacks {error}")


class _Parser:
    """Parses rows; batch lines wait here for the other half of their pair."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {}
        self._answered: dict[str, tuple[str, dict[str, Any]]] = {}

    def parse(self, where: str, row: dict[str, Any]) -> list[Answer]:
        """Answers of a row by its format, or by its fields where the format is ``auto``."""
        kind = self._reading.format
        if kind == "openai" or (kind == "auto" and ("request" in row or "custom_id" in row)):
            return self._openai(where, row)
        if kind == "chat" or (kind == "auto" and "messages" in row):
            return self._chat(where, row)
        columns = {self._reading.input_column, self._reading.label_column}
        if kind == "csv" or (kind == "auto" and columns <= row.keys()):
            return self.labelled(where, row)
        raise ValueError(
            "has none of the fields 'request', 'custom_id' and 'messages', and not both of "
            + " and ".join(repr(name) for name in sorted(columns))
        )

    def labelled(self, where: str, row: dict[str, Any]) -> list[Answer]:
        """A row of input and label."""
        values = []
        for name in (self._reading.input_column, self._reading.label_column):
            value = row.get(name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"column {name!r} is empty or not text")
            values.append(value)
        request = Request(
            model=self._reading.model or "unknown",
            messages=(Message(role="user", content=values[0]),),
        )
        return [Answer(where, request, Completion(outcome=Outcome.ANSWERED, text=values[1]))]

    def _chat(self, where: str, row: dict[str, Any]) -> list[Answer]:
        messages = row.get("messages")
        if not isinstance(messages, list) or len(messages) < 2:
            raise ValueError("`messages` is not a list of a question and an answer")
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") != "assistant":
            raise ValueError("its last message is not the assistant's")
        tools = tools_of(row.get("tools")) or ()
        calls = called(last) if row.get("tools") else ()
        text = message_text(last, skipped=THOUGHTS)
        thought, text = split_thoughts(text or "")
        if not text.strip() and not calls:
            raise ValueError("the assistant's answer has no text")
        request = Request(
            model=row.get("model") or self._reading.model or "unknown",
            messages=messages_of(messages[:-1]),
            parameters=Parameters(tools=tools),
        )
        completion = Completion(
            outcome=Outcome.ANSWERED,
            text=text,
            reasoning=reasoning_of(last) or thought,
            tool_calls=calls,
        )
        return [Answer(where, request, completion)]

    def _openai(self, where: str, row: dict[str, Any]) -> list[Answer]:
        row = plain_batch_line(row)
        if "request" in row:
            return self._pair(where, _unwrapped(row["request"], "request"), row)
        if not isinstance(name := row.get("custom_id"), str):
            raise ValueError("has neither 'request' nor 'custom_id'")
        answers = "response" in row or "error" in row
        mine, others = (self._answered, self._asked) if answers else (self._asked, self._answered)
        if answers and "body" in row:
            return self._pair(where, _unwrapped(row["body"], "body"), row)
        if not answers and not isinstance(row.get("body"), dict):
            raise ValueError("has neither 'body' nor 'response'")
        if name in mine:
            raise ValueError(f"custom_id {name!r} was on {mine[name][0]} already")
        if name not in others:
            mine[name] = (where, row)
            return []
        other = others.pop(name)[1]
        asked, answered = (other, row) if answers else (row, other)
        return self._pair(where, asked["body"], answered)

    def unpaired(self) -> Iterator[BadRow]:
        """Batch lines whose other half never came."""
        for name, (where, _) in self._asked.items():
            yield BadRow(where, f"no line has the response to custom_id {name!r}", late=True)
        for name, (where, _) in self._answered.items():
            yield BadRow(
                where,
                f"no line has the request of custom_id {name!r}; put the batch's input and output "
                "lines into one file",
                late=True,
            )

    def _pair(self, where: str, body: Mapping[str, Any], row: dict[str, Any]) -> list[Answer]:
        facts = row.get("overproof")
        facts = facts if isinstance(facts, dict) else {}
        sample = facts.get("sample")
        response, status = _response(row)
        if "request" in facts:
            request = Request.model_validate(facts["request"])
        elif is_anthropic(body, response):
            request = request_of_anthropic(body, self._reading.model, sample or 0)
        else:
            request = request_of_body(body, self._reading.model, sample or 0)
        tools = bool(request.parameters.tools or body.get("tools") or body.get("functions"))
        known = {name: facts[name] for name in RESTORED if name in facts}
        if facts:
            known["error"] = row.get("error")
        answers = []
        for number, completion in enumerate(_completions(response, status, row, facts, tools)):
            identity = response.get("id")
            answers.append(
                Answer(
                    where,
                    request,
                    Completion.model_validate({**completion.model_dump(), **known}),
                    f"{identity}#{number}" if identity else None,
                    facts.get("created_at") or _moment(response.get("created")),
                    facts.get("cost_usd"),
                    sample,
                    facts.get("uncertain_usd") or 0.0,
                )
            )
        return answers


def _response(row: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The response object, empty where there is none, and the batch's status code."""
    response, status = row.get("response"), None
    if isinstance(response, dict) and "choices" not in response and "body" in response:
        response, status = response["body"], response.get("status_code")
    if response is None:
        return {}, status
    if not isinstance(response, dict):
        raise ValueError("'response' is not an object")
    return response, status


def _completions(
    response: Mapping[str, Any],
    status: int | None,
    row: Mapping[str, Any],
    facts: Mapping[str, Any],
    tools: bool,
) -> list[Completion]:
    choices = response.get("choices")
    if isinstance(choices, list) and choices:
        return [
            completion_of_choice(response, choice, tools, split=not facts) for choice in choices
        ]
    if response.get("type") == "message":
        return [completion_of_message(response)]
    error = row.get("error") or response.get("error")
    if error or facts.get("outcome") == Outcome.FAILED:
        return [Completion(outcome=Outcome.FAILED, error=_said(error), status=status)]
    raise ValueError("its response has no choices")


def _unwrapped(request: Any, name: str) -> Mapping[str, Any]:
    if isinstance(request, dict) and "messages" not in request and "body" in request:
        request = request["body"]
    if not isinstance(request, dict):
        raise ValueError(f"{name!r} is not an object")
    return request


def _said(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or error
    return str(error or "failed, the log does not say why")


def _moment(created: Any) -> str | None:
    if isinstance(created, bool) or not isinstance(created, int | float) or created <= 0:
        return None
    try:
        return datetime.fromtimestamp(created, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return None
