"""A black-box suspect: account-keyed phrasings, and the real key ranked among alternates.

Where a suspect gives no log-probs, the provider marks what it serves by choosing, slot by slot,
among phrasings that mean the same (or among values of a fictitious fact). The choice is keyed:
HMAC-SHA-256 (RFC 2104) of account and slot, without the key indistinguishable from chance. The
suspect is then sampled, and for each slot it is counted how often each phrasing appears.

``score(k) = Σ_slots count of the phrasing that key k chooses``, and
``p = (1 + #{j <= M: score(k_j) >= score(k*)}) / (M + 1)`` over fresh random keys. Under the null
hypothesis that the suspect does not depend on k*, the real key is one more draw from the same
distribution, so p is exact whatever the counts, however alike the suspect's answers are. Its floor
is 1/(M+1). Beside it stands the tail under the model that HMAC is a random function: exact by
convolution over slots. Keys must be random: default keys and passwords are refused.

All slots that were assigned are counted, whatever went out (intention to treat). Whether a phrasing
goes out may depend on which one it is, and with that on the key: slots kept because they went out
are kept by the real key alone, which then is no longer one draw among the alternates. With a rare
phrasing that fails to go out half of the time, an innocent suspect that likes the common one was
"found" in most simulated audits. Slots that did not go out cost power, never validity.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from overproof.audit.lattice import Lattice, upper_tail
from overproof.errors import DataError
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding
from overproof.stats.multiple import holm_adjusted_p

__all__ = [
    "MIN_ALTERNATES",
    "MIN_KEY_BYTES",
    "Slot",
    "check_key",
    "choose_phrasing",
    "describe_served",
    "key_commitment",
    "new_key",
    "phrasings_test",
    "slots_needed",
]

MIN_KEY_BYTES = 16
MIN_ALTERNATES = 999
HYPOTHESIS = (
    "what the suspect says does not depend on the secret key that chose among the phrasings"
)
NOT_PROVED = (
    "that the suspect's owner intended it: marked text may have leaked into public data",
    "that it was trained on the accounts' answers themselves: another model may stand in between, "
    "and a text in its context or found by a search would show the same phrasings",
    "how much of the log was used",
)


@dataclass(frozen=True)
class Slot:
    """One place where a phrasing was chosen, and what the suspect says there.

    Attributes:
        account: whose answers were marked.
        name: of the slot, unique within the account.
        counts: how often the suspect was seen to use each of the phrasings, in their order.

    Raises:
        ValueError: fewer than two phrasings, or a negative count.
    """

    account: str
    name: str
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) < 2 or min(self.counts) < 0:
            raise ValueError(f"slot {self.name!r} needs two phrasings or more, counted from 0")


def new_key() -> bytes:
    """A secret key of 32 bytes from the system's generator."""
    return secrets.token_bytes(32)


def key_commitment(key: bytes, salt: bytes) -> str:
    """Salted SHA-256 of a key, to be published before it is used."""
    return sha256(b"overproof-phrasings-1/key\x00" + salt + key).hexdigest()


def check_key(key: bytes) -> None:
    """Refuse a key that was not drawn at random.

    Raises:
        DataError: shorter than 16 bytes, of fewer than 8 different bytes, or a text other than 32
            hex digits or more.
    """
    if len(key) < MIN_KEY_BYTES:
        raise DataError("the key", f"has {len(key)} bytes", "draw one with new_key()")
    written = key.isascii() and key.decode().isprintable()
    if len(set(key)) < 8 or (written and not (_is_hex(key) and len(key) >= 2 * MIN_KEY_BYTES)):
        raise DataError(
            "the key", "does not look like a random draw: a default or a word", "use new_key()"
        )


def _is_hex(key: bytes) -> bool:
    return not set(key) - set(b"0123456789abcdef")


