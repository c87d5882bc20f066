from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from long_runs import LONG
from tokenizers import Tokenizer

from overproof.errors import StudentError
from overproof.train.bases import load_base
from overproof.train.batches import encode, pad
from overproof.train.classifier import EncoderClassifier
from overproof.train.export import onnx as export
from overproof.train.export.weights import load_student, save_weights

TEXTS = ["animal1 word2", "word3 place4 place5 word6 word7 word8", "number9"]


def classifier(directory: Path, *, normalise: bool) -> EncoderClassifier:
    torch.manual_seed(0)
    module = EncoderClassifier(load_base("tiny", directory, 32).encoder, 3, normalise=normalise)
    torch.nn.init.normal_(module.head.weight)
    return module.eval()


@pytest.mark.parametrize("normalise", [True, False])
def test_saved_student_gives_identical_logits(
    normalise: bool, tiny_base: Path, tmp_path: Path
) -> None:
    tokenizer = load_base("tiny", tiny_base, 8).tokenizer
    module = classifier(tiny_base, normalise=normalise)
    save_weights(module, tokenizer, tmp_path)
    again, tokenizer_again = load_student(tmp_path)
    assert again.normalise is normalise
    assert not again.training
    assert encode(tokenizer_again, TEXTS) == encode(tokenizer, TEXTS)
    with torch.no_grad():
        batch = pad(encode(tokenizer, TEXTS))
        assert torch.equal(module(*batch), again(*batch))
    # The tokenizer file truncates, and pads a batch to its longest text and no further.
    lengths = {len(e.ids) for e in tokenizer_again.encode_batch([*TEXTS, "word1 " * 50])}
    assert lengths == {8}
    assert {len(e.ids) for e in tokenizer_again.encode_batch(["word1", "word2 word3"])} == {4}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_student_that_lacks_a_file_is_named(name: str, tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = load_base("tiny", tiny_base, 8).tokenizer
    save_weights(classifier(tiny_base, normalise=True), tokenizer, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StudentError, match="cannot be loaded"):
        load_student(tmp_path)


def test_other_safetensors_are_no_student(tiny_base: Path) -> None:
    with pytest.raises(StudentError, match="has no metadata"):
        load_student(tiny_base)


def test_padding_does_not_change_the_answer(tiny_base: Path) -> None:
    module = classifier(tiny_base, normalise=False)
    tokens = [[2, 10, 20, 3], [2, 30, 3], [2, 40, 50, 60, 70, 80, 3]]
    with torch.no_grad():
        together = module(*pad(tokens))
        alone = torch.cat([module(*pad([ids])) for ids in tokens])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_difference_that_is_no_number_counts_as_infinite() -> None:
    one, nan = np.ones((1, 2), np.float32), np.full((1, 2), np.nan, np.float32)
    assert export._apart(one, one) == 0.0
    assert export._apart(one, nan) == np.inf
    assert export._apart(one, one[:, :1]) == np.inf


@pytest.fixture(scope="module")
def exported(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A directory with a normalising student's graph, and how far it is from the module."""
    directory = tmp_path_factory.mktemp("exported")
    module = classifier(tiny_base, normalise=True)
    attention = module.encoder.config._attn_implementation
    tokenizer = load_base("tiny", tiny_base, 32).tokenizer
    difference = export.export_onnx(module, tokenizer, directory / "model.onnx")
    assert module.encoder.config._attn_implementation == attention
    return directory, difference


def check(module: EncoderClassifier, tokenizer: Tokenizer, path: Path) -> None:
    session = onnxruntime.InferenceSession(path)
    assert {i.name: (i.type, i.shape) for i in session.get_inputs()} == {
        "input_ids": ("tensor(int64)", ["batch", "length"]),
        "attention_mask": ("tensor(int64)", ["batch", "length"]),
    }
    [output] = session.get_outputs()
    assert (output.name, output.type, output.shape) == ("logits", "tensor(float)", ["batch", 3])
    input_ids, mask = pad(encode(tokenizer, TEXTS))
    [logits] = session.run(None, {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, module(input_ids, mask).numpy(), atol=1e-4)


@pytest.mark.slow
def test_onnx_is_one_file_with_dynamic_axes(exported: tuple[Path, float], tiny_base: Path) -> None:
    directory, difference = exported
    assert 0.0 < difference <= 1e-4
    assert [file.name for file in directory.iterdir()] == ["model.onnx"]
    tokenizer = load_base("tiny", tiny_base, 32).tokenizer
    check(classifier(tiny_base, normalise=True), tokenizer, directory / "model.onnx")


@pytest.mark.slow
def test_a_graph_that_answers_differently_is_refused(
    exported: tuple[Path, float], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = classifier(tiny_base, normalise=True)
    with torch.no_grad():
        module.head.bias += 1e-3
    monkeypatch.setattr(export, "_write", lambda *_: None)  # the graph is the older module's
    tokenizer = load_base("tiny", tiny_base, 32).tokenizer
    with pytest.raises(StudentError, match=r"answers differently .*0\.001"):
        export.export_onnx(module, tokenizer, exported[0] / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "modernbert",
        *(pytest.param(x, marks=LONG) for x in ("roberta", "distilbert", "electra")),
    ],
)
def test_families_of_encoders_export(family: str, tiny_base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 195,
        "pad_token_id": 0,
    }
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    if family == "modernbert":
        sizes |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model(family, **sizes))
    module = EncoderClassifier(encoder, 3).eval()
    tokenizer = load_base("tiny", tiny_base, 32).tokenizer
    assert export.export_onnx(module, tokenizer, tmp_path / "model.onnx") <= 1e-4
    check(module, tokenizer, tmp_path / "model.onnx")
    save_weights(module, tokenizer, tmp_path)
    batch = pad(encode(tokenizer, TEXTS))
    with torch.no_grad():
        assert torch.equal(load_student(tmp_path)[0](*batch), module(*batch))
