from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from overproof.config.guard import Exemption
from overproof.errors import ConfigError
from overproof.guard.exemptions import Exemptions, ends_at, sign

KEY = b"a key of thirty-two bytes or so."
ENTRY = {"org": "acme", "use": "evaluation", "until": "2026-12-31", "signed_by": "Ada"}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_signed_entry_spares_its_org_for_its_use_until_its_end() -> None:
    held = Exemptions([sign(ENTRY, KEY)], KEY)
    assert len(held) == 1
    assert not held.refused
    now = at("2026-06-01")
    said = held.spares("k1", "acme", "evaluation", now)
    assert said == "evaluation, permitted by Ada until 2026-12-31"
    assert held.spares("k1", "acme", None, now) == said
    assert held.spares("k1", "acme", "synthetic-data", now) is None  # another use than permitted
    assert held.spares("k1", "other", "evaluation", now) is None
    assert held.spares("acme", None, None, now) is None  # an account is not an org
    assert held.spares("k1", "acme", None, at("2026-12-31T23:59:00"))  # to the end of its day
    assert held.spares("k1", "acme", None, at("2027-01-01T00:00:00")) is None
    assert held.expired(at("2027-01-01"))[0].reason == "ended on 2026-12-31"
    assert held.expired(now) == []


def test_an_account_can_be_named_alone() -> None:
    entry = sign({**ENTRY, "org": None, "account": "k7", "until": "2026-05-01T12:00:00+02:00"}, KEY)
    held = Exemptions([entry], KEY)
    assert held.spares("k7", "acme", None, at("2026-05-01T09:59:59"))
    assert held.spares("k7", "acme", None, at("2026-05-01T10:00:00")) is None
    assert held.spares("k8", "acme", None, at("2026-01-01")) is None


def test_the_signature_is_what_the_config_says() -> None:
    said = json.dumps({"account": None, **ENTRY}, sort_keys=True, separators=(",", ":")).encode()
    assert sign(ENTRY, KEY).signature == hmac.new(KEY, said, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"until": "2036-12-31"}, "does not verify"),
        ({"org": "evil"}, "does not verify"),
        ({"use": "synthetic-data"}, "does not verify"),
        ({"signature": ""}, "does not verify"),
        ({"signature": "é" * 64}, "does not verify"),
        ({"org": None}, "malformed"),
        ({"account": "k1"}, "malformed"),
        ({"until": None}, "malformed"),
        ({"colour": "red"}, "malformed"),
    ],
)
def test_what_was_tampered_with_exempts_nobody_and_is_reported(
    change: dict[str, object], reason: str
) -> None:
    held = Exemptions([sign(ENTRY, KEY).model_dump() | change, sign(ENTRY, KEY)], KEY)
    assert len(held) == 1  # the other entry stands
    assert held.refused[0].place == 1
    assert reason in held.refused[0].reason
    assert held.spares("k1", "evil", None, at("2026-06-01")) is None


def test_no_key_a_wrong_key_and_a_date_that_is_none() -> None:
    entry = sign(ENTRY, KEY)
    for key, reason in ((None, "no key"), (b"another key of many bytes", "does not verify")):
        held = Exemptions([entry], key)
        assert reason in held.refused[0].reason
        assert held.refused[0].who == "acme"
        assert held.spares("k1", "acme", None, at("2026-06-01")) is None
    odd = Exemption.model_validate({**ENTRY, "until": "whenever", "signature": "0" * 64})
    assert "'whenever' for a date" in Exemptions([odd], KEY).refused[0].reason
    with pytest.raises(ConfigError, match="16 are the least"):
        Exemptions([], b"short")
    with pytest.raises(ConfigError, match="16 are the least"):
        sign(ENTRY, b"")
    with pytest.raises(ConfigError, match="not both"):
        sign({**ENTRY, "account": "k1"}, KEY)
    with pytest.raises(ConfigError, match="for a date"):
        sign({**ENTRY, "until": "31.12.2026"}, KEY)


@pytest.mark.parametrize("field", ["org", "use", "signed_by"])
@pytest.mark.parametrize("empty", ["", "  "])
def test_nobody_signs_an_empty_field(field: str, empty: str) -> None:
    with pytest.raises(ConfigError, match="is empty") as caught:
        sign({**ENTRY, field: empty}, KEY)
    assert caught.value.culprit == f"--{field.replace('_', '-')}"


@pytest.mark.parametrize("key", [b"k" * 16, b"ab" * 32])
def test_a_key_that_repeats_itself_is_no_secret(key: bytes) -> None:
    with pytest.raises(ConfigError, match="too regular"):
        sign(ENTRY, key)
    with pytest.raises(ConfigError, match="too regular"):
        Exemptions([], key)


@pytest.mark.parametrize(
    ("change", "option", "reason"),
    [
        ({"org": "*"}, "--org", "patterns are not understood"),
        ({"org": "acme-*"}, "--org", "patterns are not understood"),
        ({"org": None, "account": "*"}, "--account", "patterns are not understood"),
        ({"org": " acme "}, "--org", "has blanks around it: ' acme '"),
        ({"signed_by": "Ada\t"}, "--signed-by", "control character"),
        ({"signed_by": "Ada\u00a0"}, "--signed-by", "has blanks around"),
        ({"use": "evaluation\nuse = 'all'"}, "--use", "holds a line break"),
        ({"use": "evaluation\u2028and more"}, "--use", "holds a line break"),
        ({"use": "evaluation\r"}, "--use", "holds a line break"),
        ({"org": "ac\nme"}, "--org", "holds a line break"),
        ({"org": "ac\x7fme"}, "--org", "control character"),
        ({"org": "ac\u2028me"}, "--org", "holds a line break"),
        ({"org": "ac\u200bme"}, "--org", r"cannot be seen: 'ac\u200bme'"),
        ({"org": "\u202eacme"}, "--org", "cannot be seen"),
        ({"org": "acme\ufe0f"}, "--org", "cannot be seen"),
        ({"org": None, "account": "k\u3164"}, "--account", "cannot be seen"),
        ({"org": None, "account": "\u3000k1"}, "--account", "has blanks around"),
    ],
)
def test_what_would_permit_nobody_or_mislead_is_not_signed(
    change: dict[str, object], option: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sign(ENTRY | change, KEY)
    assert caught.value.culprit == option
    assert reason in caught.value.reason
    assert caught.value.way_out


@pytest.mark.parametrize("until", ["2027-01-31x10:00+14:00", "2027-01-31_10:00", "20270131 x"])
def test_a_time_behind_anything_but_a_t_or_a_blank_is_no_date(until: str) -> None:
    with pytest.raises(ConfigError, match="for a date"):
        sign(ENTRY | {"until": until}, KEY)
    signed = sign(ENTRY | {"until": "2027-01-31 10:00+14:00"}, KEY)
    assert ends_at(signed) == at("2027-01-30T20:00:00")


def test_a_malformed_entry_is_told_where_its_fields_are_described() -> None:
    for entry in ({**ENTRY, "account": "k1"}, {**ENTRY, "colour": "red"}, {"org": "acme"}):
        with pytest.raises(ConfigError) as caught:
            sign(entry, KEY)
        where = caught.value.way_out.split(",")[0]
        described = (Path(__file__).parents[2] / where).read_text(encoding="utf-8")
        assert all(f"`{name}`" in described.split("[[exemptions]]")[1] for name in ENTRY)
