"""What every section of a recipe is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Section", "Share"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A section of a recipe: frozen, and unknown keys are errors."""

    # A misplaced key must not be repeated by the error that refuses it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
