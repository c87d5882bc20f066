"""What guard remembers of one account: counts and small sketches, never text.

Every field is a plain number, bytes or a small array, made only when there is something to put in
it, since most accounts send a handful of requests. `AccountState.add` is on the path of every
request, so it is written out in full rather than nicely.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import isfinite, nan
from sys import intern
from typing import Any

from overproof.guard.counters import (
    BYTE,
    MOST,
    NO_TURNS,
    BottomK,
    bump,
    distinct,
    ranked,
    with_value,
)
from overproof.guard.pivot import NAME, Move, Pivot, stronger
from overproof.records.traffic import Event, Sketch

__all__ = ["CAPABILITIES", "DAYS", "NO_CAPABILITIES", "AccountState"]

HOUR_S = 3600
DAY_S = 86400
WEEK_H = 168
MONDAY_H = 72  # the epoch was a Thursday
DAYS = 64
CAPABILITIES = 16
TECHNIQUES = 63
MODELS = 7  # besides the first
SYSTEMS, TEMPLATES, OPENINGS, CLOSINGS = range(4)
TEMPERATURES = 8
HOTTEST = 100.0
CHANGES = 4
LATELY = 32 * 4  # bytes: 32 prompts of four bytes each
TOKENS = 1 << 31  # no request has more; a hostile log might say so
SAMPLES = 1 << 10
TOO_MANY = 429
REFUSALS = ("content_filter", "refusal")

_BITS = tuple(1 << hour for hour in range(WEEK_H))
NO_CAPABILITIES: array[int] = array("I", bytes(4 * CAPABILITIES))
"""Shared by every account without text; never written to."""


class AccountState:
    """One account's past.

    Attributes:
        index: of the account in its `Accounts`; never used twice.
        created: NaN where unknown. known_since; first_seen, last_seen: of this term. Event time.
        requests: all of them; sketched: those with a sketch; described: those with parameters.
        tokens_in, tokens_out, refused, failed (status ≥ 400), throttled (429): sums.
        daily: requests by day of age, the first 64 days. active_days: days of age with a request.
        hours: bit mask of the UTC hours of the week with a request, Monday 0:00 first.
        hour_days: for each UTC hour of the day, in how many clock hours there was a request.
        peak_hour, peak_day: most requests in a clock hour and in a day of age.
        elicitation, rubric, synthesis: how many requests have the trait, each counted by how
            certain the text model is.
        techniques: bit mask. technique_requests, technique_refused: requests.
        capabilities: requests by kind of task, 16 of them.
        turns: a `BottomK` sample of the user turns with their counts.
        repeats: requests whose whole prompt is one of the last 32.
        temperatures: the distinct ones, at most 8. sampled: requests for more than one sample.
        samples: samples asked for beyond the first. logprobs: requests that ask for log-probs.
        changes: (time, "org" or "payer", before, after), the last 4 of ``changed``.
    """

    __slots__ = (
        "_addresses", "_agents", "_day", "_day_count", "_devices", "_home", "_home_requests",
        "_hour", "_hour_count", "_lately", "_networks", "_others", "_pivot", "_texts", "account",
        "active_days", "best_pivot", "capabilities", "changed", "changes", "created", "daily",
        "declared_use", "described", "elicitation", "failed", "first_seen", "hour_days", "hours",
        "index", "known_since", "last_seen", "logprobs", "org", "payer", "peak_day", "peak_hour",
        "plan", "refused", "repeats", "requests", "rubric", "sampled", "samples", "sketched",
        "synthesis", "technique_refused", "technique_requests", "techniques", "temperatures",
        "throttled", "tokens_in", "tokens_out", "turns",
    )  # fmt: skip

    def __init__(self, index: int, account: str, first_seen: float) -> None:
        self.index = index
        self.account = account
        self.org: str | None = None
        self.payer: str | None = None
        self.plan: str | None = None
        self.declared_use: str | None = None
        self.created = nan
        self.first_seen = self.last_seen = self.known_since = first_seen
        self.requests = self.sketched = self.described = 0
        self.tokens_in = self.tokens_out = 0
        self.refused = self.failed = self.throttled = 0
        self.daily: array[int] = array("I", (0,))
        self.active_days = 0
        self.hours = 0
        self.hour_days = bytes(24)
        self.peak_hour = self.peak_day = 0
        self._day = -1
        self._day_count = 0
        self._hour = -1
        self._hour_count = 0
        self.elicitation = self.rubric = self.synthesis = 0.0
        self.techniques = self.technique_requests = self.technique_refused = 0
        self.capabilities = NO_CAPABILITIES
        self._home: str | None = None
        self._home_requests = 0
        self._others: dict[str, list[Any]] | None = None
        self._pivot: Pivot | None = None
        self.best_pivot: Move | None = None
        self._texts: array[int] | None = None
        self.turns = NO_TURNS
        self._lately = b""
        self.repeats = 0
        self.temperatures: tuple[float, ...] = ()
        self.sampled = self.samples = self.logprobs = 0
        self._addresses = self._devices = self._agents = self._networks = b""
        self.changed = 0
        self.changes: tuple[tuple[float, str, str, str], ...] = ()

    # ------------------------------------------------------------ read

    @property
    def systems(self) -> dict[int, int]:
        """Hash of a system prompt to requests with it at the least; the 8 commonest."""
        return ranked(self._texts, SYSTEMS)

    @property
    def templates(self) -> dict[int, int]:
        """Hash of a template to requests with it at the least; the 8 commonest."""
        return ranked(self._texts, TEMPLATES)

    @property
    def openings(self) -> dict[int, int]:
        """Hash of an opening to requests with it at the least; the 8 commonest."""
        return ranked(self._texts, OPENINGS)

    @property
    def closings(self) -> dict[int, int]:
        """Hash of a closing to requests with it at the least; the 8 commonest."""
        return ranked(self._texts, CLOSINGS)

    @property
    def addresses(self) -> float:
        """How many distinct addresses; exact below 16."""
        return distinct(self._addresses)

    @property
    def devices(self) -> float:
        """How many distinct devices; exact below 16."""
        return distinct(self._devices)

    @property
    def agents(self) -> float:
        """How many distinct user agents; exact below 16."""
        return distinct(self._agents)

    @property
    def networks(self) -> float:
        """How many distinct autonomous systems; exact below 16."""
        return distinct(self._networks)

    @property
    def models(self) -> dict[str, list[Any]]:
        """Name to [first time, requests], a copy; the first model and the last 7 others in use."""
        if self._home is None:
            return {}
        models: dict[str, list[Any]] = {self._home: [self.first_seen, self._home_requests]}
        for model, seen in (self._others or {}).items():
            models[model] = list(seen)
        return models

    @property
    def moved_on(self) -> bool:
        """Has it used more than one model? Cheaper than `models`."""
        return self._others is not None

    @property
    def active_hours(self) -> int:
        """Clock hours with a request (each hour of the day counts 255 days at most)."""
        return sum(self.hour_days)

    @property
    def pivot(self) -> Move | None:
        """The strongest move to a new model so far; None with a single model."""
        if self._pivot is None:
            return None
        return stronger(self.best_pivot, self._pivot.move)

    # ------------------------------------------------------------ one request

    def add(self, event: Event, sketch: Sketch | None) -> None:
        """One more request. Time may go back by minutes; any optional field may be missing."""
        self.requests += 1
        self._add_time(event.ts)
        refused = event.refused
        if refused is None:
            refused = event.finish_reason in REFUSALS
        if refused:
            self.refused += 1
        self._add_outcome(event)
        if event.model == self._home:
            self._home_requests += 1
        else:
            self._add_model(event.model, event.ts)
        if self._pivot is not None:
            self._pivot.follow(event.model, event.ts)
        if event.params:
            self._add_params(event.params)
        self._add_origin(event)
        self._add_owner(event)
        if sketch is not None:
            self._add_traits(sketch, refused)
            self._add_hashes(sketch)

    def _add_time(self, ts: float) -> None:
        if ts > self.last_seen:  # noqa: PLR1730 - here and below, a call costs more than the rest
            self.last_seen = ts
        hour = int(ts) // HOUR_S
        if hour == self._hour:
            self._hour_count = count = self._hour_count + 1
            if count > self.peak_hour:  # noqa: PLR1730
                self.peak_hour = count
        else:
            self._turn_hour(hour)
        day = int(ts - self.first_seen) // DAY_S
        if day == self._day:
            self._day_count = count = self._day_count + 1
            if count > self.peak_day:  # noqa: PLR1730
                self.peak_day = count
            if day < DAYS:
                self.daily[day] += 1
        else:
            self._turn_day(day)

    def _turn_hour(self, hour: int) -> None:
        self.hours |= _BITS[(hour + MONDAY_H) % WEEK_H]
        if hour < self._hour:
            return  # late by minutes: its hour was counted when it was the current one
        self._hour = hour
        self._hour_count = 1
        self.peak_hour = max(self.peak_hour, 1)
        at, days = hour % 24, self.hour_days
        if days[at] < MOST:
            self.hour_days = days[:at] + BYTE[days[at] + 1] + days[at + 1 :]

    def _turn_day(self, day: int) -> None:
        daily = self.daily
        if day < self._day:  # late by minutes
            day = max(day, 0)
            if day == self._day:
                self._day_count += 1
            if day < len(daily):
                daily[day] += 1
                self.peak_day = max(self.peak_day, daily[day])
            return
        self._day = day
        self._day_count = 1
        self.active_days += 1
        self.peak_day = max(self.peak_day, 1)
        if day < DAYS:
            daily.extend([0] * (day + 1 - len(daily)))
            daily[day] = 1

    def _add_outcome(self, event: Event) -> None:
        # Tokens are bounded: a log may claim anything, and a snapshot holds 64 bits.
        tokens = event.input_tokens
        if tokens is not None and 0 < tokens < TOKENS:
            self.tokens_in += tokens
        tokens = event.output_tokens
        if tokens is not None and 0 < tokens < TOKENS:
            self.tokens_out += tokens
        status = event.status
        if status is not None and status >= 400:
            self.failed += 1
            if status == TOO_MANY:
                self.throttled += 1

    def _add_model(self, model: str, ts: float) -> None:
        others = self._others
        if others is not None and model in others:
            others[model][1] += 1
            return
        model = intern(model[:NAME])
        if self._home is None or model == self._home:
            self._home = model
            self._home_requests += 1
            return
        if others is None:
            others = self._others = {}
        elif model in others:
            others[model][1] += 1
            return
        if self._pivot is not None:
            self.best_pivot = stronger(self.best_pivot, self._pivot.move)
        self._pivot = Pivot(model, ts, self.requests - 1)
        if len(others) == MODELS:
            del others[min(others, key=lambda name: (others[name][1], others[name][0]))]
        others[model] = [ts, 1]

    def _add_params(self, params: Mapping[str, Any]) -> None:
        self.described += 1
        warmth = params.get("temperature")
        if warmth is not None and warmth not in self.temperatures:
            self._meet_temperature(warmth)
        number = params.get("n")
        if number is not None and number.__class__ is int and number > 1:
            self.sampled += 1
            self.samples += min(number, SAMPLES) - 1
        asked = params.get("logprobs")  # 0 asks for those of the chosen tokens
        if (asked is not None and asked is not False) or params.get("top_logprobs"):
            self.logprobs += 1

    def _meet_temperature(self, warmth: object) -> None:
        if len(self.temperatures) == TEMPERATURES or warmth.__class__ not in (int, float):
            return
        if isinstance(warmth, int | float) and 0 <= warmth <= HOTTEST:  # neither NaN nor infinite
            self.temperatures = tuple(sorted({*self.temperatures, round(float(warmth), 2)}))

    def _add_origin(self, event: Event) -> None:
        if event.ip is not None:
            self._addresses = with_value(self._addresses, event.ip)
        if event.user_agent is not None:
            self._agents = with_value(self._agents, event.user_agent)
        if event.device is not None:
            self._devices = with_value(self._devices, event.device)
        if event.asn is not None:
            self._networks = with_value(self._networks, event.asn)

    def _add_owner(self, event: Event) -> None:
        org = event.org
        if org is not None and org != self.org:
            self._change(event.ts, "org", self.org, org)
            self.org = intern(org)
        payer = event.payer
        if payer is not None and payer != self.payer:
            self._change(event.ts, "payer", self.payer, payer)
            self.payer = intern(payer)
        if event.plan != self.plan and event.plan is not None:
            self.plan = intern(event.plan)
        if event.declared_use != self.declared_use and event.declared_use is not None:
            self.declared_use = intern(event.declared_use)
        created = event.account_created
        if created is not None and created != self.created and isfinite(created):
            self.created = created

    def _change(self, ts: float, what: str, before: str | None, after: str) -> None:
        if before is None:
            return  # learnt, not changed
        self.changed += 1
        self.changes = (*self.changes, (ts, what, before, intern(after)))[-CHANGES:]

    def _add_traits(self, sketch: Sketch, refused: bool) -> None:
        self.sketched += 1
        # A comparison is false for what is no number.
        if 0.0 <= sketch.elicitation <= 1.0:
            self.elicitation += sketch.elicitation
        if 0.0 <= sketch.rubric <= 1.0:
            self.rubric += sketch.rubric
        if 0.0 <= sketch.synthesis <= 1.0:
            self.synthesis += sketch.synthesis
        technique = sketch.technique
        if 0 < technique < TECHNIQUES:
            self.techniques |= 1 << technique
            self.technique_requests += 1
            if refused:
                self.technique_refused += 1
        capability = sketch.capability
        if 0 <= capability < CAPABILITIES:
            if self.capabilities is NO_CAPABILITIES:
                self.capabilities = NO_CAPABILITIES[:]
            self.capabilities[capability] += 1

    def _add_hashes(self, sketch: Sketch) -> None:
        texts = self._texts
        if sketch.system:
            texts = bump(texts, SYSTEMS, sketch.system)
        if sketch.template:
            texts = bump(texts, TEMPLATES, sketch.template)
        if sketch.opening:
            texts = bump(texts, OPENINGS, sketch.opening)
        if sketch.closing:
            texts = bump(texts, CLOSINGS, sketch.closing)
        self._texts = texts
        if sketch.turn:
            if self.turns is NO_TURNS:
                self.turns = BottomK()
            self.turns.add(sketch.turn)
        if sketch.prompt:
            short = (sketch.prompt & 0xFFFFFFFF).to_bytes(4, "little")
            if short in self._lately:
                self.repeats += 1
            else:
                self._lately = (short + self._lately)[:LATELY]
