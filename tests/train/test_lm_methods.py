"""Each method's loss and gradient against a naive computation over every logit in float64."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny_students import chats_of, configured, load_model, student_of, write_model

from overproof.errors import CapabilityError, DataError
from overproof.train.lm.collator import Collator
from overproof.train.lm.methods.build import build_method
from overproof.train.lm.parts import IGNORED
from overproof.train.lm.vocabularies import same_vocabulary

PACKED = ((0, 1), (2, 3, 4))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A student, and a teacher of the same tokens with other weights."""
    home = tmp_path_factory.mktemp("methods")
    return (
        load_model(write_model(home / "student", layers=1)),
        load_model(write_model(home / "teacher", layers=2, seed=1)),
    )


def _built(model, config, *, teacher=None):
    return build_method(
        config, student_of(model), teacher=teacher, scorer=None, chats=chats_of(model), seed=0
    )


def _batch(model, *, packed=True):
    pad = student_of(model).tokenizer.pad_token_id
    rows = PACKED if packed else tuple((i,) for i in range(5))
    return dict(Collator(chats_of(model), pad, packing=packed)(rows))


def _logits(module, batch):
    """Logits B x T x V in float64 that foretell token t at place t."""
    inputs = {k: batch[k] for k in ("input_ids", "position_ids", "attention_mask") if k in batch}
    logits = module(**inputs, use_cache=False).logits.double()
    return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :-1]], 1)


def _naive(kind, student, teacher, skew, temperature):
    """A divergence of two rows of logits, by the book."""
    p, q = (torch.softmax(z / temperature, -1) for z in (teacher, student))

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    value = {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jensen_shannon": lambda: (
            skew * kl(p, skew * p + (1 - skew) * q) + (1 - skew) * kl(q, skew * p + (1 - skew) * q)
        ),
        "skew_kl": lambda: kl(p, skew * p + (1 - skew) * q),
        "skew_reverse_kl": lambda: kl(q, (1 - skew) * p + skew * q),
    }[kind]()
    return value * temperature**2


def _compare(method, module, batch, naive):
    """Value and gradients of a method's loss and of the naive one."""
    learned = batch["labels"] != IGNORED
    module.zero_grad()
    ours = method.loss(module, batch)
    ours.backward()
    gradients = {n: p.grad.clone() for n, p in module.named_parameters()}
    module.zero_grad()
    logits = _logits(module, batch)[learned]
    wanted = naive(logits, batch["labels"][learned]).sum()
    wanted.backward()
    assert float(ours.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    for name, parameter in module.named_parameters():
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4 * scale)
    module.zero_grad()


@pytest.mark.parametrize("packed", [False, True])
def test_sft_is_cross_entropy_on_the_answer_alone(worlds, packed):
    student, _ = worlds
    batch = _batch(student, packed=packed)
    method = _built(student, configured("sft"))
    assert method.prepare(student.module, batch, 3) is batch
    _compare(
        method, student.module, batch,
        lambda z, t: torch.nn.functional.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip


def test_the_token_that_ends_an_answer_is_learned_though_it_also_pads(worlds):
    """Masking by the padding token's id, as collators often do, teaches never to stop."""
    student, _ = worlds
    chats = chats_of(student)
    end = student_of(student).end
    batch = Collator(chats, end, packing=False)(tuple((i,) for i in range(5)))
    assert int((batch["labels"] == end).sum()) == len(chats)
    method = _built(student, configured("sft"))
    with torch.no_grad():
        loss = method.loss(student.module, batch)
        never = batch | {"labels": batch["labels"].masked_fill(batch["labels"] == end, IGNORED)}
        assert float(method.loss(student.module, never)) < float(loss) - 1.0


@pytest.mark.parametrize(
    "kind", ["forward_kl", "reverse_kl", "jensen_shannon", "skew_kl", "skew_reverse_kl"]
)
def test_dense_kd_is_the_divergence_over_the_whole_vocabulary(worlds, kind):
    student, teacher = worlds
    batch = _batch(student)
    config = configured("dense_kd", divergence=kind, skew=0.3, temperature=1.5, ce_weight=0.25)
    with torch.no_grad():
        theirs = _logits(teacher.module, batch)[batch["labels"] != IGNORED]

    def naive(logits, targets):
        ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return 0.75 * _naive(kind, logits, theirs, 0.3, 1.5) + 0.25 * ce

    _compare(_built(student, config, teacher=teacher), student.module, batch, naive)
    assert all(p.grad is None for p in teacher.module.parameters())


def test_dense_kd_of_a_student_that_is_the_teacher_is_zero(worlds):
    _, teacher = worlds
    method = _built(teacher, configured("dense_kd"), teacher=teacher)
    with torch.no_grad():
        assert float(method.loss(teacher.module, _batch(teacher))) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("student_pad", "teacher_pad"), [(22, 6), (6, 22), (0, 6), (6, 0)])
