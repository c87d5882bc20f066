"""The students of a recipe, trained one after the other: what is kept, and what is done again."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from text_world import collect, write_recipe
from tiny_students import write_model

from overproof.clients.registry import resolve
from overproof.config.load import LoadedTextRecipe
from overproof.errors import ModelError, StudentError
from overproof.records.lm_student import LmStudentCard
from overproof.train.export.hf import load_lm
from overproof.train.lm import keys, run, signals
from overproof.train.lm.run import student_key, train_text_students
from overproof.train.lm.signal_report import SignalReport

KEPT, MERGED = (f"lora = {{ rank = 2, merge = {merge} }}" for merge in ("false", "true"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several are slower where so little is computed."""
    monkeypatch.setattr("overproof.train.compute.all_cores", contextlib.nullcontext)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", layers=1)


def student(name: str, origin: str, *more: str, method: str = "sft") -> str:
    quick = "epochs = 1\nbatch_tokens = 256\nmicro_tokens = 256\nlearning_rate = 0.01"
    lines = ["[[students]]", f'name = "{name}"', origin, f'method = "{method}"', quick, *more]
    return "\n".join(lines) + "\n"


def recipe(directory: Path, *students: str, **more: Any) -> LoadedTextRecipe:
    """A recipe of few prompts with these students."""
    settings = {"n": 14, "data": "train = 6\ntune = 2\ntest = 6", "students": ()} | more
    end = 'scorer = "exact"\n' + "".join(students)
    return write_recipe(directory, certificate=end, **settings)


def train(loaded: LoadedTextRecipe, said: list[str] | None = None) -> dict[str, LmStudentCard]:
    tell = said.append if said is not None else lambda _: None
    return train_text_students(loaded, resolve=resolve, say=tell)


@pytest.mark.slow
def test_an_adapter_on_a_student_that_is_an_adapter(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kept LoRA was trained on is kept, too, and moves with the run."""
    loaded = recipe(
        tmp_path / "r",
        student("first", f'base = "{base}"', KEPT),
        student("second", 'start = "first"', KEPT),
        student("third", 'start = "second"', MERGED),
    )
    collect(monkeypatch, loaded)
    cards = train(loaded)
    assert [card.adapter for card in cards.values()] == [True, True, False]
    assert [card.base_dir for card in cards.values()] == 3 * [str(base)], "it is untrained"
    assert cards["first"].adapter_base is None
    assert (cards["second"].adapter_base or "").startswith("../../bases/")
    assert cards["third"].adapter_base is None
    whole = sum(t.numel() for t in load_file(base / "model.safetensors").values())
    assert cards["third"].parameters == whole, "what is saved, without what was merged"
    assert cards["second"].parameters == whole + cards["second"].trainable
    # The one that starts from an adapter begins where that one ended.
    students = loaded.run_dir / "students"
    ids = torch.arange(8).unsqueeze(0)
    with torch.no_grad():
        ended = load_lm(students / "first")[0](ids).logits
        began = load_lm(students / "second")[0]
        with began.disable_adapter():
            torch.testing.assert_close(began(ids).logits, ended, rtol=1e-4, atol=1e-4)
        before = began(ids).logits
        loaded.run_dir.rename(tmp_path / "r/moved")
        after = load_lm(tmp_path / "r/moved/students/second")[0](ids).logits
    assert torch.equal(before, after)


@pytest.mark.slow
def test_another_base_under_the_same_path_is_trained_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = recipe(tmp_path / "r", student("small", f'base = "{base}"'))
    collect(monkeypatch, loaded)
    weights = loaded.run_dir / "students/small/model.safetensors"
    card = train(loaded)["small"]
    before = weights.stat().st_mtime_ns
    assert train(loaded)["small"] == card
    assert weights.stat().st_mtime_ns == before, "nothing is done twice"
    assert stat.S_IMODE(weights.stat().st_mode) == stat.S_IMODE(
        (weights.parent / "config.json").stat().st_mode
    ), "who may read the one may read the other"
    write_model(base, layers=1, seed=9)
    again = train(loaded)["small"]
    assert again.config_sha256 != card.config_sha256
    assert weights.stat().st_mtime_ns != before
    assert again.base_tune_loss != card.base_tune_loss


def test_the_key_knows_whose_weights_are_learned_from(base: Path, tmp_path: Path) -> None:
    teacher = write_model(tmp_path / "teacher", layers=1, seed=1)
    origin = f'base = "{base}"'
    loaded = recipe(
        tmp_path / "r",
        student("text", origin),
        student("dense", origin, method="dense_kd"),
        student("own", 'base = "teacher"'),
        student("later", 'start = "own"'),
        student("sparse", origin, method="sparse_kd"),
        kind="local",
        model=str(teacher),
    )

    def told() -> dict[str, str]:
        return {one.name: student_key(loaded, one) for one in loaded.recipe.students}

    before = told()
    assert told() == before
    write_model(teacher, layers=1, seed=2)
    after = told()
    assert {name for name in before if before[name] == after[name]} == {"text"}
    (base / "config.json").unlink()
    (base / "model.safetensors").unlink()
    assert told()["later"] == after["later"]
    assert told()["text"] != after["text"]
    gone = loaded.recipe.students[0].model_copy(update={"base": str(tmp_path / "nowhere")})
    with pytest.raises(ModelError, match="nowhere"):
        student_key(loaded, gone)
    assert keys.finished(tmp_path / "nowhere", "key") is None


@pytest.mark.slow
def test_a_tune_split_of_nothing_but_long_chats(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows how training went; the certificate is measured on other prompts."""
    loaded = recipe(tmp_path / "r", student("small", f'base = "{base}"', "max_length = 100"))
    collect(monkeypatch, loaded)
    read = run.read_chats

    def longer(directory: Path, split: str) -> Any:
        rows = list(read(directory, split))
        if split == "tune":
            for row in rows:
                row["messages"][0]["content"] *= 20
        return rows

    monkeypatch.setattr(run, "read_chats", longer)
    said: list[str] = []
    card = train(loaded, said)["small"]
    assert card.tune_loss is None
    (note,) = [note for note in card.notes if "tune" in note]
    assert "the tune chats: none is left: 2 longer than max_length (100 tokens)" in note
    assert f"student small: {note}" in said


def report(known: int) -> SignalReport:
    return SignalReport(
        source="ledger", aligned=True, chats=9, without=0, tokens=1000, known=known, parted=0,
        kept=0.9, tail=0.1, ms=1.0,
    )  # fmt: skip


def test_a_signal_that_tells_of_few_tokens() -> None:
    assert signals._warning("small", report(500)) is None
    assert "tell of 49.9% of the answer tokens alone" in str(signals._warning("small", report(499)))
    assert signals._warning("small", report(50)) is not None
    with pytest.raises(StudentError, match=r"4.9%.* SFT under another name") as told:
        signals._warning("small", report(49))
    assert "top_logprobs" in told.value.way_out
