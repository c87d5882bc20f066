"""What stops a training run says why, and loses nothing."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chats import Plain, load_tiny, make_chats, make_config
from tiny_lm import write_tiny_lm

from overproof.config.lm_students import OnPolicyConfig
from overproof.errors import DataError, StudentError
from overproof.train.lm.guards import named
from overproof.train.lm.parts import Batch, LmStudent, TokenizedChat
from overproof.train.lm.trainer import Fit, fit

TRAIN = make_chats(24)


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


def train(student: LmStudent, out: Path, method: Any = None, **more: Any) -> Fit:
    progress = more.pop("progress", None)
    config = make_config(**more)
    return fit(student, method or Plain(), TRAIN, [], config, out=out, seed=5, progress=progress)


def weights_of(student: LmStudent) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in student.module.parameters()])


class Spoiled(Plain):
    """Whose loss or gradient goes wrong where chat 7 is."""

    def __init__(self, how: str) -> None:
        self.how, self.wanted = how, torch.tensor(TRAIN[7].ids)

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        loss = super().loss(model, batch)
        rows = [row.unfold(0, len(self.wanted), 1) for row in batch["input_ids"]
                if len(row) >= len(self.wanted)]  # fmt: skip
        if not any(bool((row == self.wanted).all(1).any()) for row in rows):
            return loss
        if self.how == "gradient":
            # Finite, with an infinite slope.
            return (
                loss
                + next(model.parameters())
                .flatten()[0]
                .sub(next(model.parameters()).flatten()[0].detach())
                .abs()
                .sqrt()
            )
        return loss * float(self.how)


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
def test_no_number(student: LmStudent, base: Path, tmp_path: Path, how: str) -> None:
    before: list[torch.Tensor] = []
    with pytest.raises(StudentError) as told:
        train(
            student, tmp_path, Spoiled(how), epochs=3,
            progress=lambda *_: before.append(weights_of(student)),
        )  # fmt: skip
    said = str(told.value)
    step = len(before) + 1
    assert f"at step {step}" in said
    assert "item-7" in said
    assert "learning_rate" in said
    if how != "gradient":
        assert said.count("item-") < 8, "it names the piece, and not the whole step"
    unchanged = before[-1] if before else weights_of(load_tiny(base))
    assert torch.equal(weights_of(student), unchanged), "stopped before the update"
    assert "(row 7)" in said
    assert "begins anew" in said
    kept = [path.name for path in tmp_path.glob("*/step-*")]
    if step <= 2:
        assert kept == []
        assert "no checkpoint" in said
    elif step == 3:
        assert kept == ["step-000002"]
        assert "step 2 is kept, though no finite step followed it" in said
    else:
        good = (step - 2) // 2 * 2
        assert kept == [f"step-{good:06d}"]
        assert f"(step {good} is kept)" in said
        assert f"step-{good:06d}/weights.safetensors" in said


@pytest.mark.parametrize("bad", [3, 4, 5])
def test_a_checkpoint_is_good_once_a_finite_step_followed(
    student: LmStudent, tmp_path: Path, bad: int
) -> None:
    """Checkpoints are taken after steps 2 and 4; the weights of the latest may be the fault."""
    steps: list[int] = []

    class Late(Plain):
        def loss(self, model: Any, batch: Batch) -> torch.Tensor:
            return super().loss(model, batch) * (float("nan") if len(steps) == bad - 1 else 1.0)

    with pytest.raises(StudentError) as told:
        train(student, tmp_path, Late(), progress=lambda *_: steps.append(1))
    assert [path.name for path in tmp_path.glob("*/step-*")] == ["step-000002"]
    doubt = ", though no finite step followed it" if bad == 3 else ""
    assert f"(step 2 is kept{doubt})" in str(told.value)


def test_items_are_named_in_short() -> None:
    chat = TokenizedChat(17, "sha256:" + "0123456789abcdef" * 4, 0, (1, 2), 1)
    assert named(chat) == "0123456789ab (row 17)"


class Greedy(Plain):
    """Asks for more memory than there is."""

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        return super().loss(model, batch) + torch.empty(2**48).sum()


class Cuda(Plain):
    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        del model, batch
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("method", [Greedy(), Cuda()])
def test_out_of_memory(student: LmStudent, tmp_path: Path, method: Plain) -> None:
    with pytest.raises(StudentError, match="ran out of memory") as told:
        train(student, tmp_path, method)
    for way in ("micro_tokens (it is 100", "gradient_checkpointing = true", "lora", "max_length"):
        assert way in str(told.value)
    with pytest.raises(StudentError) as again:
        train(student, tmp_path, method, gradient_checkpointing=True)
    assert "gradient_checkpointing" not in str(again.value), "it is set already"


def test_another_error_stays_what_it_is(student: LmStudent, tmp_path: Path) -> None:
    class Broken(Plain):
        def loss(self, model: Any, batch: Batch) -> torch.Tensor:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        train(student, tmp_path, Broken())


def test_ctrl_c_saves_the_step_and_goes_on(base: Path, tmp_path: Path) -> None:
    def interrupt(_share: float, facts: dict[str, Any]) -> None:
        if facts["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    student = load_tiny(base)
    with pytest.raises(KeyboardInterrupt, match="step 3, which is saved"):
        train(student, tmp_path / "a", progress=interrupt, checkpoint_every=100)
    assert signal.getsignal(signal.SIGINT) is handler
    resumed, whole = load_tiny(base), load_tiny(base)
    done = train(resumed, tmp_path / "a", checkpoint_every=100)
    assert "taken up again after step 3" in done.notes
    assert done.losses == train(whole, tmp_path / "b").losses
    assert torch.equal(weights_of(resumed), weights_of(whole))


@pytest.mark.slow
def test_another_configuration_begins_anew(base: Path, tmp_path: Path) -> None:
    train(load_tiny(base), tmp_path)
    other = train(load_tiny(base), tmp_path, learning_rate=1e-3)
    assert not other.notes
    assert len(list(tmp_path.glob("*/step-*"))) == 2


def test_a_chat_longer_than_the_context(student: LmStudent, tmp_path: Path) -> None:
    student.context = 20
    with pytest.raises(DataError, match="reads 20 tokens at most"):
        train(student, tmp_path)


def test_an_end_that_no_chat_has(student: LmStudent, tmp_path: Path) -> None:
    student.end, student.ends = 261, frozenset({261})
    with pytest.raises(DataError, match="never learn to stop"):
        train(student, tmp_path)


def test_a_model_that_mixes_packed_chats_is_padded(
    student: LmStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = student.module.forward

    def without_positions(input_ids: torch.Tensor, **more: Any) -> Any:
        more.pop("position_ids", None)
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(student.module, "forward", without_positions)
    done = train(student, tmp_path)
    assert any("rows were padded" in note for note in done.notes)
    monkeypatch.undo()
    assert done.losses == train(load_tiny(Path(student.base_dir)), tmp_path, packing=False).losses


def test_a_place_that_is_taken(student: LmStudent, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StudentError, match="cannot be a directory"):
        train(student, tmp_path / "out")


def test_no_chats(student: LmStudent, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are none"):
        fit(student, Plain(), [], [], make_config(), out=tmp_path, seed=1)


class Talker(Plain):
    """Answers prompts itself, each with ``10 + index`` tokens."""

    name = "on_policy"

    def __init__(self) -> None:
        self.prepared: list[tuple[int, list[int]]] = []
        self.learned: list[int] = []

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        del model
        chosen = batch["chat_index"].tolist()
        self.prepared.append((step, chosen))
        width = 10 + max(chosen)
        used = torch.tensor([[t < 10 + i for t in range(width)] for i in chosen])
        ids = torch.full((len(chosen), width), 65)
        labels = ids.masked_fill(~used, -100)
        labels[:, :4] = -100
        return {"input_ids": ids, "labels": labels, "attention_mask": used.long(),
                "position_ids": torch.arange(width).expand(len(chosen), -1)}  # fmt: skip

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        self.learned.append(batch["input_ids"].numel())
        return super().loss(model, batch)


def on_policy(**changes: Any) -> OnPolicyConfig:
    told = {"name": "small", "start": "sft", "method": "on_policy", "prompts_per_step": 5,
            "steps": 4, "micro_tokens": 60, "batch_tokens": 100}  # fmt: skip
    return OnPolicyConfig.model_validate(told | changes)


def test_the_students_own_text_is_cut_to_memory(student: LmStudent, tmp_path: Path) -> None:
    method = Talker()
    done = fit(student, method, TRAIN, [], on_policy(), out=tmp_path / "a", seed=2)
    assert [step for step, _ in method.prepared] == [0, 1, 2, 3], "one rollout a step"
    assert all(len(set(chosen)) == 5 for _, chosen in method.prepared)
    assert max(method.learned) <= 60
    wanted = sum(10 + i for _, chosen in method.prepared for i in chosen)
    assert (done.tokens, done.answer_tokens) == (wanted, wanted - 4 * 5 * 4)
    capped = fit(
        student, Talker(), TRAIN, [], on_policy(max_tokens=150), out=tmp_path / "b", seed=2
    )
    assert capped.steps < done.steps
    assert capped.tokens >= 150


def test_nothing_to_learn(student: LmStudent, tmp_path: Path) -> None:
    class Silent(Talker):
        def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
            ready = dict(super().prepare(model, batch, step))
            return ready | {"labels": torch.full_like(ready["labels"], -100)}

    with pytest.raises(StudentError, match="nothing to learn in step 1"):
        fit(student, Silent(), TRAIN, [], on_policy(), out=tmp_path, seed=2)


def test_a_chat_of_its_own_row(student: LmStudent, tmp_path: Path) -> None:
    long = TokenizedChat(0, "long", 0, (*[70] * 150, 260), 3)
    done = fit(student, Plain(), [*TRAIN, long], [], make_config(), out=tmp_path, seed=2)
    assert done.tokens == 2 * (sum(len(chat.ids) for chat in TRAIN) + 151)
