"""All strategies of a recipe, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from overproof.collect.synthesize.documents import DocumentsStrategy
from overproof.collect.synthesize.evolve import EvolveStrategy
from overproof.collect.synthesize.expand import ExpandStrategy
from overproof.collect.synthesize.paraphrase import ParaphraseStrategy
from overproof.collect.synthesize.protocol import (
    Dropped,
    Embedder,
    Strategy,
    StrategyReport,
    StrategyTools,
)
from overproof.collect.synthesize.reasoning_gym import ReasoningGymStrategy
from overproof.config.synthesize import (
    Documents,
    Evolve,
    Expand,
    Paraphrase,
    SeededSection,
    SynthesizeConfig,
)
from overproof.records.text_dataset import Prompt

__all__ = ["SynthesisResult", "build", "synthesize"]


@dataclass
class SynthesisResult:
    """What the strategies made: prompts in order, a report each, and every candidate dropped."""

    prompts: list[Prompt] = field(default_factory=list)
    reports: list[StrategyReport] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    def lines(self) -> list[str]:
        """All reports in words."""
        return [line for report in self.reports for line in report.lines()]


def build(config: SynthesizeConfig, tools: StrategyTools, earlier: Sequence[str] = ()) -> Strategy:
    """The strategy of one ``[[synthesize]]`` entry; ``earlier``: texts that entries above made.

    Raises:
        ConfigError: it wants what ``tools`` lack.
        MissingExtraError: it needs a package that is not installed.
    """
    if isinstance(config, Paraphrase):
        return ParaphraseStrategy(config, tools, earlier)
    if isinstance(config, Expand):
        return ExpandStrategy(config, tools, earlier)
    if isinstance(config, Evolve):
        return EvolveStrategy(config, tools, earlier)
    if isinstance(config, Documents):
        return DocumentsStrategy(config, tools, earlier)
    return ReasoningGymStrategy(config, tools, earlier)


async def synthesize(
    configs: Sequence[SynthesizeConfig], tools: StrategyTools, seeds: Sequence[Prompt]
) -> SynthesisResult:
    """Run the strategies one after another.

    Args:
        configs: the recipe's ``[[synthesize]]`` entries.
        tools: the teacher and what else they may need.
        seeds: prompts of the training pool alone: what is made of a held-out prompt would leak it.

    Raises:
        ConfigError: a strategy cannot run as written; all of them are built before any asks.
        MissingExtraError: one needs a package that is not installed.
        ModelError: there is no such embedding model.
        BudgetError: a cap of the recipe was reached; what was answered is in the ledger.
    """
    embedders: dict[str, Embedder] = {}
    equipped = [_with_embedder(config, tools, embedders) for config in configs]
    for config, own in zip(configs, equipped, strict=True):
        build(config, own)
    result = SynthesisResult()
    for config, own in zip(configs, equipped, strict=True):
        strategy = build(config, own, [_compared(prompt) for prompt in result.prompts])
        takes_all = isinstance(config, SeededSection) and config.seeds_from == "all"
        given = [*seeds, *result.prompts] if takes_all else list(seeds)
        made = await strategy.prompts(given)
        result.prompts.extend(made)
        result.reports.append(strategy.report())
        result.dropped.extend(strategy.dropped)
    return result


def _with_embedder(
    config: SynthesizeConfig, tools: StrategyTools, loaded: dict[str, Embedder]
) -> StrategyTools:
    """The tools with the embedding model that the entry names, each loaded once."""
    if config.diversity != "embedding" or tools.embedder is not None:
        return tools
    if config.embedder not in loaded:
        from overproof.clients.local_embedder import Embedder as LocalEmbedder

        loaded[config.embedder] = LocalEmbedder(config.embedder)
    return replace(tools, embedder=loaded[config.embedder])


def _compared(prompt: Prompt) -> str:
    """What an earlier prompt is compared by: without the passage that it may show."""
    document = prompt.facts.get("document")
    passage = document.get("passage", "") if isinstance(document, dict) else ""
    return prompt.text.removeprefix(passage).strip() if passage else prompt.text
