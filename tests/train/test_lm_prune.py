"""Depth pruning: which layers stay, and a smaller model that is whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overproof.errors import ConfigError, ModelError
from overproof.train.prune import (
    chosen,
    layer_importance,
    most_important,
    prune_layers,
    spaced,
)


def _llama(layers: int = 4) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_spaced_layers_are_distinct_and_even_and_hold_both_ends(sizes):
    n_layers, keep = sizes
    kept = spaced(n_layers, keep)
    assert len(set(kept)) == keep
    assert list(kept) == sorted(kept)
    assert kept[0] == 0
    if keep > 1:
        assert kept[-1] == n_layers - 1
        gaps = [b - a for a, b in pairwise(kept)]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("keep", [4, 5, 0])
def test_as_many_layers_as_there_are_or_more_are_refused(keep):
    with pytest.raises(ConfigError, match=r"exactly that many|has 4 layers"):
        spaced(4, keep)
    with pytest.raises(ConfigError):
        most_important([0.1, 0.2, 0.3, 0.4], keep)


def test_a_named_layer_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"layer 4.*has 4 layers, 0 to 3"):
        chosen((0, 4), 4)
    assert chosen((3, 0), 4) == (0, 3)


def test_most_important_layers_come_in_order_of_depth():
    assert most_important([0.5, 0.1, 0.9, 0.5], 3) == (0, 2, 3)
    assert most_important([0.5, 0.5, 0.5], 2) == (0, 1)


def test_a_pruned_model_is_the_layers_that_stay_one_after_another():
    ids = torch.arange(12).unsqueeze(0)
    whole, pruned = _llama(), _llama()
    prune_layers(pruned, (0, 2))
    # The same by hand: layers 1 and 3 let everything through.
    for i in (1, 3):
        for part in (whole.model.layers[i].self_attn.o_proj, whole.model.layers[i].mlp.down_proj):
            torch.nn.init.zeros_(part.weight)
    with torch.no_grad():
        assert torch.equal(pruned(ids).logits, whole(ids).logits)
    assert pruned.config.num_hidden_layers == 2


def test_a_pruned_model_generates_with_its_cache(tmp_path):
    from transformers import LlamaForCausalLM

    module = _llama()
    prune_layers(module, (1, 3))
    module.save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(1, 6).unsqueeze(0)
    with torch.no_grad():
        with_cache = module.generate(ids, max_new_tokens=8, do_sample=False, use_cache=True)
        without = again.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False)
    assert torch.equal(with_cache, without)


def test_what_the_config_says_of_single_layers_is_cut_too(tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, sliding_window=4, use_sliding_window=True,
        max_window_layers=2, initializer_range=0.3, eos_token_id=[1, 2, 3, 4],
    )  # fmt: skip
    module = Qwen2ForCausalLM(config).eval()
    assert config.layer_types == ["full_attention"] * 2 + ["sliding_attention"] * 2
    prune_layers(module, (0, 3))
    assert module.config.layer_types == ["full_attention", "sliding_attention"]
    assert module.config.eos_token_id == [1, 2, 3, 4]
    module.save_pretrained(tmp_path)
    again = Qwen2ForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(module(ids).logits, again(ids).logits)


def test_importance_is_one_minus_the_cosine_of_what_goes_in_and_out():
    module = _llama()
    for part in (module.model.layers[2].self_attn.o_proj, module.model.layers[2].mlp.down_proj):
        torch.nn.init.zeros_(part.weight)  # lets everything through
    ids = torch.arange(20).reshape(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    found = layer_importance(module, [{"input_ids": ids, "attention_mask": mask}])
    with torch.no_grad():
        states = []
        hooks = [
            layer.register_forward_hook(lambda _m, args, out: states.append((args[0], out)))
            for layer in module.model.layers
        ]
        module(ids, attention_mask=mask)
        for hook in hooks:
            hook.remove()
    for value, (before, after) in zip(found, states, strict=True):
        cosine = torch.cosine_similarity(before.double(), after.double(), dim=-1)
        assert value == pytest.approx(float((1 - cosine)[mask.bool()].mean()), abs=1e-9)
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert most_important(found, 3) == (0, 1, 3)


def test_importance_without_prompts_is_refused():
    with pytest.raises(ConfigError, match="no training prompts"):
        layer_importance(_llama(), [])


def test_a_model_of_another_kind_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    module = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=2, n_head=2))
    with pytest.raises(ModelError, match="cannot be pruned"):
        prune_layers(module, (0,))
