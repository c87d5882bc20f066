from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

from overproof.errors import StudentError
from overproof.evaluate.student import PromptFrame, Student, find_student, log_softmax

TEXTS = [
    "the film was good",
    "awful",
    "a table and a chair and the floor and the film and a table was very very good",
    "it was bad and good and bad",
    "words nobody knows",
]
# One word in four is good, and [CLS] is read too: 8 * 1 / 5 = 1.6 and so on.
EXPECTED_LOGITS = [
    [8 / 5, 0, 0],
    [0, 8 / 2, 0],
    [0, 0, 8 * 4 / 16],  # cut at 16 tokens, before "good"
    [8 / 8, 8 * 2 / 8, 0],
    [0, 0, 0],
]


def test_logits_are_the_models_under_any_batching(student: Student) -> None:
    for batch_size in (1, 2, 3, 64):
        np.testing.assert_allclose(student.logits(TEXTS, batch_size), EXPECTED_LOGITS, atol=1e-5)


def test_order_is_kept_over_many_windows(student: Student) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["good", "bad", "table", "the"], n + 1)) for n in range(15)] * 30
    texts = [texts[i] for i in rng.permutation(len(texts))]
    one_by_one = np.concatenate([student.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(student.predict_proba(texts, 2), one_by_one, atol=1e-6)


def test_agrees_with_the_plain_runtime(student: Student, student_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(student_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(student.card.max_length)
    session = onnxruntime.InferenceSession(str(student_dir / "model.onnx"))
    for text, logits in zip(TEXTS, student.logits(TEXTS), strict=True):
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        (plain,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(logits, plain[0], atol=1e-6)


def test_probabilities_are_calibrated(student: Student) -> None:
    probabilities = student.predict_proba(TEXTS)
    expected = np.exp(np.array(EXPECTED_LOGITS) / 2.0)
    expected /= expected.sum(axis=1, keepdims=True)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)


def test_tokens_are_counted_as_read(student: Student) -> None:
    assert student.score(TEXTS).n_tokens.tolist() == [5, 2, 16, 8, 4]


def test_no_texts_give_no_rows(student: Student) -> None:
    assert student.predict_proba([]).shape == (0, 3)


def test_log_softmax_does_not_overflow() -> None:
    assert log_softmax(np.array([[1e6, 0.0]])).tolist() == [[0.0, -1e6]]


def test_run_directory_means_its_student(
    tmp_path: Path, build_student: Callable[..., Path]
) -> None:
    probe = build_student(tmp_path / "students" / "probe", name="probe")
    assert find_student(tmp_path) == probe
    assert Student.load(tmp_path, threads=1).card.name == "probe"
    encoder = build_student(tmp_path / "students" / "encoder", name="encoder")
    with pytest.raises(StudentError, match="several students") as caught:
        find_student(tmp_path)
    assert str(encoder) in caught.value.way_out


def certificate(recommended: str | None) -> str:
    interval = {"estimate": 0, "low": 0, "high": 0, "method": "", "n": 1}
    power = {"n_test": 1, "margin": 0.1, "alpha": 0.05, "assumed_discordance": 0.2, "power": 0.8}
    comparison = {"first": "a", "second": "b", "metric": "accuracy", "difference": interval}
    comparison |= {"only_first_right": 0, "only_second_right": 0, "margin": 0.1, "alpha": 0.05}
    comparison |= {"p_value": 1.0, "verdict": "inconclusive"}
    fields: dict[str, Any] = {
        "name": "run",
        "created_at": "2026-01-01T00:00:00Z",
        "overproof_version": "0",
        "basis": "gold",
        "verdict": "not certified",
        "verdict_text": "",
        "recommended": recommended,
        "certified": [],
        "labels": ["a", "b"],
        "n_test": 1,
        "margin": 0.1,
        "metric": "accuracy",
        "power": power | {"n_needed": 1, "underpowered": False},
        "candidates": [],
        "comparisons": [comparison],
    }
    return json.dumps(fields)


def test_certificate_recommends(tmp_path: Path, build_student: Callable[..., Path]) -> None:
    for name in ("encoder", "probe"):
        build_student(tmp_path / "students" / name, name=name)
    path = tmp_path / "certificate.json"
    path.write_text(certificate("probe"))
    assert find_student(tmp_path).name == "probe"
    path.write_text(certificate("majority"))
    with pytest.raises(StudentError, match="'majority'"):
        find_student(tmp_path)
    path.write_text(certificate(None))
    with pytest.raises(StudentError, match="several"):
        find_student(tmp_path)
    path.write_text("{}")
    with pytest.raises(StudentError, match="not a certificate"):
        find_student(tmp_path)


def test_missing_directory_names_the_nearest(student_dir: Path) -> None:
    with pytest.raises(StudentError) as caught:
        Student.load(student_dir.parent / "tinny")
    assert caught.value.way_out == f"did you mean {student_dir}?"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "student.json"])
def test_missing_and_broken_files(
    tmp_path: Path, build_student: Callable[..., Path], name: str
) -> None:
    directory = build_student(tmp_path / "s")
    (directory / name).write_text("nonsense")
    with pytest.raises(StudentError) as caught:
        Student.load(directory)
    assert caught.value.culprit == str(directory / name)
    (directory / name).unlink()
    with pytest.raises(StudentError) as caught:
        Student.load(directory)
    assert caught.value.culprit.startswith(str(directory))
    assert caught.value.way_out


def test_labels_that_do_not_fit_the_model(
    tmp_path: Path, build_student: Callable[..., Path]
) -> None:
    directory = build_student(tmp_path / "s", labels=("yes", "no"))
    with pytest.raises(StudentError, match="gives 3 logits for the 2 labels"):
        Student.load(directory)


def test_prompt_frame() -> None:
    frame = PromptFrame("Review: ", "\nSentiment: ")
    assert frame.input_of("Review:  a film \nSentiment: ") == " a film "
    assert frame.input_of("\nReview: a film\nSentiment:") == "a film"
    assert frame.input_of("a film") == "a film"
    assert frame.input_of("Review: a film") == "Review: a film"
    assert PromptFrame("abc", "bcd").input_of("abcd") == "abcd"
    assert PromptFrame().input_of(" as it is ") == " as it is "


def test_prompt_frame_is_found_in_student_or_run(
    tmp_path: Path, build_student: Callable[..., Path]
) -> None:
    directory = build_student(tmp_path / "students" / "tiny")
    assert PromptFrame.load(directory) == PromptFrame()
    (tmp_path / "prompt.json").write_text('{"prefix": "run ", "suffix": ""}')
    assert Student.load(directory).frame == PromptFrame("run ", "")
    (directory / "prompt.json").write_text('{"prefix": "student ", "suffix": "!"}')
    assert Student.load(directory).frame == PromptFrame("student ", "!")
    for content in ("{", '{"prefix": "x"}', '{"prefix": 1, "suffix": ""}', "[]"):
        (directory / "prompt.json").write_text(content)
        with pytest.raises(StudentError, match=r"prompt\.json"):
            PromptFrame.load(directory)
