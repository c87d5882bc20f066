"""The study's table and plot: intervals that cover, and a page that keeps what people wrote."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from overproof.errors import RunError
from overproof.records.certificate import Interval
from overproof.records.lm_student import LmStudentCard
from overproof.records.text_certificate import Contestant, Degeneration, TextCertificate

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("study_report", STUDIES / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_intervals_hold_over_prompts_and_seeds(study: ModuleType) -> None:
    """Prompts differ in difficulty, seeds in luck: both are drawn anew in every experiment."""
    rng = np.random.default_rng(3)
    for seed_spread in (0.0, 0.05):
        held = 0
        for _ in range(400):
            prompts = rng.normal(0, 0.3, 200)
            seeds = rng.normal(0, seed_spread, 3)
            scores = 0.6 + prompts + seeds[:, None] + rng.normal(0, 0.3, (3, 200))
            found = study.over_prompts_and_seeds(scores, float(scores.mean()))
            held += found.low <= 0.6 <= found.high
        assert held >= 0.925 * 400


def test_prompts_alone_would_not_hold(study: ModuleType) -> None:
    """An interval over prompts alone misses the truth when seeds differ."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        scores = 0.6 + rng.normal(0, 0.05, 3)[:, None] + rng.normal(0, 0.3, (3, 400))
        narrow = study.over_prompts_and_seeds(scores.mean(0)[None], float(scores.mean()))
        held += narrow.low <= 0.6 <= narrow.high
    assert held < 0.7 * 200


def test_retention_is_the_ratio_of_means(study: ModuleType) -> None:
    """Of equal answers it is 1, with no doubt about it."""
    teacher = np.array([1.0, 0.0, 1.0, 1.0])
    same = study.retention(np.stack([teacher, teacher]), teacher)
    assert (same.estimate, same.low, same.high) == (1.0, 1.0, 1.0)
    half = study.retention(np.array([[1.0, 0.0, 0.5, 0.0]]), teacher)
    assert half.estimate == pytest.approx(0.5)
    assert half.low < 0.5 < half.high


def interval(value: float) -> Interval:
    """A value with some interval."""
    return Interval(estimate=value, low=value - 0.1, high=value + 0.1, method="wilson", n=8)


def contestant(name: str, role: str, score: float) -> Contestant:
    """One with a score."""
    none = interval(0.0)
    return Contestant(
        name=name,
        role=role,
        description="",
        method=name.partition("-")[0],
        n=8,
        score=interval(score),
        retention=interval(score / 0.8),
        agreement=interval(0.5),
        degeneration=Degeneration(loops=none, unstopped=none, empty=none, any=none),
        mean_tokens=4.0,
    )


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, TextCertificate]:
    """A run's certificate and cards: two methods of two seeds."""
    names = ["sft-1", "sft-2", "dense_kd-1", "dense_kd-2"]
    for name in names:
        directory = tmp_path / "students" / name
        directory.mkdir(parents=True)
        LmStudentCard(
            name=name, method=name.partition("-")[0], base="t", base_dir="b", teacher="t",
            parameters=9, trainable=9, vocabulary=9, precision="float32", steps=1, tokens=500_000,
            answer_tokens=200_000, n_train=6, train_seconds=90.0, seed=1,
            dataset_sha256="sha256:0", config_sha256="sha256:0",
        ).save(directory)  # fmt: skip
    certificate = TextCertificate(
        name="study",
        verdict="not certified",
        made_at="2026-01-01T00:00:00Z",
        scorer="reasoning_gym",
        margin=0.05,
        alpha=0.05,
        n_test=8,
        contestants=(
            contestant("teacher", "teacher", 0.8),
            *(contestant(name, "student", 0.5) for name in names),
            contestant("untrained base", "baseline", 0.1),
        ),
        comparisons=(),
        recipe_sha256="sha256:0",
        dataset_sha256="sha256:0",
    )
    return tmp_path, certificate


def test_table_and_plot_name_every_method(
    study: ModuleType, run: tuple[Path, TextCertificate]
) -> None:
    """Methods by their students' names, differences paired with SFT."""
    directory, certificate = run
    rng = np.random.default_rng(0)
    teacher = (rng.random(40) < 0.8).astype(float)
    scores = {f"sft-{n}": (rng.random(40) < 0.4).astype(float) for n in (1, 2)}
    scores |= {f"dense_kd-{n}": np.minimum(scores[f"sft-{n}"] + 0.25, 1.0) for n in (1, 2)}
    groups = study.groups_of(certificate, directory, scores)
    assert [group.kind for group in groups] == ["sft", "dense_kd"]
    text = study.table(certificate, groups, teacher)
    rows = [line for line in text.splitlines() if line.startswith("| KD from all")]
    gap = float((groups[1].scores - groups[0].scores).mean())
    assert f"{gap:+.3f} [" in rows[0]
    assert "| 500,000 | 1.5 |" in rows[0]
    assert "untrained base" in text
    tasks = ["a"] * 10 + ["b"] * 30
    split = study.by_task(groups, tasks, teacher)
    assert f"| b | 30 | {teacher[10:].mean():.3f} |" in split
    drawn = study.plot(groups, teacher, certificate.contestants[-1])
    names = [element.text for element in ET.fromstring(drawn).iter() if element.text]
    assert any("KD from all logits" in name for name in names)
    assert "untrained base" in names


def test_a_student_without_answers_is_named(
    study: ModuleType, run: tuple[Path, TextCertificate]
) -> None:
    """Half a study makes no table."""
    directory, certificate = run
    with pytest.raises(RunError, match="sft-2"):
        study.groups_of(certificate, directory, {"sft-1": np.ones(4)})


def test_page_keeps_what_people_wrote(study: ModuleType) -> None:
    """Only what stands between the markers is replaced; twice is the same as once."""
    page = f"# Study\n\nbefore\n\n{study.BEGIN}\nold\n{study.END}\n\nafter\n"
    once = study.page_with(page, "| new |\n")
    assert "old" not in once
    assert once.startswith("# Study\n\nbefore\n")
    assert once.endswith("\n\nafter\n")
    assert study.page_with(once, "| new |\n") == once
    with pytest.raises(RunError, match="markers"):
        study.page_with("# Study\n", "| new |\n")


def test_a_run_that_is_not_there_is_an_error(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The culprit is named, without a traceback."""
    assert study.main([str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err
