"""Self-consistency: the samples of a prompt vote on its answer (Wang et al., arXiv:2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from overproof.collect.filters.extraction import final_answer, normalised
from overproof.config.filters import SelfConsistency
from overproof.records.text_dataset import TextExample

__all__ = ["SelfConsistencyFilter"]


class SelfConsistencyFilter:
    """Keeps the samples that agree with most of their prompt's."""

    def __init__(self, config: SelfConsistency) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """What lost its vote, or had none. A sample without an answer votes for nothing."""
        prompts: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            prompts.setdefault(example.item, []).append(index)
        reasons: dict[int, str] = {}
        shares: list[float] = []
        few = 0
        for indices in prompts.values():
            if len(indices) < self._config.min_samples:
                few += 1
                if self._config.on_few == "drop":
                    what = f"fewer than {self._config.min_samples} samples"
                    reasons |= dict.fromkeys(indices, f"{what}: {len(indices)}")
                continue
            answers = [final_answer(examples[i].answer, self._config) for i in indices]
            votes = [normalised(answer) if answer else None for answer in answers]
            share, lost = self._vote(votes)
            shares.append(share)
            reasons |= {indices[place]: why for place, why in lost.items()}
        self.notes = [_distribution(shares)] if shares else []
        if few:
            fate = "kept without a vote" if self._config.on_few == "keep" else "dropped"
            self.notes.append(f"{few} prompts {fate}: too few samples")
        return reasons

    def _vote(self, votes: list[str | None]) -> tuple[float, dict[int, str]]:
        """The winner's share of all samples, and why places lost."""
        everybody = range(len(votes))
        ranked = Counter(vote for vote in votes if vote is not None).most_common(2)
        if not ranked:
            return 0.0, dict.fromkeys(everybody, "no sample has an answer of the wanted form")
        winner, count = ranked[0]
        share = count / len(votes)
        if len(ranked) == 2 and ranked[1][1] == count:
            return share, dict.fromkeys(everybody, f"the vote is a tie: {count} each")
        if share < self._config.min_share:
            why = f"no answer has {self._config.min_share:.0%} of the votes: at most {share:.0%}"
            return share, dict.fromkeys(everybody, why)
        lost: dict[int, str] = {}
        taken = False
        for place, vote in enumerate(votes):
            if vote is None:
                lost[place] = "no answer of the wanted form"
            elif vote != winner:
                lost[place] = f"outvoted: {vote[:40]!r} against {winner[:40]!r} with {share:.0%}"
            elif taken and self._config.keep == "first":
                lost[place] = "agrees with an earlier sample that was kept"
            else:
                taken = True
        return share, lost


def _distribution(shares: list[float]) -> str:
    """How many prompts agreed how far, in fifths."""
    fifths = Counter(min(4, int(share * 5)) for share in shares)
    said = ", ".join(f"{20 * k}-{20 * k + 20} %: {fifths[k]}" for k in range(5) if fifths[k])
    mean = sum(shares) / len(shares)
    return f"share of the commonest answer over {len(shares)} prompts: mean {mean:.0%}; {said}"
