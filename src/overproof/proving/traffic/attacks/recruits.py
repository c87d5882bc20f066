"""An attacker's accounts: made in bursts, tied in small clusters, banned in part, replaced.

Not everything is shared by all: a cluster of a few accounts has a payer or a device in common, and
addresses come from a pool of proxies. After a ban, accounts made elsewhere take over the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from overproof.proving.traffic.identity import (
    AGENTS,
    DAY_S,
    Client,
    addresses,
    identifier,
    network,
)
from overproof.proving.traffic.queues import Roster
from overproof.proving.traffic.world import FLAGSHIP, RELEASED, World

__all__ = ["Force", "force", "pivot"]

USES = ("chat", "coding", "research", "education", None, None)


@dataclass(frozen=True)
class Force:
    """All accounts of a campaign, with the moments (s since the epoch) they join or are banned."""

    joins: tuple[tuple[float, Client], ...]
    bans: tuple[tuple[float, str], ...] = ()

    @property
    def clients(self) -> list[Client]:
        """Every account, successors too."""
        return [client for _, client in self.joins]

    def roster(self) -> Roster:
        """As the accounts of a shared queue."""
        return Roster(self.joins, self.bans)


@dataclass(frozen=True)
class _Proxies:
    """What an attacker's accounts come through, and how much of the rest clusters share."""

    sharing: float
    addresses: tuple[str, ...]
    networks: tuple[int, ...]


def force(
    world: World,
    rng: Random,
    n: int,
    span: tuple[float, float],
    *,
    sharing: float,
    banned: float = 0.0,
) -> Force:
    """Accounts of one campaign.

    Args:
        world: the log's.
        rng: of everything about them.
        n: at work at a time.
        span: of the campaign, in seconds since the epoch.
        sharing: how much the members of a cluster have in common, 0 to 1.
        banned: share that the provider bans half-way, and that is replaced within three days.
    """
    begin, end = span
    proxies = _Proxies(
        sharing,
        addresses(rng, max(4, 3 * n)),
        tuple(network(rng, "isp") for _ in range(max(1, n // 6))),
    )
    first = _recruits(world, rng, n, begin, proxies)
    stretch = min(6 * 3_600.0, 0.05 * (end - begin))
    joins = [(begin + rng.random() * stretch, client) for client in first]
    bans: list[tuple[float, str]] = []
    lost = round(n * banned)
    if lost:
        at = begin + rng.uniform(0.35, 0.65) * (end - begin)
        gone = rng.sample(first, lost)
        bans = [(at + rng.random() * 7_200.0, client.account) for client in gone]
        back = at + rng.uniform(2.0, 72.0) * 3_600.0
        if back < end:
            later = _recruits(world, rng, lost, back, proxies, fresh=True)
            joins += [(back + rng.random() * stretch, client) for client in later]
    return Force(tuple(joins), tuple(bans))


def _recruits(
    world: World,
    rng: Random,
    n: int,
    begin: float,
    by: _Proxies,
    *,
    fresh: bool = False,
) -> list[Client]:
    bursts = [begin - rng.uniform(0.2, 2.0 if fresh else 15.0) * DAY_S for _ in range(1 + n // 40)]
    program = rng.choice(AGENTS["sdk"])
    sharing, proxies = by.sharing, by.addresses
    found: list[Client] = []
    while len(found) < n:
        size = min(1 + int(rng.expovariate(1.0 / 2.0)), n - len(found))
        payer = identifier(rng, "pay") if rng.random() < sharing else None
        device = identifier(rng, "dev", 48) if rng.random() < 0.6 * sharing else None
        near = rng.sample(proxies, min(3, len(proxies))) if rng.random() < sharing else []
        for _ in range(size):
            aged = not fresh and rng.random() < 0.12  # bought, with a past
            made = (
                world.tenure(rng, 0.0)
                if aged
                else min(rng.choice(bursts) + rng.expovariate(1.0 / 5_400.0), begin)
            )
            own = rng.sample(proxies, min(rng.randint(2, 8), len(proxies)))
            found.append(
                Client(
                    account=identifier(rng, "acct"),
                    org=None if rng.random() < 0.7 else identifier(rng, "org"),
                    payer=payer or identifier(rng, "pay"),
                    plan=rng.choice(("pro", "pro", "pro", "team")),
                    use=rng.choice(USES),
                    created=made,
                    asn=rng.choice(by.networks),
                    ips=tuple(dict.fromkeys((*near, *own))),
                    agents=(program if rng.random() < 0.7 else rng.choice(AGENTS["sdk"]),),
                    devices=(
                        device or (identifier(rng, "dev", 48) if rng.random() < 0.5 else None),
                    ),
                    spread=1.0,
                )
            )
    return found


def pivot(world: World, rng: Random) -> Callable[[float], str]:
    """Which model a campaign asks: four in five move half their traffic within a day of release."""
    if rng.random() > 0.8:
        return lambda _: FLAGSHIP
    learned = world.release + rng.uniform(0.3, 8.0) * 3_600.0
    ramp = rng.uniform(6.0, 24.0) * 3_600.0
    chance = world.rng("pivot", rng.random()).random

    def model(ts: float) -> str:
        return RELEASED if (ts - learned) / ramp > chance() else FLAGSHIP

    return model
