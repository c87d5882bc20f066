"""Providers' terms and models' licences: what is refused, what settles it, what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overproof.clients.terms import check_terms
from overproof.clients.terms_list import (
    TERMS_FILE,
    of_host,
    of_licence,
    of_licence_text,
    of_model_name,
    read_terms,
)
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, TermsError

ATTESTED = {"training": "attested", "attestation": "written permission of 2026-02-01"}
ALLOWED = {"training": "allowed", "licence": "MIT", "url": "https://HOST/terms"}


def api(host: str, model: str = "m", terms: dict[str, str] | None = None) -> TeacherConfig:
    said: dict[str, Any] = {"kind": "openai", "model": model, "base_url": f"https://{host}/v1"}
    return TeacherConfig.model_validate(said | {"terms": terms or {}})


def weights(
    model: str | Path, kind: str = "local", terms: dict[str, str] | None = None
) -> TeacherConfig:
    said = {"kind": kind, "model": str(model), "terms": terms or {}}
    return TeacherConfig.model_validate(said)


@pytest.fixture(autouse=True)
def no_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERPROOF_TERMS", raising=False)


def test_the_shipped_file_covers_what_it_must() -> None:
    names = {entry.name for entry in read_terms().entries}
    assert names >= {
        "openai-api", "anthropic-api", "google-gemini-api", "xai-api", "mistral-api",
        "deepseek-api", "deepseek-model", "qwen-2024", "qwen-research", "tongyi-qianwen", "llama-3",
        "llama-3.1-to-3.3", "llama-4", "gemma", "apache-2.0", "mit", "bsd", "cc-by-4.0",
    }  # fmt: skip
    assert read_terms().version.startswith("2026-11-23 sha256:")
    for entry in read_terms().entries:
        assert entry.source.startswith("https://"), entry.name
        assert entry.clause, entry.name
        assert entry.seen or entry.verdict == "unknown", entry.name
        assert entry.seen or not entry.quoted, entry.name


@pytest.mark.parametrize(
    ("host", "model", "says"),
    [
        ("api.openai.com", "gpt-4o", "on a condition only: the student does not compete"),
        ("api.x.ai", "grok-4", "forbids it"),
        ("generativelanguage.googleapis.com", "gemini-2.5-pro", "develop models that compete"),
        ("api.mistral.ai", "mistral-large-2512", "on a condition only"),
        ("name.openai.azure.com", "deployment", "has not read"),
        ("dashscope-intl.aliyuncs.com", "qwen-plus", "is unknown"),
    ],
)
def test_known_providers_need_an_attestation(host: str, model: str, says: str) -> None:
    for terms in ({}, ALLOWED):
        with pytest.raises(TermsError, match=says) as caught:
            check_terms(api(host, model, terms))
        assert 'training = "attested"' in caught.value.way_out
        assert "https://" in caught.value.reason  # the source
    verdict = check_terms(api(host, model, ATTESTED))
    assert verdict.basis == "attested"
    assert verdict.attestation == ATTESTED["attestation"]
    assert verdict.terms_say in ("no", "conditions", "unknown")
    assert verdict.clause
    assert verdict.source.startswith("https://")
    assert verdict.terms_version == read_terms().version


def test_anthropic_is_known_by_its_kind_and_behind_any_host() -> None:
    for config in (
        TeacherConfig(kind="anthropic", model="claude-haiku-4-5"),
        api("gateway.example", "claude-haiku-4-5", ALLOWED),
        api("127.0.0.1:4000", "anthropic/claude-opus-4-5", ALLOWED),
    ):
        with pytest.raises(TermsError, match="build a competing product or service"):
            check_terms(config)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "o3", "o4-mini", "x-ai/grok-4", "GPT-4.1"])
def test_a_reseller_does_not_wash_a_model(model: str) -> None:
    with pytest.raises(TermsError):
        check_terms(api("openrouter.ai", model, ALLOWED))


@pytest.mark.parametrize("model", ["gpt-oss-20b", "my-gpt-4o-like", "o1x", "claudette", "m"])
def test_a_name_that_only_resembles_is_nobodys(model: str) -> None:
    assert check_terms(api("127.0.0.1:8000", model, ALLOWED)).basis == "stated"
    with pytest.raises(TermsError, match="nobody has said"):
        check_terms(api("127.0.0.1:8000", model))


def test_a_provider_that_allows_it_needs_nothing_said() -> None:
    verdict = check_terms(api("api.deepseek.com", "deepseek-chat"))
    assert (verdict.basis, verdict.terms_say) == ("terms", "yes")
    assert "model distillation" in verdict.clause
    # The same model behind a stranger's host is under the stranger's terms, too.
    with pytest.raises(TermsError, match="nobody has said"):
        check_terms(api("stranger.example", "deepseek-chat"))


def test_a_licence_alone_does_not_open_an_api() -> None:
    with pytest.raises(TermsError, match="nobody has said"):
        check_terms(api("127.0.0.1:8000", "m", {"licence": "Apache-2.0"}))
    with pytest.raises(TermsError, match="on a condition"):
        check_terms(api("127.0.0.1:8000", "m", ALLOWED | {"licence": "gemma"}))


def model_directory(path: Path, card: str = "", licence: str = "") -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    if card:
        (path / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    if licence:
        (path / "LICENSE").write_text(licence)
    return path


@pytest.mark.parametrize(
    ("card", "licence", "verdict"),
    [
        ("license: apache-2.0", "", "Apache"),
        ('license: "mit"  # ours', "", "MIT"),
        ("", "                 Apache License\n           Version 2.0, January 2004", "Apache"),
        ("", "MIT License\n\nCopyright (c) 2024", "MIT"),
    ],
)
def test_weights_are_allowed_by_what_lies_beside_them(
    tmp_path: Path, card: str, licence: str, verdict: str
) -> None:
    found = check_terms(weights(model_directory(tmp_path / "model", card, licence)))
    assert found.basis == "licence"
    assert verdict.casefold() in found.licence.casefold()


@pytest.mark.parametrize(
    ("card", "licence", "says"),
    [
        ("license: llama3.1", "", "include “Llama” at the beginning"),
        ("license: other\nlicense_name: qwen-research", "", "NON-COMMERCIAL"),
        ("license: gemma", "", "Model Derivative"),
        ("license: apache-2.0", "LLAMA 3.3 COMMUNITY LICENSE AGREEMENT\n", "Llama"),  # strictest
        ("", "META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n", "forbids it"),
        ("license: my-own", "", "nothing is known of its licence 'my-own'"),
        ("", "", "nobody has said"),
        ("license: cc-by-nc-4.0", "", "has not read"),
    ],
)
def test_weights_under_other_licences_are_refused(
    tmp_path: Path, card: str, licence: str, says: str
) -> None:
    model = model_directory(tmp_path / "model", card, licence)
    with pytest.raises(TermsError, match=says):
        check_terms(weights(model))
    assert check_terms(weights(model, terms=ATTESTED)).basis == "attested"


def test_the_recipes_licence_speaks_for_weights_unless_a_stricter_one_does(tmp_path: Path) -> None:
    plain = model_directory(tmp_path / "plain")
    assert check_terms(weights(plain, terms={"licence": "MIT"})).terms == "allowed by MIT"
    llama = model_directory(tmp_path / "llama-3.1-8b")
    with pytest.raises(TermsError, match="on a condition"):
        check_terms(weights(llama, terms={"licence": "MIT"}))


def test_a_licence_beside_a_single_file_may_be_of_anything(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License\n")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(TermsError, match="nobody has said"):
        check_terms(weights(tmp_path / "model.gguf", "embedded"))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert check_terms(weights(tmp_path / "model.gguf", "embedded")).basis == "licence"


def test_pinned_models_keep_their_licence() -> None:
    assert check_terms(weights("smollm2", "embedded")).licence == "Apache-2.0"
    with pytest.raises(TermsError, match="has not read"):
        check_terms(weights("smollm2", "embedded", {"licence": "CC-BY-NC-4.0"}))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Meta-Llama-3-8B-Instruct", "llama-3"),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-to-3.3"),
        ("llama3.2:3b", "llama-3.1-to-3.3"),
        ("Llama-4-Scout", "llama-4"),
        ("llama-2-7b-chat", "llama-2"),
        ("DeepSeek-R1-Distill-Llama-8B", "llama-3.1-to-3.3"),
        ("google/gemma-3-27b-it", "gemma"),
        ("gemma-2b", "gemma"),
        ("accounts/fireworks/models/llama-v3-70b-instruct", "llama-3"),
        ("accounts/fireworks/models/llama-v3p1-405b-instruct", "llama-3.1-to-3.3"),
        ("accounts/fireworks/models/llama-v3p3-70b-instruct", "llama-3.1-to-3.3"),
        ("llama-v2-13b-chat", "llama-2"),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen-2024"),
        ("qwen/qwen-2.5-72b-instruct", "qwen-2024"),
        ("accounts/fireworks/models/qwen2p5-72b-instruct", "qwen-2024"),
        ("Qwen/Qwen2.5-VL-72B-Instruct", "qwen-2024"),
        ("qwen2.5:72b", "qwen-2024"),
        ("Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2.5-Coder-3B-Instruct-GGUF", "qwen-research"),
        ("qwen2.5:3b", "qwen-research"),
        ("Qwen2-72B-Instruct", "tongyi-qianwen"),
        ("Qwen/Qwen1.5-14B-Chat", "tongyi-qianwen"),
        ("Qwen-7B-Chat", "tongyi-qianwen"),
    ],
)
def test_names_of_weights(name: str, entry: str) -> None:
    assert [found.name for found in of_model_name(name, weights=True)] == [entry]


@pytest.mark.parametrize(
    "name",
    [
        "Qwen2.5-7B-Instruct",
        "Qwen2.5-7B-Instruct-3bit",
        "Qwen2.5-32B",
        "Qwen3-30B-A3B",
        "qwen2.5:14b",
    ],
)
def test_names_of_weights_that_are_free(name: str) -> None:
    assert of_model_name(name, weights=True) == []


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic-api"),
        ("apac.anthropic.claude-3-haiku-20240307-v1:0", "anthropic-api"),
        ("bedrock/global.anthropic.claude-haiku-4-5", "anthropic-api"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-3", "anthropic-api"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "openai-api"),
        ("FT:GPT-3.5-turbo:org", "openai-api"),
    ],
)
def test_a_profile_or_a_tuned_model_is_still_the_providers(name: str, entry: str) -> None:
    assert [found.name for found in of_model_name(name, weights=False)] == [entry]
    with pytest.raises(TermsError):
        check_terms(api("gateway.example", name, ALLOWED))


def test_a_name_of_an_api_says_nothing_of_weights() -> None:
    assert of_model_name("gpt-4o", weights=True) == []
    assert of_model_name("openai-community/gpt2", weights=False) == []
    assert of_model_name("gemma-4-9b", weights=True) == []


def test_lookups() -> None:
    assert [entry.name for entry in of_host("API.OpenAI.com")] == ["openai-api"]
    assert of_host("api.openai.com.evil.example") == []
    assert of_host("") == []
    assert [entry.name for entry in of_licence(" apache-2.0 ")] == ["apache-2.0"]
    assert of_licence("unknown") == []
    assert of_licence_text("Qwen RESEARCH LICENSE AGREEMENT")[0].name == "qwen-research"
    assert of_licence_text("Tongyi Qianwen  LICENSE\nAGREEMENT")[0].name == "tongyi-qianwen"
    assert of_licence_text("a story\n" + "x" * 700 + "MIT License") == []


OWN = """
[[terms]]
name = "house"
what = "Our own models"
training = "yes"
clause = "ours"
source = "https://HOST/terms"
as_of = "2026-01-01"
seen = true
hosts = ["models.example"]
"""


def test_a_file_of_ones_own_adds_providers_and_its_hash_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(OWN)
    monkeypatch.setenv("OVERPROOF_TERMS", str(path))
    verdict = check_terms(api("models.example"))
    assert verdict.basis == "terms"
    assert ", own sha256:" in verdict.terms_version
    # It adds; it does not soften what is known.
    path.write_text(OWN.replace("models.example", "api.x.ai"))
    with pytest.raises(TermsError, match="forbids it"):
        check_terms(api("api.x.ai"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[[terms]]", "[[term]]"), "has no"),
        (("[[terms]]", "[[terms]"), "is not TOML"),
        (('training = "yes"', 'training = "perhaps"'), r"terms 1 \(house\): training"),
        (('hosts = ["models.example"]', ""), "applies to nothing"),
        (('training = "yes"', 'training = "conditions"'), "does not say which"),
        (('name = "house"', 'name = "mit"'), "name of another"),
        (("seen = true", "seem = true"), "seem"),
    ],
)
def test_a_bad_file_names_itself_and_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], says: str
) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(OWN.replace(*change))
    monkeypatch.setenv("OVERPROOF_TERMS", str(path))
    with pytest.raises(ConfigError, match=says) as caught:
        check_terms(api("models.example"))
    assert str(path) in caught.value.culprit
    monkeypatch.setenv("OVERPROOF_TERMS", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="No such file"):
        read_terms()
    assert TERMS_FILE.is_file()
