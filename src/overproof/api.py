"""The typed Python API. Everything the command line does is a function here."""

from __future__ import annotations
