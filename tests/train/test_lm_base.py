"""Loading what a student begins with: every kind of base, and every way in which one is wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tiny_lm import write_tiny_lm
from tiny_students import configured, load_model, rows_of_exchanges, write_model

from overproof.clients.registry import resolve
from overproof.errors import ConfigError, ModelError, StudentError
from overproof.records.lm_student import LmStudentCard
from overproof.train.lm.base import load_student


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def loaded(tmp_path):
    def run(config, *, teacher=None, rows=(), seed=0):
        return load_student(
            config,
            seed=seed,
            teacher=teacher,
            students=tmp_path / "students",
            bases=tmp_path / "bases",
            resolve=resolve,
            rows=rows,
        )

    return run


def _weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_directory_is_its_own_untrained_base(base, loaded, tmp_path):
    student = loaded(configured("sft", base=str(base)))
    assert student.base_dir == str(base)
    assert not (tmp_path / "bases").exists()
    assert student.module.dtype == torch.float32
    assert student.tokenizer.convert_ids_to_tokens(student.end) == "<|end|>"
    assert student.ends == {student.end}
    assert student.context == 512
    assert all(p.requires_grad for p in student.module.parameters())


def test_random_weights_are_drawn_by_seed_and_written_for_the_certificate(base, loaded, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(base, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    state = torch.random.get_rng_state()
    first = loaded(configured("sft", base=str(bare)))
    assert torch.equal(torch.random.get_rng_state(), state)
    again = load_model((tmp_path / "bases").glob("*").__next__())
    assert first.base_dir == str(next((tmp_path / "bases").glob("*")))
    assert _same(_weights(first.module), _weights(again.module))
    assert _same(_weights(first.module), _weights(loaded(configured("sft", base=str(bare))).module))
    other = loaded(configured("sft", base=str(bare)), seed=1)
    assert not _same(_weights(first.module), _weights(other.module))
    assert other.base_dir != first.base_dir
    assert first.notes == ["the base has random weights, seed 0", *first.notes[1:]]


def test_weights_in_an_older_format_do_not_become_random_ones(base, loaded, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(base, older, ignore=shutil.ignore_patterns("*.safetensors"))
    (older / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin and no safetensors"):
        loaded(configured("sft", base=str(older)))
    (older / "pytorch_model.bin").unlink()
    (older / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks its safetensors shards"):
        loaded(configured("sft", base=str(older)))


def test_half_a_file_of_weights_is_no_base(base, loaded, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        loaded(configured("sft", base=str(broken)))


def test_a_pruned_base_is_written_once_and_reused(base, loaded, tmp_path):
    config = configured("sft", base=str(base), prune={"layers": 2})
    student = loaded(config)
    assert student.module.config.num_hidden_layers == 2
    (made,) = (tmp_path / "bases").iterdir()
    assert student.base_dir == str(made)
    facts = json.loads((made / "base.json").read_text())
    assert facts["layers_kept"] == [0, 3]
    assert facts["layers_before"] == 4
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in made.iterdir()
    }
    marked = (made / "model.safetensors").stat().st_mtime_ns
    assert _same(_weights(loaded(config).module), _weights(student.module))
    assert (made / "model.safetensors").stat().st_mtime_ns == marked
    loaded(configured("sft", base=str(base), prune={"layers": 2, "keep": [1, 2]}))
    assert len(list((tmp_path / "bases").iterdir())) == 2


def test_layers_are_chosen_by_what_they_do_to_the_training_prompts(base, loaded, tmp_path):
    from overproof.train.prune import layer_importance, most_important

    config = configured("sft", base=str(base), prune={"layers": 2, "by": "importance"})
    with pytest.raises(ConfigError, match="no training prompts"):
        loaded(config)
    assert not list((tmp_path / "bases").glob("*"))
    loaded(config, rows=rows_of_exchanges())
    (made,) = (tmp_path / "bases").iterdir()
    facts = json.loads((made / "base.json").read_text())
    model = load_model(base)
    asked = [row["messages"][0]["content"] for row in rows_of_exchanges()]
    prompts = [
        {"input_ids": torch.tensor([model.chat.ids(f"<|user|>{text}<|end|><|assistant|>")])}
        for text in asked
    ]
    expected = layer_importance(model.module, prompts)
    assert facts["importance"] == pytest.approx(expected, abs=1e-6)
    assert facts["layers_kept"] == list(most_important(expected, 2))


def test_a_template_that_refuses_the_training_prompts_is_named(base, loaded, tmp_path):
    strict = write_model(
        tmp_path / "strict",
        template="{% if messages[0]['content'] != 'a question' %}{{ raise_exception('no') }}"
        "{% endif %}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}",
    )
    config = configured("sft", base=str(strict), prune={"layers": 2, "by": "importance"})
    with pytest.raises(ConfigError, match="chat template refuses it: no"):
        loaded(config, rows=rows_of_exchanges())


def test_what_a_killed_process_left_is_swept_away_and_what_lives_is_not(base, loaded, tmp_path):
    import os

    config = configured("sft", base=str(base), prune={"layers": 2})
    loaded(config)
    (made,) = (tmp_path / "bases").iterdir()
    shutil.rmtree(made)
    dead, fresh, alive = (made.with_name(f".{made.name}.{n}") for n in (99999991, 99999992, 1))
    for path in (dead, fresh, alive):
        path.mkdir()
    for path in (dead, alive):
        os.utime(path, (0, 0))
    loaded(config)
    assert set(made.parent.iterdir()) == {made, fresh, alive}


def test_a_base_that_is_nowhere_is_named(loaded):
    with pytest.raises(ModelError, match="no-such-model"):
        loaded(configured("sft", base="./no-such-model"))


def test_more_layers_than_there_are_is_refused(base, loaded, tmp_path):
    for layers in (4, 9):
        with pytest.raises(ConfigError, match=f"prune.layers = {layers}"):
            loaded(configured("sft", base=str(base), prune={"layers": layers}))
    bare = tmp_path / "bare"
    shutil.copytree(base, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ConfigError, match="no weights to keep"):
        loaded(configured("sft", base=str(bare), prune={"layers": 2}))


def test_the_teachers_weights_are_left_as_they_are(base, loaded):
    teacher = load_model(base)
    before = _weights(teacher.module)
    pruned = loaded(configured("sft", prune={"layers": 1}), teacher=teacher)
    assert _same(before, _weights(teacher.module))
    assert teacher.module.config.num_hidden_layers == 4
    whole = loaded(configured("sft"), teacher=teacher)
    assert _same(before, _weights(whole.module))
    with torch.no_grad():
        for p in (*whole.module.parameters(), *pruned.module.parameters()):
            p.zero_()
    assert _same(before, _weights(teacher.module))
    with pytest.raises(ConfigError, match="weights are not here"):
        loaded(configured("sft"))


def test_a_tokenizer_that_knows_more_than_the_weights_is_refused(base, loaded, tmp_path):
    from transformers import AutoTokenizer

    wrong = tmp_path / "wrong"
    shutil.copytree(base, wrong)
    tokenizer = AutoTokenizer.from_pretrained(wrong)
    tokenizer.add_tokens(["<|new|>", "<|newer|>"])
    tokenizer.save_pretrained(wrong)
    with pytest.raises(ModelError, match=r"2 of its tokens, '<\|new\|>' \(266\) first"):
        loaded(configured("sft", base=str(wrong)))


def test_a_padded_embedding_is_fine(loaded, tmp_path):
    padded = write_model(tmp_path / "padded", padding=22, layers=1)
    assert loaded(configured("sft", base=str(padded))).module.config.vocab_size == 288


def test_a_base_without_a_chat_template_is_refused(loaded, tmp_path):
    plain = write_tiny_lm(tmp_path / "plain", template=None)
    with pytest.raises(ModelError, match="has no chat template"):
        loaded(configured("sft", base=str(plain)))


def test_a_template_that_leaves_out_what_is_said_is_refused(loaded, tmp_path):
    silent = write_tiny_lm(tmp_path / "silent", template="<|user|>hello<|assistant|>")
    with pytest.raises(ModelError, match="leaves out what user and assistant say"):
        loaded(configured("sft", base=str(silent)))
    angry = write_tiny_lm(tmp_path / "angry", template="{{ raise_exception('never') }}")
    with pytest.raises(ModelError, match="refuses a question"):
        loaded(configured("sft", base=str(angry)))


def test_the_template_decides_what_ends_an_answer(base, loaded, tmp_path):
    """A generation config that stops elsewhere would let the student run on for ever."""
    other = tmp_path / "other"
    shutil.copytree(base, other)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps(said | {"eos_token_id": 261}))
    student = loaded(configured("sft", base=str(other)))
    assert student.tokenizer.convert_ids_to_tokens(student.end) == "<|end|>"
    assert student.end == 260
    assert student.ends == {260, 261}
    assert student.module.generation_config.eos_token_id == [260, 261]
    assert any("stops at '<|system|>'" in note for note in student.notes)


def test_a_template_without_a_closing_token_ends_with_the_tokenizers_own(loaded, tmp_path):
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    plain = write_tiny_lm(tmp_path / "plain", template=template)
    student = loaded(configured("sft", base=str(plain)))
    assert student.end == 260
    assert any("no token of its own" in note for note in student.notes)


def test_padding_gets_a_token_that_does_not_end_answers_where_there_is_one(loaded, base, tmp_path):
    student = loaded(configured("sft", base=str(base)))
    assert student.tokenizer.pad_token == "<|end|>"  # nothing else is known to be a filler
    assert student.module.generation_config.pad_token_id == student.end
    from transformers import AutoTokenizer

    padded = write_model(tmp_path / "padded", padding=1, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(padded)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<pad>"]})
    tokenizer.save_pretrained(padded)
    student = loaded(configured("sft", base=str(padded)))
    assert student.tokenizer.pad_token == "<pad>"
    assert any("'<pad>' pads" in note for note in student.notes)


def test_lora_trains_low_rank_updates_alone_and_is_deterministic(base, loaded):
    lora = {"rank": 4, "targets": ["q_proj", "v_proj"]}
    student = loaded(configured("sft", base=str(base), lora=lora))
    trained = {name for name, p in student.module.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert student.module.peft_config["default"].lora_alpha == 8
    again = loaded(configured("sft", base=str(base), lora=lora))
    assert _same(_weights(student.module), _weights(again.module))
    other = loaded(configured("sft", base=str(base), lora=lora), seed=1)
    assert not _same(_weights(student.module), _weights(other.module))


def test_lora_on_all_linear_layers_spares_the_output(base, loaded):
    student = loaded(configured("sft", base=str(base), lora={"rank": 2}))
    names = [name for name, p in student.module.named_parameters() if p.requires_grad]
    assert len(names) == 4 * 7 * 2
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize("target", ["nothing_proj", "lm_head", "model.embed_tokens"])
def test_lora_targets_that_cannot_be_are_named(base, loaded, target):
    with pytest.raises(ConfigError, match=target):
        loaded(configured("sft", base=str(base), lora={"rank": 2, "targets": [target]}))


def _card(directory, base, **more):
    LmStudentCard(
        name=directory.name, method="sft", base="tiny", base_dir=str(base), teacher="t",
        parameters=1, trainable=1, vocabulary=266, precision="float32", steps=1, tokens=1,
        answer_tokens=1, n_train=1, train_seconds=1.0, seed=0, dataset_sha256="d",
        config_sha256="c", base_licence="mit", **more,
    ).save(directory)  # fmt: skip


def test_a_student_starts_with_an_earlier_ones_weights(base, loaded, tmp_path):
    earlier = write_model(tmp_path / "students/first", seed=7)
    with pytest.raises(StudentError, match="no finished student"):
        loaded(configured("sft", start="first"))
    _card(earlier, base)
    student = loaded(configured("sft", start="first"))
    assert _same(_weights(student.module), _weights(load_model(earlier).module))
    assert (student.base, student.base_dir, student.base_licence) == ("tiny", str(base), "mit")


def test_an_earlier_students_adapter_is_folded_in(base, loaded, tmp_path):
    first = loaded(configured("sft", base=str(base), lora={"rank": 2, "merge": False}))
    with torch.no_grad():
        for name, p in first.module.named_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(0))
    directory = tmp_path / "students/first"
    first.module.save_pretrained(directory / "adapter")
    _card(directory, base, adapter=True)
    student = loaded(configured("sft", start="first"))
    ids = torch.arange(10).unsqueeze(0)
    with torch.no_grad():
        wanted, found = first.module.eval()(ids).logits, student.module.eval()(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert all(p.requires_grad for p in student.module.parameters())
    again = loaded(configured("sft", start="first", lora={"rank": 2}))
    with torch.no_grad():
        found = again.module.eval()(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert all("lora_" in n for n, p in again.module.named_parameters() if p.requires_grad)
    shutil.rmtree(directory / "adapter")
    with pytest.raises(StudentError, match="is not there"):
        loaded(configured("sft", start="first"))


def test_a_lora_to_be_kept_has_its_start_kept(base, loaded, tmp_path):
    """An adapter on an earlier student's weights is nothing without them."""
    earlier = write_model(tmp_path / "students/first", seed=7)
    _card(earlier, base)
    lora = {"rank": 2, "merge": False}
    student = loaded(configured("sft", start="first", lora=lora))
    (made,) = (tmp_path / "bases").iterdir()
    assert student.base_dir == str(base)
    assert student.adapter_base == str(made)
    assert _same(_weights(load_model(made).module), _weights(load_model(earlier).module))
    assert json.loads((made / "base.json").read_text())["source"] == "student first"
    shutil.rmtree(earlier)  # it is trained again, say
    directory = tmp_path / "students/second"
    student.module.save_pretrained(directory / "adapter")
    _card(directory, base, adapter=True, adapter_base="../../bases/" + made.name)
    third = loaded(configured("sft", start="second"))
    assert third.adapter_base is None
    assert _same(_weights(third.module), _weights(load_model(made).module)), "B is zero as yet"


def test_a_base_that_cannot_be_written_leaves_nothing(base, loaded, tmp_path, monkeypatch):
    from pathlib import Path

    stale = tmp_path / "bases"

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ModelError, match="No space left"):
        loaded(configured("sft", base=str(base), prune={"layers": 2}))
    assert not list(stale.iterdir())


@pytest.mark.slow
def test_a_gguf_file_becomes_a_base_that_transformers_loads(loaded, tmp_path):
    try:
        resolve("SmolLM2-135M-Instruct")
    except ModelError:
        pytest.skip("the model was not pulled")
    config = configured("sft", base="SmolLM2-135M-Instruct", prune={"layers": 3})
    student = loaded(config)
    assert student.tokenizer.convert_ids_to_tokens(student.end) == "<|im_end|>"
    assert student.base_licence == "Apache-2.0"
    assert student.module.config.num_hidden_layers == 3
    facts = json.loads((next((tmp_path / "bases").iterdir()) / "base.json").read_text())
    assert facts["layers_kept"] == [0, 14, 29]
    student = loaded(config)  # from the directory: no second reading of the file
    assert student.module.get_input_embeddings().weight.shape[0] == 49152
