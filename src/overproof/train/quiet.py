"""Keep the ONNX exporter's logs out of ours, and put its settings back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_exporter"]


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
