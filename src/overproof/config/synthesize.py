"""``[[synthesize]]``: prompts made where the user has few, one strategy an entry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from overproof.config.section import Section

__all__ = ["Paraphrase", "SynthesizeConfig"]


class Paraphrase(Section):
    """``kind = "paraphrase"``: the seeds said in other words."""

    kind: Literal["paraphrase"]
    count: int = Field(default=100, ge=1)


SynthesizeConfig = Annotated[Paraphrase, Field(discriminator=None)]