def _alternate(rng: np.random.Generator, key: bytes) -> bytes:
    """A key from the distribution that the real one was drawn from."""
    return rng.bytes(len(key) // 2).hex().encode() if _is_hex(key) else rng.bytes(len(key))


def choose_phrasing(key: bytes, account: str, slot: str, phrasings: int) -> int:
    """Which of ``phrasings`` equivalent phrasings an account gets at a slot, unbiased.

    128 bits of HMAC-SHA-256 modulo the number of phrasings: the bias is below 2^-100.
    """
    if phrasings < 2:
        raise ValueError("a choice needs two phrasings")
    digest = hmac.digest(key, _message(account, slot), "sha256")
    return int.from_bytes(digest[:16], "big") % phrasings


def _message(account: str, slot: str) -> bytes:
    name = account.encode()
    return len(name).to_bytes(4, "big") + name + slot.encode()


class _Scores:
    """Scores of any key, by account, with everything that does not depend on the key made once."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.accounts = list(dict.fromkeys(slot.account for slot in slots))
        place = {name: i for i, name in enumerate(self.accounts)}
        self._owner = np.array([place[slot.account] for slot in slots])
        self._rows = [(_message(s.account, s.name), len(s.counts), s.counts) for s in slots]

    def hits(self, key: bytes) -> npt.NDArray[np.float64]:
        """Of each slot, how often the suspect uses the phrasing that the key chooses."""
        digest, number = hmac.digest, int.from_bytes
        return np.array(
            [c[number(digest(key, m, "sha256")[:16], "big") % n] for m, n, c in self._rows], float
        )

    def of(self, key: bytes) -> npt.NDArray[np.float64]:
        """Of each account; whole numbers."""
        sums = np.bincount(self._owner, self.hits(key), len(self.accounts))
        return np.asarray(sums, dtype=np.float64)


def _null_parts(slots: Sequence[Slot]) -> list[tuple[Lattice, int]]:
    """Each slot's count under a random choice, with how many slots share it."""
    kinds: dict[tuple[int, ...], int] = {}
    for slot in slots:
        counts = tuple(sorted(slot.counts))
        kinds[counts] = kinds.get(counts, 0) + 1
    return [
        (Lattice(counts[0], np.bincount(np.array(counts) - counts[0]) / len(counts)), times)
        for counts, times in kinds.items()
    ]


def phrasings_test(
    key: bytes,
    slots: Sequence[Slot],
    *,
    alternates: int = MIN_ALTERNATES,
    seed: int = 0,
    alpha: float = 0.01,
    power: float = 0.9,
    progress: Callable[[int, int], None] | None = None,
) -> TestFinding:
    """Rank the real key among alternates by how well it explains the suspect's phrasings.

    Args:
        key: the secret key, drawn at random before it was used.
        slots: what the suspect was seen to say at all slots that were assigned, whether or not
            they went out; slots it never reached count nothing.
        alternates: M, at least 999.
        seed: of the alternate keys.
        alpha: the level; a floor above it is refused.
        power: the probability in the words on power.
        progress: called as keys are tried.

    Raises:
        DataError: a key that is no random draw, or a slot that is named twice.
        ValueError: fewer than 999 alternates.
    """
    if alternates < MIN_ALTERNATES:
        raise ValueError(f"{alternates} alternates: the floor would be above 1/1000")
    check_key(key)
    named: Mapping[tuple[str, str], Slot] = {(slot.account, slot.name): slot for slot in slots}
    if len(named) < len(slots):
        raise DataError("the slots", "name one twice", "add up its counts first")
    seen = [slot for slot in slots if len(set(slot.counts)) > 1]
    floor = 1 / (alternates + 1)
    reason = ""
    if not seen:
        reason = "the suspect uses the phrasings of every slot equally often: nothing to rank"
    elif floor > alpha:
        reason = (
            f"with {alternates} alternate keys p cannot go below {floor:.2g}, and the level is "
            f"{alpha:g}: plan {math.ceil(1 / alpha) - 1:,} keys or more"
        )
    if reason:
        return TestFinding(
            "phrasings", Standing.REFUSED, HYPOTHESIS, len(seen), "slots", reasons=(reason,)
        )
    scores = _Scores(seen)
    rng = np.random.default_rng(seed)
    real = scores.of(key)
    others = np.empty((alternates, len(real)))
    for i in range(alternates):
        others[i] = scores.of(_alternate(rng, key))
        if progress is not None and (i + 1) % 50 == 0:
            progress(i + 1, alternates)
    parts, total = _null_parts(seen), int(real.sum())
    return TestFinding(
        test="phrasings",
        standing=Standing.DONE,
        hypothesis=HYPOTHESIS,
        n=len(seen),
        unit="slots",
        p_values=_p_values(parts, total, float(_rank(real.sum(), others.sum(axis=1))), floor),
        effects=(_agreement(seen, scores.hits(key)),),
        power=_power(parts, seen, alpha, power),
        not_proved=NOT_PROVED,
        details={
            "score": total,
            "alternates": alternates,
            "alternates_mean": float(others.sum(axis=1).mean()),
            "slots": len(slots),
            "accounts": _by_account(scores.accounts, seen, real, others),
        },
    )


def describe_served(
    key: bytes, slots: Sequence[Slot], served: Collection[tuple[str, str]]
) -> dict[str, float | int | str | None]:
    """How many slots went out, and how often the suspect agrees with the key there.

    A description without a p-value: which slots went out may depend on the key.

    Args:
        key: the secret key.
        slots: all that were assigned, with what the suspect says there.
        served: account and slot of those that went out.

    Returns:
        ``assigned`` and ``served`` slots; ``match_rate``, the share of the suspect's phrasings at
        served slots that are the key's choice, and ``match_rate_elsewhere``, None where it says
        nothing; ``note``.
    """
    hits, said = {True: 0, False: 0}, {True: 0, False: 0}
    went = 0
    for slot in slots:
        out = (slot.account, slot.name) in served
        went += out
        hits[out] += slot.counts[choose_phrasing(key, slot.account, slot.name, len(slot.counts))]
        said[out] += sum(slot.counts)
    rates = {out: hits[out] / said[out] if said[out] else None for out in (True, False)}
    return {
        "assigned": len(slots),
        "served": went,
        "match_rate": rates[True],
        "match_rate_elsewhere": rates[False],
        "note": "a description without a p-value: which slots went out may depend on the key, so "
        "the test counts all that were assigned",
    }


def slots_needed(
    followed: float, phrasings: int = 2, *, alpha: float = 0.01, power: float = 0.9
) -> int:
    """Slots needed to find a suspect that follows the key at a share of them, else likes any.

    At a slot of w phrasings the chance of the key's choice is 1/w, or with a share f followed
    f + (1 - f)/w: ``n = (z_alpha + z_beta)^2 / (f^2 (w - 1))``, the normal approximation with the
    variance under the null hypothesis. Asking more than once at a slot is no second slot.

    Raises:
        ValueError: a share outside of (0, 1], fewer than two phrasings, or levels out of range.
    """
    if not 0 < followed <= 1 or phrasings < 2 or not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError("a share lies in (0, 1], levels in (0, 1), and phrasings are 2 or more")
    z = float(ndtri(1 - alpha) + ndtri(power))
    return math.ceil(z * z / (followed * followed * (phrasings - 1)) - 1e-9)


def _rank(real: float, others: npt.NDArray[np.float64]) -> float:
    return float((1 + (others >= real).sum()) / (len(others) + 1))


def _p_values(
    parts: list[tuple[Lattice, int]], total: int, rank: float, floor: float
) -> tuple[PValue, PValue]:
    tail = upper_tail(parts, total)
    alternates = round(1 / floor) - 1
    return (
        PValue(
            rank,
            Exactness.EXACT,
            f"rank of the real key among {alternates:,} random ones",
            "The real key was drawn at random like the alternates, before it was used, and neither "
            "the accounts nor the suspect's texts were chosen by it.",
            floor=floor,
        ),
        PValue(
            tail.value,
            Exactness.CONDITIONAL,
            "tail by convolution over slots, given what the suspect says",
            "HMAC-SHA-256 under the secret key chooses like chance, independently by slot.",
            log10=tail.log10,
        ),
    )


def _by_account(
    names: Sequence[str],
    slots: Sequence[Slot],
    real: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
) -> dict[str, dict[str, float]]:
    """Whose phrasings they are: each account's rank and tail, and Holm's correction of the tail."""
    if len(names) < 2:
        return {}
    tails = [
        upper_tail(_null_parts([s for s in slots if s.account == name]), int(score)).value
        for name, score in zip(names, real, strict=True)
    ]
    adjusted = holm_adjusted_p(tails)
    return {
        name: {"p": _rank(real[i], others[:, i]), "tail": tails[i], "holm": float(adjusted[i])}
        for i, name in enumerate(names)
    }


def _power(
    parts: list[tuple[Lattice, int]], slots: Sequence[Slot], alpha: float, power: float
) -> Power:
    """What share above chance would have been found, by the normal approximation of the score."""
    spread = math.sqrt(sum(part.variance * times for part, times in parts))
    uses = sum(sum(slot.counts) for slot in slots)
    room = sum(max(slot.counts) - sum(slot.counts) / len(slot.counts) for slot in slots) / uses
    shift = float(ndtri(1 - alpha) + ndtri(power)) * spread / uses
    if shift > room:
        words = (
            f"at α = {alpha:g}, what was sampled would have missed even a suspect that follows "
            "the key wherever it can (planning, by the normal approximation)"
        )
        return Power(None, power, alpha, words)
    words = (
        f"a key's choice taken ≥ {100 * shift:.2g} percentage points more often than chance would "
        f"have been found with probability {power:.0%} at α = {alpha:g} (planning, by the normal "
        "approximation)"
    )
    return Power(shift, power, alpha, words)


def _agreement(slots: Sequence[Slot], hits: npt.NDArray[np.float64]) -> Effect:
    """Share of the suspect's phrasings that are the key's choice, less what chance gives."""
    names = {name: i for i, name in enumerate(dict.fromkeys(slot.name for slot in slots))}
    owner = np.array([names[slot.name] for slot in slots])
    uses = np.array([sum(slot.counts) for slot in slots], float)
    even = np.array([sum(slot.counts) / len(slot.counts) for slot in slots])
    gain = np.bincount(owner, hits - even)  # accounts share what was said at a slot: one unit
    sums = np.bincount(owner, uses)
    name = "share of phrasings that are the key's choice, above chance"
    point = float(gain.sum() / sums.sum())
    if len(names) < 2:
        return Effect(name, point, why="one slot: no interval")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(names), size=(2000, len(names)))
    draws = gain[rows].sum(axis=1) / np.maximum(sums[rows].sum(axis=1), 1)
    low, high = (float(end) for end in np.quantile(draws, (0.025, 0.975)))
    return Effect(name, point, low, high, 0.95, "bootstrap over slots")
