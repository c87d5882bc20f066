"""Libraries are silenced for a while, and get their settings back."""

from __future__ import annotations

import pytest

from overproof.clients.quiet import quiet_transformers


def test_transformers_gets_its_settings_back() -> None:
    reader = pytest.importorskip("transformers.modeling_gguf_pytorch_utils")
    from transformers.utils import logging

    def settings() -> tuple[int, bool, object]:
        return logging.get_verbosity(), logging.is_progress_bar_enabled(), reader.tqdm

    before = settings()

    def fail() -> None:
        with quiet_transformers():
            assert settings()[:2] == (logging.ERROR, False)
            assert list(reader.tqdm(range(2))) == [0, 1]
            assert reader.tqdm(range(2)).disable
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail()
    assert settings() == before
