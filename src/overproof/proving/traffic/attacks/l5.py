"""L5: real users' sessions replayed, each account at its own pace: the text gives nothing away."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.attacks.recruits import Force, force
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Client
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.talk import MEAN_TURNS, chatter
from overproof.proving.traffic.world import World

__all__ = ["LEVEL", "campaign"]

LEVEL = "L5"
A_DAY = 26.0


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """Accounts without a common queue; what they share is how they came to be."""
    begin = world.start + 0.1 * rng.random() * (world.end - world.start)
    recruited = force(world, rng, size, (begin, world.end), sharing=0.15)
    actors = []
    for joined, client in recruited.joins:

        def stream(client: Client = client, joined: float = joined) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, "attack", name, name, LEVEL)
            zone = world.zone(own)
            asked = chatter(
                world.talk(world.language(own, zone)),
                own,
                (joined, world.end),
                A_DAY / MEAN_TURNS,
                world.shape("consumer", zone),
                model=world.models(own),
            )
            return alone(client, asked, own)

        actors.append(Actor(joined, stream))
    return recruited, actors
