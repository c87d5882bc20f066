"""Training: the same gradient however a step is cut, the same curve for the same seed.

Complaint 7: gradient accumulation that averages over pieces weighs tokens by the piece they are in.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chats import Plain, load_tiny, make_chats, make_config
from tiny_lm import write_tiny_lm
from torch.optim.optimizer import register_optimizer_step_pre_hook

from overproof.train.lm.collator import Collator
from overproof.train.lm.loop import rate_of
from overproof.train.lm.parts import Batch, LmStudent
from overproof.train.lm.trainer import Fit, fit, steps_of

TRAIN, TUNE = make_chats(24), make_chats(6, seed=1)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Each run collects garbage, which takes long among all that a test session has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture
def student(base: Path) -> LmStudent:
    return load_tiny(base)


def train(student: LmStudent, out: Path, method: Any = None, **changes: Any) -> Fit:
    config = make_config(**{"epochs": 1, "checkpoint_every": 100} | changes)
    return fit(student, method or Plain(), TRAIN, TUNE, config, out=out, seed=5)


class Spy(Plain):
    """Keeps the gradient of every step, and counts pieces."""

    def __init__(self, module: Any) -> None:
        self.gradients: list[torch.Tensor] = []
        self.pieces: list[int] = []
        self.steps: list[int] = []
        self.weights = [p for p in module.parameters() if p.requires_grad]

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        if not self.steps or self.steps[-1] != step:
            self.steps.append(step)
            self.pieces.append(0)
        self.pieces[-1] += 1
        return batch

    def watch(self, optimizer: Any, *_: Any) -> None:
        del optimizer
        found = [p.grad.flatten().clone() for p in self.weights if p.grad is not None]
        self.gradients.append(torch.cat(found))


def spied(student: LmStudent, out: Path, **changes: Any) -> tuple[Fit, Spy]:
    """A run with every gradient as the optimizer sees it; ``clip`` is too high to change any."""
    spy = Spy(student.module)
    handle = register_optimizer_step_pre_hook(spy.watch)
    try:
        return train(student, out, spy, clip=1e9, **changes), spy
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_tokens": 40},
        {"micro_tokens": 40, "packing": False},
        pytest.param({"micro_tokens": 300, "packing": False}, marks=pytest.mark.slow),
        pytest.param({"micro_tokens": 8}, marks=pytest.mark.slow),
        {"gradient_checkpointing": True, "micro_tokens": 300},
    ],
    ids=str,
)
def test_however_a_step_is_cut(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    one, whole = spied(load_tiny(base), tmp_path / "one", micro_tokens=300)
    other, cut = spied(load_tiny(base), tmp_path / "other", **changes)
    if changes["micro_tokens"] <= 40:
        assert min(cut.pieces) > max(whole.pieces)
    assert [entry[1] for entry in other.losses] == pytest.approx(
        [entry[1] for entry in one.losses], rel=2e-6
    )
    for a, b in zip(cut.gradients[:1], whole.gradients[:1], strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5
    assert (other.tokens, other.answer_tokens) == (one.tokens, one.answer_tokens)
    assert one.tokens == sum(len(chat.ids) for chat in TRAIN)


def test_a_mean_of_means_would_be_found(base: Path, tmp_path: Path) -> None:
    """The bug itself, every piece divided by its own tokens, or the test above proves nothing."""
    (_, whole), config = spied(load_tiny(base), tmp_path, micro_tokens=300), make_config(epochs=1)
    module = load_tiny(base).module
    for i in (chats := steps_of(config, TRAIN, 5)[0].chats):
        piece = Collator(TRAIN, 0, True)(((i,),))
        (Plain().loss(module, piece) / TRAIN[i].n_answer / len(chats)).backward()
    naive = torch.cat([p.grad.flatten() for p in module.parameters()])
    right = whole.gradients[0]
    assert float((naive - right).norm() / right.norm()) > 0.05


def test_the_first_loss_is_a_mean_over_answer_tokens(student: LmStudent, tmp_path: Path) -> None:
    config = make_config(epochs=1)
    chats = [TRAIN[i] for i in steps_of(config, TRAIN, 5)[0].chats]
    total = 0.0
    for chat in chats:
        with torch.no_grad():
            logits = student.module(torch.tensor([chat.ids])).logits[0].double()
        logprobs = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(chat.ids)[1:, None])
        total -= float(logprobs[chat.n_prompt - 1 :].sum())
    wanted = total / sum(chat.n_answer for chat in chats)
    assert train(student, tmp_path).losses[0][1] == pytest.approx(wanted, rel=1e-6)


def test_it_learns_and_says_so(student: LmStudent, tmp_path: Path, capfd: Any) -> None:
    told: list[tuple[float, int]] = []
    cache = student.module.config.use_cache
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    done = fit(
        student, Plain(), TRAIN, TUNE, make_config(epochs=4), out=tmp_path / "out", seed=5,
        progress=lambda share, facts: told.append((share, facts["step"])),
    )  # fmt: skip
    assert done.tune_loss is not None
    assert done.base_tune_loss is not None
    assert done.tune_loss < done.base_tune_loss - 0.5
    assert [step for step, *_ in done.losses] == [*range(1, done.steps + 1)]
    assert told[-1] == (1.0, done.steps)
    assert done.seconds > 0
    assert student.module.config.use_cache is cache, "or the student would be saved without"
    assert not student.module.training
    assert all(p.grad is None for p in student.module.parameters())
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's randomness is his"
    assert tuple(capfd.readouterr()) == ("", ""), "libraries keep quiet"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == [f"step-{done.steps:06d}"]


def test_tune_loss_is_plain_cross_entropy(student: LmStudent, tmp_path: Path) -> None:
    total = 0.0
    for chat in TUNE:
        with torch.no_grad():
            logprobs = student.module(torch.tensor([chat.ids])).logits[0].double().log_softmax(-1)
        at = range(chat.n_prompt, len(chat.ids))
        total -= sum(float(logprobs[t - 1, chat.ids[t]]) for t in at)
    wanted = total / sum(chat.n_answer for chat in TUNE)
    assert train(student, tmp_path).base_tune_loss == pytest.approx(wanted, rel=1e-5)
    nothing = fit(student, Plain(), TRAIN, [], make_config(epochs=1), out=tmp_path / "o", seed=1)
    assert (nothing.tune_loss, nothing.base_tune_loss) == (None, None)


@pytest.mark.slow
def test_same_seed_same_weights(base: Path, tmp_path: Path) -> None:
    students = [load_tiny(base) for _ in range(3)]
    curves = [
        fit(each, Plain(), TRAIN, [], make_config(), out=tmp_path / str(i), seed=seed).losses
        for i, (each, seed) in enumerate(zip(students, (5, 5, 6), strict=True))
    ]
    weights = [torch.cat([p.flatten() for p in s.module.parameters()]) for s in students]
    assert curves[0] == curves[1]
    assert torch.equal(weights[0], weights[1])
    assert curves[0] != curves[2]


def test_epochs_and_max_tokens(student: LmStudent, tmp_path: Path) -> None:
    of_epoch = sum(len(chat.ids) for chat in TRAIN)
    assert train(student, tmp_path / "a", epochs=2).tokens == 2 * of_epoch
    capped = train(student, tmp_path / "b", epochs=2, max_tokens=400)
    assert 360 < capped.tokens <= 400


@pytest.mark.slow
def test_bfloat16_keeps_float32_weights(student: LmStudent, tmp_path: Path) -> None:
    student.module.bfloat16()
    done = train(student, tmp_path, precision="bfloat16", epochs=3)
    assert {p.dtype for p in student.module.parameters()} == {torch.float32}
    assert not hasattr(student.module.forward, "__wrapped__"), "autocast is taken off again"
    assert done.losses[-1][1] < done.losses[0][1]


@pytest.mark.slow
def test_lora_trains_its_own_weights_alone(base: Path, tmp_path: Path) -> None:
    import warnings

    import peft

    def adapted() -> LmStudent:
        student = load_tiny(base)
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks by an older name
            torch.manual_seed(0)
            student.module = peft.get_peft_model(
                student.module, peft.LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1)
            )
        return student

    student, before = adapted(), load_tiny(base).module.state_dict()
    done = train(student, tmp_path / "out", gradient_checkpointing=True, epochs=2)
    assert done.losses[-1][1] < done.losses[0][1]
    inner = student.module.get_base_model().state_dict()
    kept = {name: inner[name.replace("proj.", "proj.base_layer.")] for name in before}
    assert all(torch.equal(kept[name], before[name]) for name in before)
    (saved,) = (tmp_path / "out").glob("*/*/weights.safetensors")
    assert saved.stat().st_size < 200_000, "a checkpoint holds what is trained"
    again = adapted()
    assert train(again, tmp_path / "out", gradient_checkpointing=True, epochs=2).steps == done.steps
    for a, b in zip(again.module.parameters(), student.module.parameters(), strict=True):
        assert torch.equal(a, b), "restored from the last checkpoint"


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules(schedule: str) -> None:
    rates = [rate_of(s, steps=20, warmup=0.2, schedule=schedule) for s in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < rate <= 1 for rate in rates), "no step is for nothing"
    last = {"cosine": 0.5 * (1 + math.cos(math.pi * 15 / 16)), "linear": 1 / 16, "constant": 1.0}
    assert rates[-1] == pytest.approx(last[schedule])
    assert rate_of(0, steps=1, warmup=0.03, schedule=schedule) == 1.0
