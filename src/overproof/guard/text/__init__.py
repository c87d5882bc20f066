"""Text to traits: what is asked for, without keeping what was written."""

from __future__ import annotations

from overproof.guard.text.capability import CAPABILITIES
from overproof.guard.text.technique import TECHNIQUES
from overproof.guard.text.traits import Traits, text_traits

__all__ = ["CAPABILITIES", "TECHNIQUES", "Traits", "text_traits"]
