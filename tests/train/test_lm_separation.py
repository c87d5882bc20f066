"""Packed chats do not see one another: loss, gradient and every single token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chats import Plain, load_tiny, make_chats
from tiny_lm import write_tiny_lm

from overproof.train.lm.collator import Collator
from overproof.train.lm.separation import keeps_packed_chats_apart, one_row_only


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("lm"))


def loss_and_gradient(module: Any, batches: list[Any]) -> tuple[float, torch.Tensor]:
    module.zero_grad()
    total = sum(Plain().loss(module, batch) for batch in batches)
    assert isinstance(total, torch.Tensor)
    total.backward()
    return float(total.detach()), torch.cat([p.grad.flatten() for p in module.parameters()])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_is_unpacked(base: Path, attention: str) -> None:
    module, chats = load_tiny(base, attention=attention).module, make_chats(7)
    packed = Collator(chats, 0, True)(((0, 1, 2), (3, 4), (5, 6)))
    alone = [Collator(chats, 0, True)(((i,),)) for i in range(7)]
    padded = Collator(chats, 0, False)(tuple((i,) for i in range(7)))
    loss, gradient = loss_and_gradient(module, [packed])
    for batches in (alone, [padded]):
        other_loss, other_gradient = loss_and_gradient(module, batches)
        assert other_loss == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_token_changes_nothing_in_its_neighbour(base: Path, attention: str) -> None:
    module, chats = load_tiny(base, attention=attention).module.eval(), make_chats(3)
    batch = Collator(chats, 0, True)(((0, 1, 2),))
    ends = torch.tensor([len(chat.ids) for chat in chats]).cumsum(0).tolist()
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        before = module(**inputs, use_cache=False).logits[0]
        for changed in (0, ends[0] + 2, ends[1] - 1):
            ids = inputs["input_ids"].clone()
            ids[0, changed] = (ids[0, changed] + 5) % 200
            after = module(**inputs | {"input_ids": ids}, use_cache=False).logits[0]
            for first, end in zip([0, *ends], ends, strict=False):
                own = slice(first, changed) if first <= changed < end else slice(first, end)
                assert torch.equal(before[own], after[own]), "another chat has seen it"
            assert not torch.equal(before[changed], after[changed])


def test_a_model_that_keeps_them_apart(base: Path) -> None:
    module = load_tiny(base).module.train()
    assert keeps_packed_chats_apart(module)
    assert module.training
    assert not one_row_only(module)


def test_a_model_that_mixes_them_is_found_out(base: Path) -> None:
    # A cache makes transformers forget that rows are packed; so do layers with a memory.
    module = load_tiny(base).module
    forward = module.forward

    def with_cache(input_ids: torch.Tensor, position_ids: torch.Tensor, **more: Any) -> Any:
        return forward(input_ids=input_ids, position_ids=position_ids, **more | {"use_cache": True})

    module.forward = with_cache
    assert not keeps_packed_chats_apart(module)
    module.forward = lambda input_ids, **more: forward(input_ids=input_ids, **more)
    assert not keeps_packed_chats_apart(module), "it takes no positions"


def test_flash_attention_packs_single_rows(base: Path) -> None:
    module = load_tiny(base).module
    module.config._attn_implementation_internal = "flash_attention_2"
    assert one_row_only(module)
