"""What recipes of every kind share: the run, the teacher, the caps, the watch for drift."""

from __future__ import annotations

from pydantic import Field

from overproof.config.section import Section, Share
from overproof.config.teacher import TeacherConfig

__all__ = ["BaseRecipe", "BudgetConfig", "DriftConfig", "RunConfig"]


class RunConfig(Section):
    """``[run]``: the run's name, its directory (relative to the recipe) and its seed."""

    name: str = Field(min_length=1)
    dir: str
    seed: int = 0
    demo: bool = False


class BudgetConfig(Section):
    """``[budget]``: caps that stop collecting; ``max_failed`` is a share of the requests.

    ``max_tokens`` counts input and output tokens together. A malformed answer is asked again up
    to ``reasks`` times.
    """

    max_calls: int | None = Field(default=None, ge=1)
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, ge=1)
    reasks: int = Field(default=2, ge=0)
    max_failed: Share = 0.02


class DriftConfig(Section):
    """``[drift]``: ``canaries`` prompts are asked anew after every ``every`` calls; 0 for none."""

    canaries: int = Field(default=4, ge=0, le=100)
    every: int = Field(default=1000, ge=10)


class BaseRecipe(Section):
    """What recipes of every kind share."""

    run: RunConfig
    teacher: TeacherConfig
    budget: BudgetConfig = BudgetConfig()
    drift: DriftConfig = DriftConfig()

    @property
    def watch(self) -> DriftConfig:
        """The watch for drift; none in batches, where each look would take as long as a batch."""
        return DriftConfig(canaries=0) if self.teacher.batch else self.drift
