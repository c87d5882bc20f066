"""Keep libraries' progress bars and logs out of ours, and put their settings back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_exporter", "quiet_transformers"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers logs errors alone and shows no progress bar.

    Its loading report is one of the things silenced, so whoever loads weights checks for missing
    ones (``bases.load_base`` does).
    """
    from transformers.utils import logging as library

    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Within the block the ONNX exporter and the graph optimiser log errors alone."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
