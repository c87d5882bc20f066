"""The world of one log: its calendar, its models, its texts, and who was enrolled in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from overproof.config.traffic import TrafficPlan
from overproof.proving.traffic.arrivals import Shape
from overproof.proving.traffic.identity import (
    AGENTS,
    DAY_S,
    Client,
    addresses,
    identifier,
    network,
)
from overproof.proving.traffic.talk import Talk
from overproof.proving.traffic.texts import Bank
from overproof.records.traffic import Truth

__all__ = ["FLAGSHIP", "LIGHT", "RELEASED", "World"]

LIGHT, FLAGSHIP, RELEASED = "atlas-3-mini", "atlas-3", "atlas-4"
# Published clients sit where the market is: hours ahead of UTC, with weights.
ZONES = (-8, -6, -5, 0, 1, 1, 2, 3, 5, 8, 8, 9)
MOST_TENURE_D = 900.0
# Requests a day of the median tenant of a public cloud (ServeGen).
PUBLISHED_MEDIAN = 37_867.0


class World:
    """What every stream of one simulated log shares.

    Attributes:
        plan: what was asked for.
        start, end, release: seconds since the epoch.
        bank: the texts.
        truths: of accounts enrolled that have sent nothing yet, by account.
        exempt: accounts and organisations whose declared use is permitted.
    """

    def __init__(self, plan: TrafficPlan, bank: Bank) -> None:
        self.plan = plan
        self.bank = bank
        self.start = plan.start_s
        self.end = plan.end_s
        self.release = self.start + plan.release_at * (self.end - self.start)
        self.truths: dict[str, Truth] = {}
        self.exempt: list[dict[str, str]] = []
        self._talks: dict[str, Talk] = {}
        self._shapes: dict[tuple[str, int], Shape] = {}

    def talk(self, language: str) -> Talk:
        """What people say in a language."""
        if language not in self._talks:
            self._talks[language] = Talk(self.bank, language)
        return self._talks[language]

    def shape(self, kind: str, zone: int) -> Shape:
        """The week of a kind of client in a time zone."""
        if (kind, zone) not in self._shapes:
            self._shapes[kind, zone] = Shape(kind, zone)
        return self._shapes[kind, zone]

    def rng(self, *names: object) -> Random:
        """A stream of chance of its own for whatever is named, the same in every process."""
        return Random("/".join(map(str, (self.plan.seed, self.plan.bank, *names))))

    def enrol(
        self,
        client: Client,
        kind: str,
        group: str,
        campaign: str | None = None,
        level: str | None = None,
    ) -> Client:
        """Note the truth about an account; it counts once the account has sent something."""
        self.truths[client.account] = Truth(client.account, kind, campaign, level, group)
        return client

    def zone(self, rng: Random) -> int:
        """A time zone, in hours ahead of UTC."""
        return rng.choice(ZONES)

    def language(self, rng: Random, zone: int) -> str:
        """The language that somebody there is likely to write."""
        if zone in (8, 9):
            return "zh" if rng.random() < 0.7 else "en"
        return "en" if rng.random() < 0.96 else "zh"

    def tenure(self, rng: Random, new: float = 0.2, until: float | None = None) -> float:
        """When an account was made: a share ``new`` of them within the log, before ``until``."""
        last = self.end if until is None else until
        if rng.random() < new:
            return rng.uniform(self.start, last)
        return self.start - min(rng.expovariate(1 / 220.0), MOST_TENURE_D) * DAY_S

    def made(self, rng: Random, begin: float | None) -> float:
        """When an account was made that is used from ``begin`` on, or from when it is made.

        One in four is new and used at once: 57 % of new tenants reach their peak on day one.
        """
        if begin is None:
            return self.tenure(rng)
        if rng.random() < 0.25:
            return begin - rng.random() * DAY_S
        return min(self.tenure(rng, 0.0), begin)

    def model(self, rng: Random, light: float = 0.35) -> str:
        """The model that a client of today uses."""
        return LIGHT if rng.random() < light else FLAGSHIP

    def person(
        self,
        rng: Random,
        *,
        use: str | None = "chat",
        plan: str | None = None,
        created: float | None = None,
        begin: float | None = None,
        within: str | None = None,
        asn: int | None = None,
        agents: str = "browser",
    ) -> Client:
        """A person at home or on a campus: few addresses, one or two devices, an own payer."""
        programs = AGENTS[agents]
        free = rng.random() < 0.6
        plan = plan or ("free" if free else "pro")
        n_devices = 1 + (rng.random() < 0.35)
        return Client(
            account=identifier(rng, "acct"),
            org=None,
            payer=None if plan == "free" else identifier(rng, "pay"),
            plan=plan,
            use=use if rng.random() < 0.7 else None,
            created=self.made(rng, begin) if created is None else created,
            asn=network(rng, "isp") if asn is None else asn,
            ips=addresses(rng, 1 + int(3 * rng.random() ** 2), within),
            agents=tuple(rng.sample(programs, min(n_devices, len(programs)))),
            devices=tuple(identifier(rng, "dev", 48) for _ in range(n_devices)),
        )

    def company(
        self,
        rng: Random,
        *,
        use: str | None,
        keys: int = 1,
        plan: str | None = None,
        machines: int | None = None,
        agents: str = "sdk",
        begin: float | None = None,
    ) -> list[Client]:
        """A company's keys: one organisation, one payer, servers in one cloud, one program.

        ``begin`` is when it starts to use them; they are made before, many of them just before.
        """
        org, payer = identifier(rng, "org"), identifier(rng, "pay")
        asn = network(rng, "cloud")
        egress = addresses(rng, machines or 1 + int(6 * rng.random() ** 2))
        program = (rng.choice(AGENTS[agents]),)
        plan = plan or rng.choice(("pro", "team", "team", "enterprise"))
        begin = self.start if begin is None else begin
        founded = self.made(rng, begin)
        return [
            Client(
                account=identifier(rng, "acct"),
                org=org,
                payer=payer,
                plan=plan,
                use=use if rng.random() < 0.8 else None,
                created=min(founded + rng.expovariate(1 / 30.0) * DAY_S, begin),
                asn=asn,
                ips=egress,
                agents=program,
            )
            for _ in range(keys)
        ]

    def window(self, rng: Random, volume: float) -> tuple[float, float, float]:
        """When a heavy tenant is active, and how many requests a day that makes.

        Its rate is lognormal about the published median, scaled; its active time follows from the
        ``volume`` it has to send, and ends where the log does.
        """
        days = self.plan.days
        rate = PUBLISHED_MEDIAN * self.plan.heavy_scale * rng.lognormvariate(0.0, 1.1)
        active = min(max(volume / rate, 0.08), days)
        begin = self.start + rng.random() * (days - active) * DAY_S
        return begin, begin + active * DAY_S, volume / active

    def models(self, rng: Random, eager: float = 0.25) -> Callable[[float], str]:
        """Which model a client uses when; a share ``eager`` moves soon after the release."""
        before = self.model(rng)
        if before == LIGHT or rng.random() > 0.6:
            return lambda _: before
        lag = rng.expovariate(1.0 / (0.6 if rng.random() < eager else 9.0)) * DAY_S
        switch = self.release + 1_800.0 + lag
        return lambda ts: RELEASED if ts >= switch else before

    def params(
        self, rng: Random, temperatures: Sequence[float] = (0.0, 0.2, 0.3, 0.7, 0.7, 1.0)
    ) -> dict[str, object]:
        """Parameters of the requests of one program."""
        params: dict[str, object] = {}
        if rng.random() < 0.7:
            params["temperature"] = rng.choice(temperatures)
        if rng.random() < 0.6:
            params["max_tokens"] = rng.choice((256, 512, 1024, 1024, 2048, 4096))
        if rng.random() < 0.2:
            params["top_p"] = rng.choice((0.9, 0.95, 1.0))
        if rng.random() < 0.3:
            params["stream"] = True
        return params