def test_padded_vocabularies_are_cut_to_what_they_share(tmp_path, student_pad, teacher_pad):
    """Forward KL over the whole vocabulary, where the teacher has no mass on padded rows."""
    student = load_model(write_model(tmp_path / "s", layers=1, padding=student_pad))
    teacher = load_model(write_model(tmp_path / "t", layers=1, padding=teacher_pad, seed=1))
    batch = _batch(student)
    real = 266
    with torch.no_grad():
        theirs = _logits(teacher.module, batch)[batch["labels"] != IGNORED][:, :real]

    def naive(logits, _targets):
        p, log_q = torch.softmax(theirs, -1), torch.log_softmax(logits, -1)[:, :real]
        return (p * (p.log() - log_q)).sum(-1)

    _compare(_built(student, configured("dense_kd"), teacher=teacher), student.module, batch, naive)


def test_an_unrelated_vocabulary_of_equal_size_is_refused(worlds):
    student, teacher = worlds
    other = _renamed(teacher, {"th": 256, "he": 257}, {"th": 257, "he": 256})
    found = same_vocabulary(student.chat.tokenizer, other.chat.tokenizer)
    assert found.sizes == (266, 266)
    assert not found.same
    assert found.differs == (256, "th", "he")
    assert found.shared == 256
    assert found.overlap == 1.0
    for config in (configured("dense_kd"), configured("on_policy", start="sft")):
        with pytest.raises(
            CapabilityError, match=r"(?s)token 256 is 'th' to it and 'he' to .*sparse"
        ):
            _built(student, config, teacher=other)


def test_padded_embeddings_of_one_vocabulary_are_the_same(tmp_path):
    """Qwen2.5's 151,936 and 152,064 rows: padding, about which the tokenizers say nothing."""
    models = [
        load_model(write_model(tmp_path / str(n), layers=1, padding=n)) for n in (0, 22)
    ]  # fmt: skip
    found = same_vocabulary(*(model.chat.tokenizer for model in models))
    assert found.same
    assert (found.shared, found.overlap) == (266, 1.0)


def test_a_student_that_ends_its_answers_otherwise_is_refused(worlds):
    student, teacher = worlds
    other = dataclasses.replace(teacher, ends=frozenset({261}))
    with pytest.raises(CapabilityError, match=r"'<\|end\|>', and .*'?<\|system\|>.*never to stop"):
        _built(student, configured("dense_kd"), teacher=other)


def test_tokens_that_the_teacher_does_not_know_are_named(worlds):
    student, teacher = worlds
    shorter = _renamed(teacher, {"<|tools|>": 265}, {})
    chats = chats_of(student)
    chats[1] = dataclasses.replace(chats[1], ids=(265, *chats[1].ids[1:]))
    with pytest.raises(CapabilityError, match=r"'<\|tools\|>' \(265\).*first 265 tokens"):
        build_method(
            configured("dense_kd"), student_of(student), teacher=shorter, scorer=None,
            chats=chats, seed=0,
        )  # fmt: skip


def test_a_method_without_its_teacher_is_refused(worlds):
    student, _ = worlds
    for config in (configured("dense_kd"), configured("on_policy", start="sft")):
        with pytest.raises(CapabilityError, match="needs the teacher's weights"):
            _built(student, config)


def _renamed(model, without, added):
    """The model with a tokenizer that says otherwise what some ids mean."""

    class Tokenizer:
        def __init__(self, real):
            self._real = real

        def get_vocab(self):
            kept = {t: i for t, i in self._real.get_vocab().items() if t not in without}
            return kept | added

        def __getattr__(self, name):
            return getattr(self._real, name)

    class Chat:
        tokenizer = Tokenizer(model.chat.tokenizer)

    return dataclasses.replace(model, chat=Chat())


