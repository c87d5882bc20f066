"""Who sends: accounts with their customer, payer, plan, addresses, devices and programs.

Names say nothing: identifiers are random, so that no class can be read off one. Addresses are of
the private range 10/8, network numbers of the private range of RFC 6996.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from overproof.records.traffic import Event

__all__ = ["AGENTS", "Client", "Job", "address", "addresses", "identifier", "network", "subnet"]

DAY_S = 86_400.0
FIRST_ASN = 64_512
ISPS, CLOUDS, CAMPUSES = 40, 8, 12
AGENTS = {
    "browser": ("Mozilla/5.0 (Windows NT 10.0) Chrome/131", "Mozilla/5.0 (Macintosh) Safari/18.2",
                "Mozilla/5.0 (X11; Linux) Firefox/133", "Mozilla/5.0 (iPhone) Safari/18.1",
                "Mozilla/5.0 (Linux; Android 15) Chrome/131"),
    "sdk": ("openai-python/2.8.1", "openai-python/3.1.0", "anthropic-python/2.4.0",
            "openai-node/6.2.0", "python-requests/2.32", "aiohttp/3.12", "litellm/1.81",
            "Go-http-client/2.0", "okhttp/5.1", "anthropic-typescript/0.70"),
    "cli": ("codewright-cli/1.9", "codewright-cli/1.11", "shellmate/0.8.2", "patchpilot/2.3"),
}  # fmt: skip


class Job(msgspec.Struct, gc=False):
    """What is asked in one request, whoever's account it goes through."""

    model: str
    messages: list[dict[str, str]]
    params: dict[str, Any]
    into: int
    out: int
    reasoning: int | None = None
    tools: tuple[str, ...] | None = None
    finish: str = "stop"
    refused: bool = False
    endpoint: str = "chat.completions"


def identifier(rng: Random, prefix: str, bits: int = 56) -> str:
    """A random name with a prefix."""
    return f"{prefix}_{rng.getrandbits(bits):0{bits // 4}x}"


def network(rng: Random, kind: str) -> int:
    """A network number: of an ``isp``, a ``cloud`` or a ``campus``."""
    if kind == "isp":
        return FIRST_ASN + rng.randrange(ISPS)
    if kind == "cloud":
        return FIRST_ASN + ISPS + rng.randrange(CLOUDS)
    return FIRST_ASN + ISPS + CLOUDS + rng.randrange(CAMPUSES)


def subnet(rng: Random) -> str:
    """The first three bytes of an address."""
    return f"10.{rng.randrange(256)}.{rng.randrange(256)}."


def address(rng: Random, within: str | None = None) -> str:
    """One address, of a subnet where one is given."""
    return f"{within or subnet(rng)}{rng.randrange(1, 255)}"


def addresses(rng: Random, n: int, within: str | None = None) -> tuple[str, ...]:
    """``n`` addresses; the earlier are the more used."""
    return tuple(address(rng, within) for _ in range(n))


@dataclass(slots=True)
class Client:
    """One account and how its requests look on the wire.

    ``created`` is in seconds since the epoch; of addresses, agents and devices the first are used
    most.
    """

    account: str
    org: str | None
    payer: str | None
    plan: str
    use: str | None
    created: float | None
    asn: int
    ips: Sequence[str]
    agents: Sequence[str]
    devices: Sequence[str | None] = field(default=(None,))
    spread: float = 2.0

    def event(self, ts: float, job: Job, rng: Random, status: int | None = None) -> Event:
        """The request as the provider's log would have it, before it is answered."""
        random = rng.random
        ips, agents, devices = self.ips, self.agents, self.devices
        return Event(
            ts=round(ts, 3),
            request_id="",
            account=self.account,
            model=job.model,
            endpoint=job.endpoint,
            org=self.org,
            payer=self.payer,
            plan=self.plan,
            declared_use=self.use,
            account_created=self.created,
            ip=ips[int(random() ** self.spread * len(ips))] if len(ips) > 1 else ips[0],
            asn=self.asn,
            user_agent=agents[int(random() ** 3 * len(agents))] if len(agents) > 1 else agents[0],
            device=devices[int(random() ** 3 * len(devices))] if len(devices) > 1 else devices[0],
            messages=job.messages,
            tools=job.tools,
            params=job.params,
            input_tokens=job.into,
            output_tokens=job.out,
            reasoning_tokens=job.reasoning,
            status=status,
            finish_reason=job.finish,
            refused=job.refused,
        )
