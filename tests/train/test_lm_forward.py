"""Hidden states of answers and the head that makes logits of them: the model's own, always."""

from __future__ import annotations

import pytest
import torch
from tiny_students import chats_of, load_model, student_of, write_model

from overproof.errors import ModelError
from overproof.train.lm.collator import Collator
from overproof.train.lm.forward import (
    answer_hidden,
    answer_sum,
    check_forward,
    head_of,
    unwrapped,
    whole_head_of,
)
from overproof.train.lm.parts import IGNORED
from overproof.train.losses.cross_entropy import cross_entropy

PADDED = tuple((i,) for i in range(5))
PACKED = ((0, 1), (2, 3, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("forward") / "tiny", layers=2))


@pytest.fixture
def chats(model):
    return chats_of(model)


def _batch(model, chats, *, packed):
    pad = student_of(model).tokenizer.pad_token_id
    return Collator(chats, pad, packing=packed)(PACKED if packed else PADDED)


def _plain_logits(module, chats):
    """Logits that foretell each answer token, one chat at a time, by the model's own forward."""
    found = []
    for chat in chats:
        ids = torch.tensor([chat.ids])
        logits = module(input_ids=ids, use_cache=False).logits[0]
        found.append(logits[chat.n_prompt - 1 : -1])
    return torch.cat(found)


def _in_order_of_chats(batch, places, values, chats):
    """Values at places of a batch, chat after chat, whatever row each chat is in."""
    by_row = {}
    for row, column, value in zip(*(p.tolist() for p in places), values, strict=True):
        start = int((batch["position_ids"][row, : column + 1] == 0).nonzero()[-1])
        key = tuple(batch["input_ids"][row, start : start + 8].tolist())
        by_row.setdefault(key, []).append(value)
    return torch.stack([v for chat in chats for v in by_row[_key(chat, batch)]])


def _key(chat, batch):
    for row in range(batch["input_ids"].shape[0]):
        ids = batch["input_ids"][row].tolist()
        for start in range(len(ids)):
            if tuple(ids[start : start + len(chat.ids)]) == chat.ids:
                return tuple(ids[start : start + 8])
    raise AssertionError("the chat is not in the batch")


@pytest.mark.parametrize("packed", [False, True])
def test_hidden_states_with_the_head_give_the_models_own_logits(model, chats, packed):
    batch = _batch(model, chats, packed=packed)
    with torch.no_grad():
        hidden_nd, targets_n, places = answer_hidden(model.module, batch)
        weight_vd, bias_v = head_of(model.module)
        ours = torch.nn.functional.linear(hidden_nd, weight_vd, bias_v)
        plain = _plain_logits(model.module, chats)
    assert len(targets_n) == sum(chat.n_answer for chat in chats)
    torch.testing.assert_close(
        _in_order_of_chats(batch, places, ours, chats), plain, rtol=1e-4, atol=1e-4
    )
    answers = torch.tensor([t for chat in chats for t in chat.ids[chat.n_prompt :]])
    assert torch.equal(_in_order_of_chats(batch, places, targets_n, chats), answers)


def test_no_tensor_has_a_row_for_every_token_and_a_column_for_every_word(model, chats):
    batch = _batch(model, chats, packed=False)
    rows, width = batch["input_ids"].shape
    vocabulary = model.module.config.vocab_size
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for each in out if isinstance(out, tuple | list) else [out]:
                if isinstance(each, torch.Tensor) and each.shape[-1:] == (vocabulary,):
                    largest = max(largest, each.numel())
            return out

    with Watch():
        answer_sum(model.module, batch, lambda z, _c, t, _p: cross_entropy(z, t)).backward()
    model.module.zero_grad()
    weights = vocabulary * model.module.config.hidden_size  # the head, transposed
    n = int((batch["labels"] != IGNORED).sum())
    assert largest <= max(weights, n * vocabulary) < rows * width * vocabulary


def test_a_first_token_that_is_learned_is_refused(model, chats):
    batch = _batch(model, chats, packed=True)
    batch["labels"][1, 0] = 5
    with pytest.raises(ValueError, match="nothing foretells it"):
        answer_hidden(model.module, batch)
    inside = _batch(model, chats, packed=True)
    second = int((inside["position_ids"][0] == 0).nonzero()[1])
    inside["labels"][0, second] = 5
    with pytest.raises(ValueError, match="nothing foretells it"):
        answer_hidden(model.module, inside)