def _signal(batch, teacher, *, k, tail):
    """The teacher's top k at every answer token; every third one unknown."""
    learned = batch["labels"] != IGNORED
    with torch.no_grad():
        logprobs = torch.log_softmax(_logits(teacher.module, batch), -1)
    values, ids = logprobs.topk(k, -1)
    rest = torch.log1p(-values.exp().sum(-1).clamp(max=1 - 1e-12)) if tail else -math.inf
    known = learned.clone()
    known[learned] = torch.arange(int(learned.sum())) % 3 != 0
    shape = batch["labels"].shape
    return batch | {
        "teacher_ids": ids.int(),
        "teacher_logprobs": values.float(),
        "teacher_tail": torch.as_tensor(rest).float().expand(shape).clone(),
        "teacher_known": known,
    }


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jensen_shannon"])
@pytest.mark.parametrize("ce_weight", [0.0, 0.5, 1.0])
def test_sparse_kd_is_the_divergence_of_what_is_known_with_the_rest_as_one(worlds, kind, ce_weight):
    student, teacher = worlds
    batch = _signal(_batch(student), teacher, k=5, tail=True)
    learned = batch["labels"] != IGNORED

    def naive(logits, targets):
        ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        ids, known = batch["teacher_ids"][learned].long(), batch["teacher_known"][learned]
        p = batch["teacher_logprobs"][learned].double().exp()
        p = torch.cat([p, batch["teacher_tail"][learned].double().exp()[:, None]], -1)
        q = torch.softmax(logits, -1).gather(-1, ids)
        q = torch.cat([q, 1 - q.sum(-1, keepdim=True)], -1)
        kd = _naive(kind, q.log(), p.log(), 0.1, 1.0)
        return torch.where(known, (1 - ce_weight) * kd + ce_weight * ce, ce)

    config = configured("sparse_kd", divergence=kind, ce_weight=ce_weight)
    _compare(_built(student, config), student.module, batch, naive)


def test_sampled_kd_is_cross_entropy_to_the_shares_of_the_draws(worlds):
    student, teacher = worlds
    batch = _signal(_batch(student), teacher, k=4, tail=False)
    learned = batch["labels"] != IGNORED
    shares = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
    batch["teacher_logprobs"] = shares.expand_as(batch["teacher_logprobs"]).clone()
    entropy = 1.5 * math.log(2)

    def naive(logits, targets):
        ids, known = batch["teacher_ids"][learned].long(), batch["teacher_known"][learned]
        log_q = torch.log_softmax(logits, -1)
        soft = -(shares.exp().double() * log_q.gather(-1, ids)).sum(-1) - entropy
        return torch.where(known, soft, -log_q.gather(-1, targets[:, None])[:, 0])

    _compare(_built(student, configured("sampled_kd", draws=4)), student.module, batch, naive)


def test_sparse_kd_without_a_signal_is_refused(worlds):
    student, _ = worlds
    for name in ("sparse_kd", "sampled_kd"):
        method = _built(student, configured(name))
        assert method.name == name
        with pytest.raises(DataError, match=f"method '{name}'"):
            method.loss(student.module, _batch(student))


def test_lora_gets_the_same_loss_and_gradients_for_its_updates_alone(tmp_path):
    from overproof.train.lm.base import load_student

    path = write_model(tmp_path / "tiny", layers=1)
    model = load_model(path)
    student = load_student(
        configured("sft", base=str(path), lora={"rank": 2}), seed=0, teacher=None,
        students=tmp_path, bases=tmp_path, resolve=lambda name: tmp_path / name,
    )  # fmt: skip
    batch = _batch(model)
    method = _built(model, configured("sft"))
    assert student.module.peft_config["default"].r == 2
    loss = method.loss(student.module, batch)
    torch.testing.assert_close(loss, method.loss(model.module, batch))  # B is zero at first
    loss.backward()
    for name, parameter in student.module.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name)
        if "lora_B" in name:
            assert float(parameter.grad.abs().max()) > 0


def test_lora_is_part_of_the_loss_of_rollouts_and_of_the_merged_student(tmp_path):
    from overproof.train.lm.base import load_student
    from overproof.train.lm.rollouts import rollouts

    path = write_model(tmp_path / "tiny", layers=1)
    model = load_model(path)
    student = load_student(
        configured("sft", base=str(path), lora={"rank": 2}), seed=0, teacher=None,
        students=tmp_path, bases=tmp_path, resolve=lambda name: tmp_path / name,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in student.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    batch, method = _batch(model), _built(model, configured("sft"))
    prompts = [chat.ids[: chat.n_prompt] for chat in chats_of(model)]
    asked = {"ends": frozenset({260}), "limits": [8] * 5, "seeds": list(range(5))}
    with torch.no_grad():
        adapted, plain = method.loss(student.module, batch), method.loss(model.module, batch)
        said = rollouts(student.module, prompts, **asked)
        merged = student.module.merge_and_unload()
        assert float(adapted) != pytest.approx(float(plain), rel=1e-3)
        torch.testing.assert_close(method.loss(merged, batch), adapted, rtol=1e-4, atol=1e-3)
    assert said == rollouts(merged, prompts, **asked) != rollouts(model.module, prompts, **asked)


def test_a_chat_that_the_teacher_cannot_read_is_refused(worlds):
    student, teacher = worlds
    small = dataclasses.replace(teacher, context=20)
    with pytest.raises(CapabilityError, match="set max_length to 20"):
        _built(student, configured("dense_kd"), teacher=small)
