"""What was served, and its ghosts: the provider's log as the ghosts test reads it.

JSONL, one request a line: ``{"prompt", "served", "ghosts": […], "group"}``. An answer is a text,
or an object with ``text`` and, where known, ``tokens``, ``finish_reason`` and ``logprobs``: total
log-probs in nats by model, such as ``{"suspect": -41.2, "reference": -44.0, "teacher": -39.5}``.
Optional beside them: ``id``, ``retries`` (how often the served answer was drawn anew), ``cached``
(it came from a cache), ``position`` (which of the answers was served, in the order in which they
were generated). Lines of one ``group`` share a pool of ghosts and list the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overproof.audit.commitments import SealedRequest
from overproof.audit.folding import fold_content, fold_name, fold_text
from overproof.errors import DataError
from overproof.records.hashing import canonical_json, content_hash
from overproof.records.log_lines import json_rows

__all__ = [
    "LOWEST_LOGPROB",
    "Answer",
    "Pool",
    "Pooling",
    "ServedRequest",
    "pool_key",
    "pools_of",
    "read_served",
    "requests_of_log",
]

LOWEST_LOGPROB = -1e7
"""Nats: no answer that was drawn is less likely, and sums beyond it lose their precision."""
MOST = 10**9  # of a count
FORM = 'one object a line: {"prompt": …, "served": …, "ghosts": […], "group": …}'


@dataclass(frozen=True)
class Answer:
    """One answer of the teacher.

    Attributes:
        text: as it was drawn.
        tokens: its length in tokens; None where unknown.
        logprobs: total log-prob in nats given the prompt, by model.
        finish_reason: as the server told it.
    """

    text: str
    tokens: int | None = None
    logprobs: Mapping[str, float] = field(default_factory=dict)
    finish_reason: str | None = None


@dataclass(frozen=True)
class ServedRequest:
    """One request of the log: what went out and what could have.

    Attributes:
        where: FILE:LINE, or the name of a record.
        id: the provider's name of it, or ``where``.
        prompt: text, or a list of messages.
        served: the answer that went out.
        ghosts: i.i.d. answers that did not.
        group: requests that share their ghosts have one in common.
        retries: how often the served answer was drawn anew.
        cached: whether it came from a cache.
        position: which of the answers was served, in order of generation.
    """

    where: str
    id: str
    prompt: Any
    served: Answer
    ghosts: tuple[Answer, ...]
    group: str | None = None
    retries: int = 0
    cached: bool = False
    position: int | None = None

    @property
    def prompt_key(self) -> str:
        """The same for prompts that differ in case, white space and invisible characters alone."""
        return content_hash(fold_content(self.prompt))


@dataclass(frozen=True)
class Pool:
    """Answers to one prompt that are permuted together, the ``served`` first ones served."""

    ids: tuple[str, ...]
    prompt: Any
    answers: tuple[Answer, ...]
    served: int
    cluster: str
    position: int | None = None

    @property
    def ghosts(self) -> int:
        """K."""
        return len(self.answers) - self.served


@dataclass(frozen=True)
class Pooling:
    """Pools, and what was left out to make them: always by rules blind to which was served.

    Attributes:
        pools: independent of each other under the null hypothesis.
        cached: requests left out because they were answered from a cache.
        duplicates: requests left out because their prompt came before and answers repeat, or
            because the very same answers came before, under whatever prompt.
        retried: requests whose served answer was drawn anew (kept; the test refuses them).
        cancelled: answers that ended in a cancellation.
    """

    pools: tuple[Pool, ...]
    cached: int = 0
    duplicates: int = 0
    retried: int = 0
    cancelled: int = 0

    @property
    def requests(self) -> int:
        """How many there were before any was left out as cached or repeated."""
        return sum(pool.served for pool in self.pools) + self.cached + self.duplicates


def read_served(path: Path) -> list[ServedRequest]:
    """Read a log of served answers and their ghosts.

    Raises:
        DataError: the file cannot be read, holds nothing, names an id twice (invisible characters
            make no other name), or has a line that is not of the form; file and line are named.
    """
    requests: list[ServedRequest] = []
    seen: dict[str, str] = {}
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, FORM)
        try:
            request = _request(where, row)
        except ValueError as error:
            raise DataError(where, str(error), FORM) from error
        name = fold_name(request.id)
        if name in seen:
            raise DataError(
                where, f"has the id {request.id!a} of {seen[name]}", "log each request once"
            )
        seen[name] = where
        requests.append(request)
    if not requests:
        raise DataError(str(path), "holds no request", FORM)
    return requests


def _request(where: str, row: Mapping[str, Any]) -> ServedRequest:
    prompt = row.get("prompt")
    if not (isinstance(prompt, str) or _are_messages(prompt)):
        raise ValueError("its prompt is neither a text nor a list of messages, each with a role")
    canonical_json(prompt)  # a number in a message may be infinite, which no hash can tell
    if "served" not in row:
        raise ValueError("it does not say what was served")
    ghosts = row.get("ghosts")
    if not isinstance(ghosts, list) or not ghosts:
        raise ValueError("it has no ghosts: nothing to rank the served answer among")
    group = row.get("group")
    if group is not None and not isinstance(group, str | int):
        raise ValueError("its group is neither a text nor a number")
    cached = row.get("cached", False)
    if not isinstance(cached, bool):
        raise ValueError("its cached is neither true nor false")
    if row.get("slot") is not None:
        _whole(row["slot"], "slot")
    position = row.get("position")
    if position is not None and not 0 <= _whole(position, "position") <= len(ghosts):
        raise ValueError(f"its position {position} is none of its {len(ghosts) + 1} answers")
    name = row.get("id")
    if name is not None and not isinstance(name, str | int):
        raise ValueError("its id is neither a text nor a number")
    return ServedRequest(
        where=where,
        id=where if name is None else str(name),
        prompt=prompt,
        served=_answer(row["served"], "served answer"),
        ghosts=tuple(_answer(g, f"ghost {i + 1}") for i, g in enumerate(ghosts)),
        group=None if group is None else str(group),
        retries=_whole(row.get("retries", 0), "retries"),
        cached=cached,
        position=position,
    )


def _are_messages(prompt: Any) -> bool:
    return isinstance(prompt, list) and bool(prompt) and all(
        isinstance(each, Mapping) and isinstance(each.get("role"), str) for each in prompt
    )  # fmt: skip


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError(f"its {name} is not a count from 0 to {MOST:,}")
    return value


def _answer(value: Any, name: str) -> Answer:
    if isinstance(value, str):
        return Answer(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise ValueError(f"its {name} is neither a text nor an object with a text")
    logprobs = value.get("logprobs") or {}
    if not isinstance(logprobs, Mapping):
        raise ValueError(f"the logprobs of its {name} are not numbers by model")
    for model, number in logprobs.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"the log-prob of its {name} under {model} is not a number")
        # Compared before it is made a float: a whole number may be too large for one.
        if not LOWEST_LOGPROB <= number <= 1e-6:
            raise ValueError(
                f"the log-prob of its {name} under {model} is not between {LOWEST_LOGPROB:g} and 0"
            )
    tokens = value.get("tokens")
    if tokens is not None and _whole(tokens, f"{name}'s tokens") < 1:
        raise ValueError(f"the tokens of its {name} are 0")
    finish = value.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise ValueError(f"the finish_reason of its {name} is not a text")
    return Answer(value["text"], tokens, {k: float(v) for k, v in logprobs.items()}, finish)


def requests_of_log(sealed: Sequence[SealedRequest]) -> list[ServedRequest]:
    """The requests of a committed log, opened."""
    requests = []
    for item in sealed:
        marks, unknown = item.marks, (None,) * len(item.answers)
        answers = [
            Answer(text, tokens, {} if teacher is None else {"teacher": teacher}, finish)
            for text, tokens, teacher, finish in zip(
                item.answers, marks.tokens or unknown, marks.teacher or unknown,
                marks.finish_reasons or unknown, strict=True,
            )
        ]  # fmt: skip
        chosen = item.index.served
        requests.append(
            ServedRequest(
                where=item.id,
                id=item.id,
                prompt=item.prompt,
                served=answers[chosen],
                ghosts=tuple(answers[:chosen] + answers[chosen + 1 :]),
                group=item.group,
                retries=marks.retries,
                cached=marks.cached,
                position=chosen,
            )
        )
    return requests


def pools_of(requests: Sequence[ServedRequest]) -> Pooling:
    """Put requests that share ghosts together, and leave out what repeats.

    Requests of one prompt stay apart (or, of one group, permuted together) as long as all their
    answers differ. Where any answer repeats among *all* answers to that prompt, served or not, a
    cache may have been at work, and only the prompt's first request is kept: its answer cannot be
    a copy. Pools with the very same answers, under whatever prompts, are copies too, and the first
    is kept. All rules look at answers without asking which were served, so they leave the null
    distribution as it is.

    Raises:
        DataError: requests of one group with other prompts or other ghosts.
    """
    fresh = [request for request in requests if not request.cached]
    grouped: dict[str, list[ServedRequest]] = {}
    for number, request in enumerate(fresh):
        name = f"line {number}" if request.group is None else f"group {request.group}"
        grouped.setdefault(name, []).append(request)
    clusters: dict[str, list[list[ServedRequest]]] = {}
    for members in grouped.values():
        _check_group(members)
        clusters.setdefault(members[0].prompt_key, []).append(members)
    pools: list[Pool] = []
    duplicates = 0
    for groups in clusters.values():
        count = sum(len(members) for members in groups)
        if count > 1 and _repeats(groups):
            groups, duplicates = [groups[0][:1]], duplicates + count - 1  # noqa: PLW2901
        pools.extend(_pool(members) for members in groups)
    first: dict[tuple[str, ...], Pool] = {}
    for pool in pools:
        first.setdefault(pool_key(pool), pool)
    duplicates += sum(pool.served for pool in pools)
    pools = list(first.values())
    duplicates -= sum(pool.served for pool in pools)
    return Pooling(
        pools=tuple(pools),
        cached=len(requests) - len(fresh),
        duplicates=duplicates,
        retried=sum(request.retries > 0 for request in fresh),
        cancelled=sum(
            (answer.finish_reason or "").lower() in ("cancelled", "canceled", "abort", "aborted")
            for pool in pools
            for answer in pool.answers
        ),
    )


def pool_key(pool: Pool) -> tuple[str, ...]:
    """The same for pools that hold the same answers, in whatever order, and whichever served."""
    return tuple(sorted(fold_text(answer.text) for answer in pool.answers))


def _check_group(members: Sequence[ServedRequest]) -> None:
    first = members[0]
    texts = Counter(ghost.text for ghost in first.ghosts)
    for other in members[1:]:
        if other.prompt_key != first.prompt_key:
            raise DataError(
                other.where,
                f"shares the group {first.group!r} with {first.where}, but not its prompt",
                "a group is the requests of one prompt that share a pool of ghosts",
            )
        if Counter(ghost.text for ghost in other.ghosts) != texts:
            raise DataError(
                other.where,
                f"shares the group {first.group!r} with {first.where}, but not its ghosts",
                "list the same ghosts with each request of a group, or give each its own group",
            )


def _repeats(groups: Sequence[Sequence[ServedRequest]]) -> bool:
    texts: list[str] = []
    for members in groups:
        texts.extend(ghost.text for ghost in members[0].ghosts)
        texts.extend(member.served.text for member in members)
    return len(set(texts)) < len(texts)


def _pool(members: Sequence[ServedRequest]) -> Pool:
    first = members[0]
    return Pool(
        ids=tuple(member.id for member in members),
        prompt=first.prompt,
        answers=(*(member.served for member in members), *first.ghosts),
        served=len(members),
        cluster=first.prompt_key,
        position=first.position if len(members) == 1 else None,
    )
