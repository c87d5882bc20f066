"""One key used from many places: addresses, networks, devices, agents.

Sum of binary logarithms. Addresses count half, as one office, one telephone or one fleet of build
machines has many of them in a single network; of devices and agents the larger counts, half too.
False positives: build machines, travellers. Cannot see: one proxy in front of many places.
"""

from __future__ import annotations

from math import log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]


def _doublings(number: float) -> float:
    return log2(max(1.0, number))


def _measure(state: AccountState, _now: float) -> float:
    addresses, networks = state.addresses, state.networks
    clients = max(state.devices, state.agents)
    if not addresses and not networks and not clients:
        return nan
    return _doublings(networks) + (_doublings(addresses) + _doublings(clients)) / 2


def _detail(state: AccountState, _now: float) -> str:
    return (
        f"about {state.addresses:,.0f} addresses in {state.networks:,.0f} networks, "
        f"{state.devices:,.0f} devices and {state.agents:,.0f} user agents"
    )


SIGNAL = Signal("many_addresses", Family.NETWORK, _measure, _detail)
