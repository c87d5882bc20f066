"""``overproof audit watermark`` and ``key`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write

from overproof.audit.secret_keys import key_sha256
from overproof.audit.watermarks.gumbel import Gumbel
from overproof.audit.watermarks.pairs import pairs_of
from overproof.errors import ConfigError, SecretError

KEY = 7_640_891_576_956_012_809
VOCABULARY = 500
WIDTH = ("--setting", "width=2")


def marked_texts(count: int = 20, length: int = 40) -> list[dict[str, Any]]:
    """Text that prefers what the key."""
    scheme, rng = Gumbel(VOCABULARY, width=2), np.random.default_rng(0)
    rows = []
    for _ in range(count):
        ids = [int(i) for i in rng.integers(VOCABULARY, size=2)]
        while len(ids) < length:
            tries = rng.integers(VOCABULARY, size=3)
            hits = scheme.hits(pairs_of([ids[-2:]] * 3, tries), KEY)
            ids.append(int(tries[int(np.argmax(hits))]))
        rows.append({"tokens": ids, "prompt": [1, 2, 3]})
    return rows


PLANNED = (
    '[[tests]]\nkind = "watermark"\nscheme = "gumbel"\nkeys = 199\n'
    f'key_sha256 = "{key_sha256(KEY)}"\nsettings = {{ width = 2 }}\n'
)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("marked") / "texts.jsonl", marked_texts())


def test_watermark_under_a_plan(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(KEY))
    case = plan_of(tmp_path, PLANNED)
    rest = ("--vocabulary", VOCABULARY, "--plan", case, *WIDTH)
    found = finding("watermark", marked, "--key-env", "MARK", *rest)
    assert found["test"] == "watermark"
    assert found["p_values"][0]["value"] == pytest.approx(1 / 200)
    assert [p["exactness"] for p in found["p_values"]] == [
        "exact", "under the pseudo-random function's model",
    ]  # fmt: skip
    assert finding("verdict", case)["verdict"] == "trained on these outputs"
    assert "was planned as 'gumbel'" in str(
        audit("watermark", marked, "--key-env", "MARK", "--scheme", "unigram", *rest)
    )
    other = audit("watermark", marked, "--key-env", "MARK", *rest[:-2], "--setting", "width=4")
    assert "settings: was planned as {'width': 2}" in str(other)
    again = finding("watermark", marked, "--key-env", "MARK", *rest[:-2])  # the plan's settings
    assert again["p_values"] == found["p_values"]
    assert "counts" not in finding("verdict", case)["words"]
    assert "was planned as 199" in str(
        audit("watermark", marked, "--key-env", "MARK", "--keys", 99, *rest)
    )
    monkeypatch.setenv("MARK", str(KEY + 2))
    assert "key_sha256" in str(audit("watermark", marked, "--key-env", "MARK", *rest))


def test_wrong_keys_and_settings(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = ("--scheme", "gumbel", "--vocabulary", VOCABULARY, *WIDTH, "--keys", 99)
    monkeypatch.delenv("MARK", raising=False)
    assert isinstance(audit("watermark", marked, "--key-env", "MARK", *rest), SecretError)
    assert "comes from one place" in str(audit("watermark", marked, *rest))
    for value, said in (("123456789", "default or published"), ("7", "default"), ("word", "key")):
        monkeypatch.setenv("MARK", value)
        error = audit("watermark", marked, "--key-env", "MARK", *rest)
        assert isinstance(error, ConfigError)
        assert said in str(error)
        assert "123456789" not in str(error)
    file = tmp_path / "key"
    file.write_text(hex(KEY))
    keys = ("--key-file", file)
    assert "vocabulary" in str(audit("watermark", marked, *keys, "--scheme", "gumbel"))
    assert "is not named" in str(audit("watermark", marked, *keys, "--vocabulary", VOCABULARY))
    assert "NAME=VALUE" in str(audit("watermark", marked, *keys, *rest[:4], "--setting", "width"))
    assert isinstance(
        audit("watermark", marked, *keys, *rest[:4], "--setting", "width=0"), ConfigError
    )
    small = audit("watermark", marked, *keys, "--scheme", "gumbel", "--vocabulary", 100)
    assert "outside of the scheme's vocabulary" in str(small)
    cohorts = tmp_path / "cohorts.json"
    cohorts.write_text(json.dumps({"spring": KEY, "autumn": KEY + 12345}))
    found = finding("watermark", marked, "--key-file", cohorts, *rest[:6], "--keys", 299)
    assert found["details"]["cohorts"]["spring"]["holm"] < 0.01
    # Too few keys for the level.
    few = finding("watermark", marked, *keys, *rest[:6], "--keys", 19, code=1)
    assert "cannot go below 0.05" in few["reasons"][0]


def test_a_tokenizer_that_differs_is_flagged(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {f"w{i}": i for i in range(VOCABULARY)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    rows = [json.loads(line) | {"tokenizer": "ab" * 32} for line in marked.read_text().splitlines()]
    monkeypatch.setenv("MARK", str(KEY))
    texts = write(tmp_path / "t.jsonl", rows)
    rest = ("--scheme", "gumbel", "--tokenizer", tmp_path, "--keys", 99, *WIDTH)
    found = finding("watermark", texts, "--key-env", "MARK", *rest)
    assert found["standing"] == "done, with a warning"
    assert any("another vocabulary" in reason for reason in found["reasons"])


def test_a_fresh_key_is_written_once(tmp_path: Path) -> None:
    for scheme in ("kgw", "gumbel", "synthid"):
        out = tmp_path / scheme
        said = audit("key", "--scheme", scheme, "--out", out)
        assert out.stat().st_mode & 0o077 == 0
        text = out.read_text().strip()
        assert text not in said
        assert "exists already" in str(audit("key", "--scheme", scheme, "--out", out))


def test_several_cohorts_under_a_plan(marked: Path, tmp_path: Path) -> None:
    cohorts = {"spring": KEY, "autumn": KEY + 12345}
    file = tmp_path / "cohorts.json"
    file.write_text(json.dumps(cohorts))
    hashes = "".join(f'{name} = "{key_sha256(key)}"\n' for name, key in cohorts.items())
    case = plan_of(
        tmp_path,
        '[[tests]]\nkind = "watermark"\nscheme = "gumbel"\nkeys = 299\nsettings = { width = 2 }\n'
        f"[tests.key_sha256]\n{hashes}",
    )
    rest = ("--vocabulary", VOCABULARY, "--plan", case, "--key-file", file)
    found = finding("watermark", marked, *rest)
    assert found["details"]["cohorts"]["spring"]["holm"] < 0.01
    file.write_text(json.dumps({"spring": KEY, "autumn": KEY + 99}))
    assert "key_sha256" in str(audit("watermark", marked, *rest))


def test_other_vocabularies_count_as_other_runs(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(KEY))
    case = plan_of(tmp_path, PLANNED)
    for vocabulary in (VOCABULARY + 1, VOCABULARY):
        rest = ("--vocabulary", vocabulary, "--plan", case)
        finding("watermark", marked, "--key-env", "MARK", *rest)
    assert not (case / "findings" / "earlier").exists()  # the same finding both times
    fewer = write(tmp_path / "fewer.jsonl", marked_texts(count=12))
    finding("watermark", fewer, "--key-env", "MARK", *rest)
    verdict = finding("verdict", case)
    assert "was run on 3 different sets of data or settings" in verdict["words"]
    assert verdict["tests"][0]["adjusted"] == pytest.approx(3 / 200)
    assert (case / "findings" / "earlier" / "watermark.1.json").exists()
    journal = (case / "plan.json.data.jsonl").read_text()
    assert str(KEY) not in journal


def test_settings_that_a_scheme_lacks_are_named(marked: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(str(KEY))
    rest = ("--scheme", "kgw", "--vocabulary", VOCABULARY, "--key-file", key)
    said = str(audit("watermark", marked, *rest, "--setting", "bogus=1"))
    assert "__init__" not in said
    assert "its settings: share, seeding, context_width" in said
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'suspect = "s"\nteacher = "t"\n[[tests]]\nkind = "watermark"\nscheme = "kgw"\n'
        f'key_sha256 = "{key_sha256(KEY)}"\nsettings = {{ bogus = 1 }}\n'
    )
    sealing = audit("plan", plan, "--out", tmp_path / "never")
    assert "watermark.settings" in str(sealing)
    assert not (tmp_path / "never").exists()
