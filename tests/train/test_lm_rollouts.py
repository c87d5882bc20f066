"""Rollouts: what the model itself would say, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from tiny_students import chats_of, load_model, write_model

from overproof.train.lm.rollouts import rollout_seed, rollouts

ENDS = frozenset({260})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("rollouts") / "tiny", layers=2))


@pytest.fixture
def prompts(model):
    return [chat.ids[: chat.n_prompt] for chat in chats_of(model)]


def _said(model, prompts, *, limit=20, temperature=1.0, seed=0, **more):
    return rollouts(
        model.module,
        prompts,
        ends=more.get("ends", ENDS),
        limits=[limit] * len(prompts),
        seeds=[rollout_seed(seed, i) for i in range(len(prompts))],
        temperature=temperature,
    )


def test_greedy_rollouts_are_those_of_generate(model, prompts):
    # Whatever it says often ends it too, so that both kinds of ending are met.
    often = _said(model, prompts, temperature=0.0, ends=frozenset())[0][3]
    ends = frozenset({260, often})
    found = _said(model, prompts, temperature=0.0, ends=ends)
    for prompt, answer in zip(prompts, found, strict=True):
        wanted = model.module.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False,
            eos_token_id=sorted(ends), pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert answer == wanted
    assert any(answer[-1] == often for answer in found)


def test_what_is_drawn_does_not_depend_on_the_rest_of_the_batch(model, prompts):
    together = _said(model, prompts)
    assert together == _said(model, prompts)
    assert together != _said(model, prompts, seed=1)
    for i, prompt in enumerate(prompts):
        (alone,) = rollouts(
            model.module, [prompt], ends=ENDS, limits=[20], seeds=[rollout_seed(0, i)]
        )
        assert alone == together[i]


def test_draws_follow_the_models_distribution(model, prompts):
    temperature, n = 0.7, 2000
    said = rollouts(
        model.module, [prompts[0]] * n, ends=ENDS, limits=[1] * n,
        seeds=[rollout_seed(7, i) for i in range(n)], temperature=temperature,
    )  # fmt: skip
    with torch.no_grad():
        logits = model.module(torch.tensor([prompts[0]])).logits[0, -1].double()
    p = torch.softmax(logits / temperature, -1)
    counts = torch.bincount(torch.tensor([a[0] for a in said]), minlength=len(p))
    common = p * n >= 5
    expected = torch.cat([p[common], p[~common].sum()[None]]) * n
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_each_has_its_own_limit_and_an_end_is_the_last_token(model, prompts):
    limits = [0, 1, 7, 30, 3]
    said = rollouts(
        model.module, prompts, ends=frozenset(range(40)), limits=limits, seeds=[1, 2, 3, 4, 5]
    )
    assert said[0] == []
    for answer, limit in zip(said[1:], limits[1:], strict=True):
        assert 1 <= len(answer) <= limit
        assert not any(token < 40 for token in answer[:-1])
        assert len(answer) == limit or answer[-1] < 40


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_model_is_left_as_it_was(tmp_path, prompts, checkpointing):
    """Gradient checkpointing switches the cache off in training: the rollout must not notice."""
    model = load_model(write_model(tmp_path / "tiny", layers=2))
    calm = _said(model, prompts)
    model.module.train()
    model.module.model.layers[0].eval()  # a part that somebody froze
    if checkpointing:
        model.module.activation_checkpointing_enable({"use_reentrant": False})
    state = torch.random.get_rng_state()
    assert _said(model, prompts) == calm
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.module.training
    assert not model.module.model.layers[0].training
    assert torch.is_grad_enabled()
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())


def test_weights_that_autocast_converted_without_gradients_are_not_met_again(model, prompts):
    """Within one block of autocast its cache would hand them on, and nothing would be learned."""
    ids = torch.tensor([prompts[0]])
    with torch.autocast("cpu", torch.bfloat16):
        _said(model, prompts, limit=3)
        model.module(ids).logits.float().sum().backward()
    for name, parameter in model.module.named_parameters():
        assert parameter.grad is not None, name
    model.module.zero_grad()
    model.module.zero_grad(set_to_none=True)


def test_seeds_are_the_same_on_every_machine():
    assert rollout_seed(0, 1, 2) == 4227840975005377759
    assert len({rollout_seed(a, b) for a in range(20) for b in range(20)}) == 400
