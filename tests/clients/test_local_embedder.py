"""Sentence embeddings from local weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from overproof.clients.local_embedder import Embedder
from overproof.errors import MissingExtraError, ModelError

pytestmark = pytest.mark.slow


def test_embeddings_are_those_of_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    """Alike texts are close, others are not; each text for itself."""
    embedder = Embedder("all-MiniLM-L6-v2", device="cpu")
    texts = ["What is the capital of France?", "How do I bake bread?",
             "Which city is France's capital?", ""]  # fmt: skip
    vectors = embedder.embed(texts)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    cosines = vectors @ vectors.T
    assert cosines[0, 2] > 0.9
    assert cosines[0, 1] < 0.2
    assert embedder.embed([]).shape == (0, 384)
    # Neither the batch that a text is in, nor its place, changes what it means.
    many = embedder.embed([*(f"{text} {n}" for n in range(70) for text in texts), texts[0]])
    np.testing.assert_allclose(many[-1], vectors[0], atol=1e-5)
    long = embedder.embed(["word " * 5000, "word " * 6000])
    np.testing.assert_allclose(long[0], long[1], atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_loaded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="neither a file here"):
        Embedder("no-such-encoder")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder(str(tmp_path))
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder("all-MiniLM-L6-v2", device="nonsense")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="overproof\\[local\\]"):
        Embedder("all-MiniLM-L6-v2")
