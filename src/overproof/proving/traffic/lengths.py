"""How long requests and answers are, in tokens.

Azure 2023 (Splitwise traces): code 1,469 in and 13 out at the median, conversation 1,020 and 129.
ServeGen: 12 % of tenants have inputs whose lengths vary by less than 0.15 of their mean. That
a quarter of the tenants have texts written, with answers longer than what they send, is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

__all__ = ["CODE", "CONVERSATION", "NARROW_SHARE", "WRITING_SHARE", "Lengths", "tenant"]

NARROW_SHARE = 0.12
NARROW_CV = 0.12
CHARS_A_TOKEN = 4
MOST_TOKENS = 128_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lognormal lengths: medians in tokens, and the spread of their logarithms."""

    into: float
    out: float
    into_sigma: float = 0.8
    out_sigma: float = 0.9

    def draw(self, rng: Random) -> tuple[int, int]:
        """Tokens of one request and of its answer."""
        gauss = rng.gauss
        into = int(self.into * math.exp(self.into_sigma * gauss(0.0, 1.0)))
        out = int(self.out * math.exp(self.out_sigma * gauss(0.0, 1.0)))
        return min(max(into, 4), MOST_TOKENS), min(max(out, 1), MOST_TOKENS)


CODE = Lengths(1_469, 13, 0.9, 1.2)
CONVERSATION = Lengths(1_020, 129, 0.9, 0.9)
WRITING = Lengths(350, 800, 0.8, 0.7)
WRITING_SHARE = 0.25


def tenant(rng: Random, usual: Lengths) -> Lengths:
    """One tenant's own lengths around the usual ones; one in eight asks at nearly one length."""
    if rng.random() < WRITING_SHARE:
        usual = WRITING
    into = usual.into * rng.lognormvariate(0.0, 0.5)
    out = usual.out * rng.lognormvariate(0.0, 0.5)
    if rng.random() < NARROW_SHARE:
        return Lengths(into, out, NARROW_CV, usual.out_sigma)
    return Lengths(into, out, usual.into_sigma, usual.out_sigma)
