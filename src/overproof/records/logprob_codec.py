"""Sparse log-probs of a token in at most 112 bytes: how they are rounded and laid out.

Shapes: A tokens, K places. A token's record holds, for each place, an id in 16 to 24 bits (18 for
vocabularies up to 2^18) and one byte for the log-prob; besides, two bytes for the log of the tail,
one for how many places are in use and one for flags. At K = 32 and 18 bits that is
32 x (18 + 8) bits + 4 bytes = 108 bytes.

**Top** signals: the byte stands for ``-R ((1 + m)^(c / 254) - 1) / m`` with R = 20 nats and m =
255, the mu-law of telephony (ITU-T G.711) on log-probs: steps are fine where a probability is
large. Rounding moves a log-prob l in [-20, 0] by at most ``0.0109 (0.079 + |l|)`` nats (0.0009 at
certainty, 0.06 at l = -5, 0.22 at l = -20), a probability by at most 0.0044. What is less likely
than e^-20 (2e-9) is held as e^-20. The log of the tail is rounded to steps of 0.0005 nats, so by
at most 0.00025. Reading divides by the sum of what is held, so that places and tail are a
distribution again to float32.

**Sampled** signals: the byte is how often the token was drawn, of at most 255 draws: exact.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "LARGEST_VOCABULARY",
    "MOST_PLACES",
    "RANGE",
    "Kind",
    "SparseRow",
    "decode",
    "encode",
    "record_dtype",
]

Kind = Literal["top", "sampled"]

MOST_PLACES = 255
LARGEST_VOCABULARY = 1 << 24
RANGE = 20.0  # nats; what is less likely is held as e^-20
_MU = 255.0
_TAIL_RANGE = 32.0
_NO_TAIL = 65535
_KNOWN = 1
_LEAST = 254  # the code of e^-20
_NOTHING = {"top": 255, "sampled": 0}  # the code of a place that holds nothing


class SparseRow(NamedTuple):
    """What is known of one row's tokens.

    ``ids`` (A, K) int32, 0 in places that hold nothing; ``logprobs`` (A, K) float32, -inf there;
    ``tail`` (A,) float32, the log of the mass that the places leave out, -inf for none; ``known``
    (A,) bool. For a token that is known, places and tail sum to one.
    """

    ids: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    tail: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]


def _top_table() -> npt.NDArray[np.float64]:
    table = -RANGE * ((1.0 + _MU) ** (np.arange(256) / _LEAST) - 1.0) / _MU
    table[_NOTHING["top"]] = -np.inf
    return table


def _sampled_table() -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(np.arange(256, dtype=np.float64))


def _tail_table() -> npt.NDArray[np.float64]:
    table = -_TAIL_RANGE * np.arange(65536) / (_NO_TAIL - 1)
    table[_NO_TAIL] = -np.inf
    return table


# What codes stand for.
_TOP = _top_table()
_MIDDLES = -(_TOP[1 : _LEAST + 1] + _TOP[:_LEAST]) / 2.0
_LOGS = {"top": _TOP.astype(np.float32), "sampled": _sampled_table().astype(np.float32)}
_TAILS = _tail_table().astype(np.float32)


def _high_bits(vocabulary: int) -> int:
    """Bits of an id beyond the lower 16: 0, 2, 4 or 8."""
    if not 1 <= vocabulary <= LARGEST_VOCABULARY:
        raise ValueError(f"a vocabulary of {vocabulary} tokens is not between 1 and 2^24")
    return next(bits for bits in (0, 2, 4, 8) if vocabulary <= 1 << (16 + bits))


def record_dtype(k: int, vocabulary: int) -> np.dtype[Any]:
    """The layout of one token's record with ``k`` places."""
    if not 1 <= k <= MOST_PLACES:
        raise ValueError(f"k = {k} is not between 1 and {MOST_PLACES}")
    fields: list[tuple[str, str, tuple[int, ...]]] = [("low", "<u2", (k,))]
    if bits := _high_bits(vocabulary):
        fields.append(("high", "u1", (-(-k * bits // 8),)))
    fields += [("code", "u1", (k,)), ("tail", "<u2", ()), ("count", "u1", ()), ("flags", "u1", ())]
    return np.dtype(fields)


def encode(
    ids: npt.NDArray[Any],
    logprobs: npt.NDArray[Any],
    tail: npt.NDArray[Any],
    known: npt.NDArray[Any],
    *,
    vocabulary: int,
    kind: Kind,
    draws: int = 0,
) -> npt.NDArray[Any]:
    """Records of a row, with as many places as the row has; shapes as in ``SparseRow``.

    Args:
        ids: tokens.
        logprobs: -inf is a place that holds nothing, wherever it stands.
        tail: log of the mass that the places leave out, -inf for none.
        known: where false, there must be neither places nor tail.
        vocabulary: ids are below it.
        kind: ``sampled`` takes shares of ``draws``.
        draws: how many tokens were drawn at each position.

    Raises:
        ValueError: an id outside the vocabulary, a known token whose places and tail are no
            distribution, or a share that is no multiple of ``1 / draws``.
    """
    n, k = ids.shape
    records = np.zeros(n, record_dtype(k, vocabulary))
    logprobs, tail = np.asarray(logprobs, np.float64), np.asarray(tail, np.float64)
    used = logprobs > -np.inf
    _check(ids, logprobs, tail, known, vocabulary)
    # What is used goes to the front, in its order.
    order = np.argsort(~used, axis=1, kind="stable")
    used = np.take_along_axis(used, order, 1)
    ids = np.where(used, np.take_along_axis(np.asarray(ids, np.int64), order, 1), 0)
    logprobs = np.take_along_axis(logprobs, order, 1)
    records["low"] = ids & 0xFFFF
    if bits := _high_bits(vocabulary):
        records["high"] = _packed(ids >> 16, bits)
    if kind == "top":
        codes = np.searchsorted(_MIDDLES, np.where(used, -logprobs, 0.0))
    else:
        shares = np.where(used, np.exp(np.where(used, logprobs, 0.0)), 0.0) * draws
        codes = np.rint(shares).astype(np.int64)
        if codes.max(initial=0) > 255 or np.abs(codes - shares).max(initial=0) > 1e-2:
            raise ValueError(f"a share is no multiple of 1/{draws}")
    records["code"] = np.where(used, codes, _NOTHING[kind])
    records["count"] = used.sum(1)
    has_tail = tail > -_TAIL_RANGE
    steps = np.rint(np.clip(-tail, 0.0, _TAIL_RANGE) * ((_NO_TAIL - 1) / _TAIL_RANGE))
    records["tail"] = np.where(has_tail, steps, _NO_TAIL)
    records["flags"] = np.where(known, _KNOWN, 0)
    return records


def decode(records: npt.NDArray[Any], *, k: int, vocabulary: int, kind: Kind) -> SparseRow:
    """What records hold, with ``k`` places: at least as many as the records have."""
    codes = records["code"]
    n, width = codes.shape
    logprobs = _LOGS[kind].take(codes)
    ids = records["low"].astype(np.int32)
    if bits := _high_bits(vocabulary):
        high = _HIGH[bits].take(records["high"], 0)
        ids |= high.reshape(n, high.shape[1] * high.shape[2])[:, :width]
    known = (records["flags"] & _KNOWN).astype(np.bool_)
    tail = _TAILS.take(records["tail"])
    # A token that is not known holds nothing: dividing by 1 leaves it so.
    whole = np.log(np.exp(logprobs).sum(1) + np.exp(tail) + ~known)
    logprobs -= whole[:, None]
    tail -= whole
    if width == k:
        return SparseRow(ids, logprobs, tail, known)
    wide_ids, wide = np.zeros((n, k), np.int32), np.full((n, k), -np.inf, np.float32)
    wide_ids[:, :width], wide[:, :width] = ids, logprobs
    return SparseRow(wide_ids, wide, tail, known)


def _check(
    ids: npt.NDArray[Any],
    logprobs: npt.NDArray[np.float64],
    tail: npt.NDArray[np.float64],
    known: npt.NDArray[Any],
    vocabulary: int,
) -> None:
    n, k = ids.shape
    if logprobs.shape != (n, k) or tail.shape != (n,) or known.shape != (n,):
        raise ValueError("ids, logprobs, tail and known are not of one shape")
    outside = (logprobs > -np.inf) & ((ids < 0) | (ids >= vocabulary))
    if outside.any():
        raise ValueError(f"id {int(ids[outside][0])} is outside of a vocabulary of {vocabulary}")
    masses = np.exp(logprobs).sum(1) + np.exp(tail)
    wrong = known & ~(np.abs(masses - 1.0) < 1e-3)  # also NaN
    if wrong.any():
        raise ValueError(f"places and tail of a known token sum to {masses[wrong][0]:g}, not to 1")


def _packed(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint8]:
    """Small numbers, 8 / bits of them a byte, the first in the lowest bits."""
    n, k = values.shape
    each = 8 // bits
    wide = -(-k // each)
    padded = np.zeros((n, wide * each), np.int64)
    padded[:, :k] = values
    shifts = np.arange(each) * bits
    packed: npt.NDArray[np.int64] = (padded.reshape(n, wide, each) << shifts).sum(2)
    return packed.astype(np.uint8)


# Upper bits of the ids that a byte holds, in their place.
_HIGH = {
    bits: (
        ((np.arange(256)[:, None] >> (np.arange(8 // bits) * bits)) & ((1 << bits) - 1)) << 16
    ).astype(np.int32)
    for bits in (2, 4, 8)
}
