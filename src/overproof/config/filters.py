"""``[[filters]]``: what is dropped from a text dataset, in order, each with its reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from overproof.config.section import Section

__all__ = ["ExactDuplicates", "FilterConfig"]


class ExactDuplicates(Section):
    """``kind = "exact"``: the same prompt with the same answer, up to case and white space."""

    kind: Literal["exact"]


FilterConfig = Annotated[ExactDuplicates, Field(discriminator=None)]
