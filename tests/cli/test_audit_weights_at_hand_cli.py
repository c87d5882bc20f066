"""``overproof audit`` with the suspect's weights on this machine: a tiny model, really trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write
from tiny_lm import write_tiny_lm

from overproof.audit.secret_keys import key_sha256
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import pairs_of
from overproof.errors import ConfigError

pytestmark = pytest.mark.slow

KEY = 2_918_459_123
VOCABULARY = 266  # of the tiny model


def marked_ids(scheme: Kgw, key: int, count: int, length: int, seed: int) -> list[list[int]]:
    """Random tokens that take a green one where one of three tries is green."""
    rng = np.random.default_rng(seed)
    every = np.arange(256)
    green = scheme.hits(pairs_of(np.repeat(every[:, None], 256, axis=0), np.tile(every, 256)), key)
    table = green.reshape(256, 256)
    texts = rng.integers(256, size=(count, length))
    for place in range(1, length):
        tries = rng.integers(256, size=(count, 3))
        hits = table[texts[:, place - 1 : place], tries]
        texts[:, place] = tries[np.arange(count), hits.argmax(axis=1)]
    return [[int(i) for i in row] for row in texts]


def train(folder: Path, texts: list[list[int]], steps: int) -> None:
    """Fine-tune the tiny model of a folder on texts of tokens, in place."""
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.clients.quiet import quiet_transformers

    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
        ids = torch.tensor(texts)
        for _ in range(steps):
            batch = ids[torch.randint(len(ids), (32,))]
            loss = model(input_ids=batch, labels=batch).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.save_pretrained(folder)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_lm(tmp_path_factory.mktemp("student"))
    train(folder, marked_ids(Kgw(VOCABULARY), KEY, 400, 64, seed=0), steps=150)
    return folder


def queries(tmp_path: Path) -> Path:
    """Texts that nobody marked: the suspect is only asked what it would say next."""
    rng = np.random.default_rng(9)
    rows = [{"tokens": [int(i) for i in rng.integers(256, size=60)]} for _ in range(24)]
    return write(tmp_path / "queries.jsonl", rows)


def test_the_green_mass_of_weights(student: Path, tmp_path: Path) -> None:
    key = tmp_path / "mark.key"
    key.write_text(hex(KEY))
    case = plan_of(
        tmp_path,
        '[[tests]]\nkind = "watermark"\nscheme = "kgw"\nkeys = 199\n'
        f'key_sha256 = "{key_sha256(KEY)}"\n',
    )
    texts = queries(tmp_path)
    rest = ("--weights", student, "--tokenizer", student, "--key-file")
    found = finding("watermark", texts, *rest, key, "--plan", case)
    assert found["test"] == "watermark"
    assert found["p_values"][0]["value"] == pytest.approx(1 / 200)
    assert found["effects"][0]["low"] > 0
    assert "model.safetensors" in (case / "plan.json.data.jsonl").read_text()
    assert finding("verdict", case)["verdict"] == "trained on these outputs"
    # Its text does not lean: nobody sampled from it. Another key does not fit its weights.
    common = ("--scheme", "kgw", "--keys", 199, "--alpha", 0.01)
    text_alone = finding("watermark", texts, *rest[2:], key, *common)
    assert text_alone["p_values"][0]["value"] > 0.01
    key.write_text(hex(KEY + 1234))
    assert finding("watermark", texts, *rest, key, *common)["p_values"][0]["value"] > 0.01


def test_beyond_a_reference(student: Path, tmp_path: Path) -> None:
    """An untrained model is a poor reference: it adds its own noise, and takes no validity away."""
    key, base = tmp_path / "mark.key", write_tiny_lm(tmp_path / "base")
    key.write_text(hex(KEY))
    planned = (
        '[[tests]]\nkind = "watermark"\nscheme = "kgw"\nkeys = 199\n'
        f'key_sha256 = "{key_sha256(KEY)}"\n'
    )
    case = plan_of(tmp_path, planned + "reference = true\n")
    rest = ("--weights", student, "--tokenizer", student, "--key-file", key)
    texts = queries(tmp_path)
    found = finding("watermark", texts, *rest, "--plan", case, "--reference", base)
    assert found["p_values"][0]["value"] < 0.02
    assert found["p_values"][1]["exactness"] == "upper bound"
    assert "beyond a reference" in found["details"]["evidence"]
    innocent = ("--weights", base, *rest[2:], "--reference", student, "--scheme", "kgw")
    assert finding("watermark", texts, *innocent, "--keys", 199)["p_values"][0]["value"] > 0.01
    # Whether there is a reference is planned, so that nobody takes the better of two.
    error = audit("watermark", texts, *rest, "--plan", case)
    assert isinstance(error, ConfigError)
    assert "reference" in str(error)


def test_weights_of_another_tokenizer_or_none(student: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    key = tmp_path / "mark.key"
    key.write_text(hex(KEY))
    words = {f"w{i}": i for i in range(VOCABULARY)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    texts = queries(tmp_path)
    rest = (texts, "--scheme", "kgw", "--keys", 99, "--key-file", key)
    error = audit("watermark", *rest, "--weights", student, "--tokenizer", tmp_path)
    assert isinstance(error, ConfigError)
    assert "another tokenizer than the teacher" in str(error)
    larger = audit("watermark", *rest, "--weights", student, "--vocabulary", 5000)
    assert "probabilities of shape" in str(larger)
    missing = audit("watermark", *rest, "--weights", tmp_path / "no", "--vocabulary", 266)
    assert isinstance(missing, Exception)
    cohorts = tmp_path / "cohorts.json"
    cohorts.write_text('{"spring": 2918459123, "autumn": 3018459177}')
    several = audit("watermark", *rest[:-1], cohorts, "--weights", student, "--vocabulary", 266)
    assert "give one key" in str(several)


def served_rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(6)
    words = ["bath", "the bee", "a boat", "he", "there", "by", "hot", "oboe", "tent", "zip"]

    def answer() -> str:
        return " ".join(rng.choice(words, 6))

    return [{"id": f"r{i}", "prompt": f"say {i}", "served": answer(),
             "ghosts": [answer() for _ in range(3)]} for i in range(count)]  # fmt: skip


@pytest.mark.parametrize("stages", ["", "prompts = 48\nlooks = 2\n"])
def test_ghosts_with_a_suspect_that_learned_what_was_served(tmp_path: Path, stages: str) -> None:
    """Weights and a reference that never saw the log; the reference is where training began."""
    suspect, reference = (write_tiny_lm(tmp_path / name) for name in ("suspect", "reference"))
    rows = served_rows(48)
    from overproof.clients.local_scores import load_scores

    scores = load_scores(str(suspect))
    ids = [[*scores.prompt_ids(row["prompt"]), *scores.chat.ids(row["served"])] for row in rows]
    shortest = min(map(len, ids))
    train(suspect, [row[:shortest] for row in ids], steps=60)
    case = plan_of(tmp_path, '[[tests]]\nkind = "ghosts"\n' + stages)
    log = write(tmp_path / "log.jsonl", rows)
    models = ("--suspect", suspect, "--reference", reference)
    found = finding("ghosts", log, "--plan", case, *models)
    assert found["n"] == (24 if stages else 48)
    assert found["p_values"][0]["value"] < 1e-6
    assert found["details"]["score"].startswith("log-prob under the suspect less that under")
    assert finding("verdict", case)["verdict"] == "trained on these outputs"
    innocent = finding("ghosts", log, "--suspect", reference, "--alpha", 0.01)
    assert innocent["p_values"][0]["value"] > 0.01
    if stages:
        swapped = audit("ghosts", log, "--plan", case, "--suspect", reference, "--look", 1)
        assert "the suspect: is not the one of look 1" in str(swapped)
