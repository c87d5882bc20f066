"""The road of a text task, from prompts to a frozen dataset, with a teacher that is scripted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from collecting import use
from texting import ABLE, NAMES, chats, collected, last, recipe, says

from overproof.clients.fake import FakeTeacher
from overproof.clients.protocol import Capabilities
from overproof.config.load import LoadedTextRecipe, load_any
from overproof.errors import BudgetError, CapabilityError, ConfigError, RunError, TooManyFailedError
from overproof.records.chat_dataset import read_chats
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.ledger import Ledger


def test_prompts_become_chats_and_nothing_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = use(monkeypatch, FakeTeacher(answer=says(lambda r: last(r).upper())))
    loaded = recipe(tmp_path, "[drift]\ncanaries = 0\n", data="test = 3\ntune = 2")
    manifest = collected(loaded)
    assert manifest.counts == {"train": 7, "tune": 2, "test": 3}
    assert teacher.calls == 12
    for chat in chats(loaded):
        asked, answer = chat["messages"]
        assert (asked["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"] == asked["content"].upper()
    assert manifest.provenance == {"fake@fake": 7}
    assert manifest.outcomes["test"] == {"answered": 3}
    assert collected(loaded) == manifest  # frozen: read, not made
    (loaded.run_dir / "dataset" / "manifest.json").unlink()
    assert collected(loaded).files == manifest.files
    assert teacher.calls == 12


def test_several_samples_and_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: Request) -> str:
        return f"{request.sample}: {len(request.messages)}"

    use(monkeypatch, FakeTeacher(answer=says(reply)))
    chat = [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]
    loaded = recipe(tmp_path, data='messages = "chat"', task="samples = 3", rows=[{"chat": chat}])
    collected(loaded)
    contents = [[m["content"] for m in chat["messages"]] for chat in chats(loaded)]
    assert contents == [["first", f"{s}: 1", "second", f"{s}: 3"] for s in range(3)]


def test_an_answer_that_breaks_the_schema_is_asked_again_and_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def reply(request: Request) -> str:
        text = last(request)
        asked[text] = asked.get(text, 0) + 1
        if "ada" in text:
            return "I would rather not"
        if "bob" in text and asked[text] < 3:
            return '{"name": 5}'
        return '{"name": "x"}'

    use(monkeypatch, FakeTeacher(answer=says(reply), capabilities=ABLE))
    (tmp_path / "schema.json").write_text(
        json.dumps({"type": "object", "properties": {"name": {"type": "string"}}})
    )
    loaded = recipe(
        tmp_path,
        "[drift]\ncanaries = 0\n[budget]\nmax_failed = 0.5\n",
        task='answer = "json"\nschema = "schema.json"',
    )
    manifest = collected(loaded)
    assert manifest.outcomes == {"train": {"answered": 11, "malformed": 1}}
    assert asked["Write a letter to bobbobbob, please."] == 3
    assert asked["Write a letter to adaadaada, please."] == 3  # once, and asked again twice
    assert all(chat["messages"][-1]["content"] == '{"name": "x"}' for chat in chats(loaded))
    (failure,) = map(json.loads, (loaded.run_dir / "failed.jsonl").read_text().splitlines())
    assert failure["outcome"] == "malformed"
    assert "JSON" in failure["reason"]
    dropped = (loaded.run_dir / "dataset" / "dropped.jsonl").read_text()
    assert json.loads(dropped)["filter"] == "outcome"
    with Ledger.open(loaded.run_dir / "ledger.sqlite") as ledger:
        outcomes = [e.completion.outcome for e in ledger.exchanges()]
        assert outcomes.count(Outcome.MALFORMED) == 5
        assert ledger.verify().ok


def test_the_schema_is_said_where_it_cannot_be_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return "{}"

    use(monkeypatch, FakeTeacher(answer=says(reply), capabilities=Capabilities()))
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    loaded = recipe(tmp_path, task='answer = "json"\nschema = "schema.json"\nsystem = "Be brief."')
    collected(loaded)
    assert '{"type": "object"}' in seen[0].messages[0].content
    assert chats(loaded)[0]["messages"][0]["content"] == "Be brief."  # no part of the dataset


def test_failures_are_listed_and_too_many_end_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Completion:
        if "ada" in last(request):
            return Completion(outcome=Outcome.FAILED, status=400, error="HTTP 400: no")
        return says("fine")(request)

    teacher = use(monkeypatch, FakeTeacher(answer=answer))
    loaded = recipe(tmp_path, "[drift]\ncanaries = 0\n")
    with pytest.raises(TooManyFailedError, match=r"1 of 12 answers: failed") as caught:
        collected(loaded)
    assert caught.value.exit_code == 3
    assert caught.value.outcomes == {"train": {"answered": 11, "failed": 1}}
    (failure,) = map(json.loads, (loaded.run_dir / "failed.jsonl").read_text().splitlines())
    assert failure["reason"] == "HTTP 400: no"
    assert not (loaded.run_dir / "dataset").exists()
    teacher.calls = 0
    text = (tmp_path / "recipe.toml").read_text()
    (tmp_path / "recipe.toml").write_text(text + "[budget]\nmax_failed = 0.1\n")
    again = load_any(tmp_path)
    assert isinstance(again, LoadedTextRecipe)
    assert collected(again).counts["train"] == 11
    assert teacher.calls == 1  # what failed, and nothing else


def test_changed_filters_ask_nobody_and_a_changed_task_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = use(monkeypatch, FakeTeacher(answer=says(last)))
    loaded = recipe(tmp_path)
    assert collected(loaded).counts["train"] == 12
    calls = teacher.calls
    filtered = recipe(tmp_path, '[[filters]]\nkind = "regex"\nmust_not = ["ada"]\non = "prompt"\n')
    manifest = collected(filtered)
    assert manifest.counts["train"] == 11
    assert [(r.name, r.dropped) for r in manifest.filters][-1] == ("regex", 1)
    assert teacher.calls == calls
    with pytest.raises(RunError, match="another recipe"):
        collected(recipe(tmp_path, task="samples = 2"))


def test_the_reference_of_a_training_prompt_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeTeacher(answer=says("fine")))
    rows = [{"text": f"Question of {name * 4}?", "a": f"secret-{name}"} for name in NAMES]
    loaded = recipe(tmp_path, data='reference = "a"\ntest = 4', rows=rows)
    collected(loaded)
    dataset = loaded.run_dir / "dataset"
    held = {row["item"] for row in read_chats(dataset, "test")}
    import pyarrow.parquet as pq

    references = pq.read_table(dataset / "references.parquet").to_pydict()
    assert set(references["item"]) == held
    for path in filter(Path.is_file, dataset.rglob("*")):
        if path.name != "references.parquet":
            assert b"secret-" not in path.read_bytes(), path.name


def test_what_cannot_be_asked_is_refused_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = use(monkeypatch, FakeTeacher(answer=says("x"), capabilities=Capabilities()))
    (tmp_path / "tools.json").write_text('[{"name": "f"}]')
    with pytest.raises(CapabilityError, match="takes no functions"):
        collected(recipe(tmp_path, task='answer = "tools"\ntools = "tools.json"'))
    with pytest.raises(ConfigError, match="there is no file"):
        collected(recipe(tmp_path, task='answer = "json"\nschema = "none.json"'))
    with pytest.raises(CapabilityError, match="offers 0"):
        collected(recipe(tmp_path, task="top_logprobs = 5"))
    assert teacher.calls == 0


def test_a_cap_stops_the_run_and_a_higher_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = use(monkeypatch, FakeTeacher(answer=says("fine")))
    with pytest.raises(BudgetError, match="max_calls"):
        collected(recipe(tmp_path, "[drift]\ncanaries = 0\n[budget]\nmax_calls = 5\n"))
    assert teacher.calls == 5
    collected(recipe(tmp_path, "[drift]\ncanaries = 0\n"))
    assert teacher.calls == 12