def _gradients(module, batch):
    module.zero_grad()
    answer_sum(module, batch, lambda z, _c, t, _p: cross_entropy(z, t)).backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_those_of_the_plain_loss(tmp_path, tied):
    model = load_model(write_model(tmp_path / "tiny", layers=2, tie_word_embeddings=tied))
    chats = chats_of(model)
    ours = _gradients(model.module, _batch(model, chats, packed=False))
    model.module.zero_grad()
    targets = torch.tensor([t for chat in chats for t in chat.ids[chat.n_prompt :]])
    loss = torch.nn.functional.cross_entropy(
        _plain_logits(model.module, chats), targets, reduction="sum"
    )
    loss.backward()
    plain = {n: p.grad for n, p in model.module.named_parameters()}
    assert ours.keys() == plain.keys()
    assert ("lm_head.weight" in ours) is not tied
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    model = load_model(write_model(tmp_path / "tiny", layers=2))
    batch = _batch(model, chats_of(model), packed=True)
    model.module.train()
    before = _gradients(model.module, batch)
    model.module.activation_checkpointing_enable({"use_reentrant": False})
    after = _gradients(model.module, batch)
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_granite_scales_and_a_gemma_caps_its_logits_and_so_do_we(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": 266, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 32, "initializer_range": 0.5,
        "head_dim": 8, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 1,
    }  # fmt: skip
    tiny = load_model(write_model(tmp_path / "tiny", layers=1))
    chats = chats_of(tiny)
    batch = _batch(tiny, chats, packed=False)
    granite = GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=8.0)).eval()
    check_forward(granite, "granite")
    assert whole_head_of(granite).scale == 0.125
    gemma = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=3.0)).eval()
    check_forward(gemma, "gemma")
    assert whole_head_of(gemma).cap == 3.0
    with pytest.raises(ModelError, match="caps its logits"):
        head_of(gemma)
    targets = torch.tensor([t for chat in chats for t in chat.ids[chat.n_prompt :]])
    for module in (granite, gemma):
        ours = answer_sum(module, batch, lambda z, _c, t, _p: cross_entropy(z, t))
        plain = torch.nn.functional.cross_entropy(
            _plain_logits(module, chats), targets, reduction="sum"
        )
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-3)


def test_a_model_that_makes_its_logits_in_an_unknown_way_is_refused(model, monkeypatch):
    forward = type(model.module).forward

    def doubled(self, *args, position_ids=None, logits_to_keep=0, **kwargs):
        out = forward(
            self, *args, position_ids=position_ids, logits_to_keep=logits_to_keep, **kwargs
        )
        out.logits = out.logits * 2
        return out

    monkeypatch.setattr(type(model.module), "forward", doubled)
    with pytest.raises(ModelError, match="in a way that is not known"):
        check_forward(model.module, "odd")


def test_a_model_that_takes_no_positions_is_refused():
    class Plain(torch.nn.Module):
        def forward(self, input_ids):
            return input_ids

    with pytest.raises(ModelError, match="takes no position_ids"):
        check_forward(Plain(), "plain")


def test_damaged_weights_are_named(tmp_path):
    model = load_model(write_model(tmp_path / "tiny", layers=1))
    with torch.no_grad():
        model.module.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        check_forward(model.module, "damaged")


def test_a_wrapped_model_is_passed_through_its_wrapper(model, chats):
    """PEFT adapts in its layers; DDP prepares its gradients in its own forward."""
    calls = []

    class Wrapper(torch.nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            torch.nn.Module.__init__(self)
            self.module = module

        def forward(self, *args, **kwargs):
            calls.append(sorted(kwargs))
            return self.module(*args, **kwargs)

    batch = _batch(model, chats, packed=True)
    wrapped = Wrapper(model.module)
    assert unwrapped(wrapped) is model.module
    ours = answer_sum(wrapped, batch, lambda z, _c, t, _p: cross_entropy(z, t))
    assert len(calls) == 1
    plain = answer_sum(model.module, batch, lambda z, _c, t, _p: cross_entropy(z, t))
    assert torch.equal(ours, plain)
    assert not model.module.base_model._forward_hooks
