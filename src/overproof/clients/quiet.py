"""Keep transformers' progress bars and logs out of ours, and put its settings back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

__all__ = ["quiet_transformers"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers logs errors alone and shows no progress bar.

    Its loading report is one of the things silenced, so whoever loads weights checks for missing
    ones.
    """
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    verbosity, shown, bar = logging.get_verbosity(), logging.is_progress_bar_enabled(), reader.tqdm
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    reader.tqdm = partial(bar, disable=True)  # it asks nobody whether to draw
    try:
        yield
    finally:
        reader.tqdm = bar
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
