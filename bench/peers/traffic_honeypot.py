"""honeypotllm 0.1.3 at its defaults, on event time.

Its scoring reads ``time.time()``: a clock shim gives it the event's time. Only ``scoring`` and
``config`` are loaded, unchanged, from the wheel or an unpacked directory; the package's own
``__init__`` would pull in its database. Its score cannot exceed 1, and falls with idle hours.
"""

from __future__ import annotations

import importlib
import sys
import time
import types
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from overproof.records.traffic import Event
from peers.traffic_tracks import Tracks, turn_text

DEFAULT = 0.75  # its suspicion_threshold


class HoneypotMissingError(Exception):
    """It cannot be loaded; the message says why."""


class Honeypot:
    """Feed events in order of time; ``tracks`` holds the scores.

    Args:
        source: the wheel, or a directory that holds the package.
    """

    def __init__(self, source: Path) -> None:
        self.tracks = Tracks("honeypotllm 0.1.3")
        self._now = 0.0
        self._texts = 0
        scoring, config = self._load(source)
        scoring.time = types.SimpleNamespace(time=lambda: self._now)
        self._scorer = scoring.SuspicionScorer(config.ScoringConfig(), DEFAULT)

    def _load(self, source: Path) -> tuple[Any, Any]:
        if not source.exists():
            raise HoneypotMissingError(f"{source.name} is not here; give it with --honeypotllm")
        with TemporaryDirectory() as folder:
            home = source
            if source.suffix == ".whl":
                home = Path(folder)
                with zipfile.ZipFile(source) as wheel:
                    wheel.extractall(home)
            package = types.ModuleType("honeypotllm")
            package.__path__ = [str(home / "honeypotllm")]
            clock, time.time = time.time, lambda: self._now  # bound as a default while loading
            try:
                sys.modules["honeypotllm"] = package
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return (
                        importlib.import_module("honeypotllm.scoring"),
                        importlib.import_module("honeypotllm.config"),
                    )
            except ImportError as error:
                raise HoneypotMissingError(f"cannot be loaded: {error}") from error
            finally:
                time.time = clock
                for name in [name for name in sys.modules if name.startswith("honeypotllm")]:
                    del sys.modules[name]

    def add(self, event: Event) -> None:
        self._now = max(self._now, event.ts)
        result = self._scorer.score_request(
            event.account, prompt=turn_text(event), input_tokens=event.input_tokens or 0
        )
        state = self._scorer._states[event.account]
        state.last_seen = self._now
        self.tracks.note(event.account, event.ts, result.score_after)

    def finish(self) -> None:
        """Nothing is left over."""
