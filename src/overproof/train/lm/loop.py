"""transformers' Trainer with our batches, our loss and our guards.

The Trainer has the loop, AdamW, clipping, precision and devices. What differs: one item of its data
is a whole step, already cut into pieces, so that the loss can be divided by the number of answer
tokens of the step over all pieces and processes; gradients are added up over processes once a step,
whatever a method does between; and a checkpoint counts only when it is whole.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from overproof.config.lm_students import LmStudentConfig, OnPolicyConfig
from overproof.errors import StudentError
from overproof.train.lm.checkpoints import Checkpoint, Checkpoints
from overproof.train.lm.collator import Collator, cut
from overproof.train.lm.guards import Interrupt, named, not_a_number
from overproof.train.lm.launch import (
    add_up_gradients,
    gathered,
    process_number,
    processes,
    summed,
)
from overproof.train.lm.packing import Piece, StepPlan, pieces_of, shared_out
from overproof.train.lm.parts import IGNORED, Batch, Method, TokenizedChat
from overproof.train.lm.randomness import random_states, set_random_states

__all__ = ["Curve", "LmTrainer", "Steps", "rate_of"]

Progress = Callable[[float, dict[str, Any]], None]


@dataclass
class Curve:
    """What was measured until now; it goes into checkpoints.

    ``losses`` are (step, loss an answer token, learning rate, norm of the gradient before it was
    clipped); ``tokens`` were read over all processes, prompts included.
    """

    losses: list[tuple[int, float, float, float]] = field(default_factory=list)
    tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    base_tune_loss: float | None = None


@dataclass
class Step:
    """This process's share of a step: pieces with the chats they were made of."""

    pieces: list[tuple[Piece, Batch]]
    tokens: int


@dataclass
class Steps:
    """The data of a run as the Trainer reads it: one item a step, made when its turn comes."""

    plan: Sequence[StepPlan]
    lengths: Sequence[int]
    collator: Collator
    micro_tokens: int
    one_row: bool
    first: int = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Step]:
        for step in self.plan[self.first :]:
            share = shared_out(step.chats, self.lengths, processes())[process_number()]
            # A method that writes its own text does so for all prompts at once; it is cut later.
            size = sys.maxsize if self.collator.names_chats else self.micro_tokens
            pieces = pieces_of(
                share,
                self.lengths,
                micro_tokens=size,
                packing=self.collator.packing,
                one_row=self.one_row,
            )
            yield Step([(piece, self.collator(piece)) for piece in pieces], step.tokens)


def rate_of(step: int, *, steps: int, warmup: float, schedule: str) -> float:
    """The share of the learning rate that a step has, the first step being 0.

    It rises in equal parts over the share ``warmup`` of all steps; no step has a rate of zero.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


class LmTrainer(transformers.Trainer):  # type: ignore[misc]
    """The loop of one student; see the module's docstring.

    Args:
        name: the student's.
        model: what is trained.
        args: of the Trainer; its directory is not written to.
        method: computes the loss.
        config: the student's section of the recipe.
        chats: that are trained on, for the names of their items.
        steps: the data.
        checkpoints: where to save.
        interrupt: notices Ctrl-C.
        curve: of the checkpoint that training goes on from, or an empty one.
        progress: hears the share that is done, and figures of the step.
    """

    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        name: str,
        model: Any,
        args: transformers.TrainingArguments,
        *,
        method: Method,
        config: LmStudentConfig,
        chats: Sequence[TokenizedChat],
        steps: Steps,
        checkpoints: Checkpoints,
        interrupt: Interrupt,
        curve: Curve,
        progress: Progress | None,
    ) -> None:
        super().__init__(model=model, args=args)
        self.remove_callback(transformers.PrinterCallback)
        self.student_name, self.method, self.config, self.chats = name, method, config, chats
        self.steps, self.checkpoints, self.interrupt = steps, checkpoints, interrupt
        self.curve, self.progress = curve, progress
        self.has_tokens_to_count = isinstance(config, OnPolicyConfig)
        self.step_loss = math.nan
        self.stop_asked = False
        self.chats_of_step: list[tuple[int, ...]] = []
        self.resumed: Checkpoint | None = None
        self.began: float | None = None  # when the step under way did

    def create_accelerator_and_postprocess(self) -> None:
        """The Accelerator, which is not to wrap the model in DDP: gradients are added up here."""
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model

        def unwrapped(model: Any, device_placement: bool | None = None, **_: Any) -> Any:
            return prepare(model, device_placement=device_placement, evaluation_mode=True)

        self.accelerator.prepare_model = unwrapped

    def get_train_dataloader(self) -> Any:
        """The steps."""
        return self.steps

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The next step; its answer tokens are counted once the method has prepared it."""
        del num_batches, device
        if self.began is None:
            self.began = time.perf_counter()
        step = next(epoch_iterator, None)
        return ([] if step is None else [step]), None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        del inputs
        return 0

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """The schedule of ``rate_of``."""
        config = self.config

        def rate(step: int) -> float:
            return rate_of(
                step, steps=num_training_steps, warmup=config.warmup, schedule=config.schedule
            )

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Gradients of one whole step.

        Raises:
            StudentError: the loss is no number, or there is nothing to learn.
        """
        del num_items_in_batch
        model.train()
        number = self.state.global_step
        pieces, answers, tokens = self._prepared(model, inputs, number)
        wanted, read = summed([float(answers), float(tokens)], self.args.device)
        if not wanted:
            raise StudentError(
                f"student {self.student_name}",
                f"nothing to learn in step {number + 1}: not one answer token",
                "look at what the student writes (rollout_tokens), or at the training chats",
            )
        losses = []
        for _, batch in pieces:
            with self.accelerator.autocast():
                loss = self.method.loss(model, batch) / wanted
            if loss.requires_grad:  # a piece without answers has no gradient
                self.accelerator.backward(loss)
            losses.append(loss.detach().float())
        mine = [float(loss) for loss in losses]
        self.step_loss, asked = summed(
            [math.fsum(mine), float(self.interrupt.asked)], self.args.device
        )
        if not math.isfinite(self.step_loss):
            self._stop_for("the loss is", self.step_loss, [
                row for (piece, _), loss in zip(pieces, mine, strict=True)
                if not math.isfinite(loss) for row in piece
            ])  # fmt: skip
        add_up_gradients([p for p in model.parameters() if p.requires_grad])
        self.curve.answer_tokens += int(wanted)
        self.curve.tokens += int(read) if self.has_tokens_to_count else inputs.tokens
        self.stop_asked = bool(asked)
        self.chats_of_step = [row for piece, _ in inputs.pieces for row in piece]
        return torch.tensor(self.step_loss, device=self.args.device)

    def _prepared(
        self, model: Any, step: Step, number: int
    ) -> tuple[list[tuple[Piece, Batch]], int, int]:
        """The pieces to learn from, their answer tokens, and all their tokens but padding."""
        pieces: list[tuple[Piece, Batch]] = []
        for piece, batch in step.pieces:
            given: Batch = self._prepare_inputs(dict(batch))
            ready = self.method.prepare(model, given, number)
            parts = cut(ready, self.config.micro_tokens) if self.has_tokens_to_count else [ready]
            pieces += [(piece, part) for part in parts]
        answers = sum(int((batch["labels"] != IGNORED).sum()) for _, batch in pieces)
        tokens = 0
        if self.has_tokens_to_count:
            tokens = sum(
                int(batch["attention_mask"].sum())
                if "attention_mask" in batch
                else batch["input_ids"].numel()
                for _, batch in pieces
            )
        return pieces, answers, tokens

    def _stop_for(self, what: str, value: float, rows: Sequence[tuple[int, ...]]) -> None:
        mine, step = [named(self.chats[i]) for row in rows for i in row], self.state.global_step
        met = list(dict.fromkeys(item for items in gathered(mine) for item in items))
        error = not_a_number(self.config, f"{what} {value}", step, met, self.checkpoints)
        if process_number() == 0:
            self.checkpoints.doubt(step)
        raise error

    def _clip_grad_norm(self, model: Any) -> float:
        """Clip the gradient, and stop before the update where it is no number."""
        norm = float(super()._clip_grad_norm(model))
        if not math.isfinite(norm):
            self._stop_for("the norm of the gradient is", norm, self.chats_of_step)
        return norm

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        del model
        return grad_norm

    def _maybe_log_save_evaluate(  # noqa: PLR0917 - the Trainer's own
        self,
        tr_loss: torch.Tensor,
        grad_norm: Any,
        model: Any,
        trial: Any,
        epoch: Any,
        ignore_keys_for_eval: Any,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        """After a step: note it, tell of it, save when it is time, and heed Ctrl-C."""
        del tr_loss, model, trial, epoch, ignore_keys_for_eval, start_time
        done, total = self.state.global_step, self.state.max_steps
        if grad_norm is None or (self.curve.losses and self.curve.losses[-1][0] == done):
            return  # the end of the epoch, which is the end of its last step
        self.curve.losses.append((done, self.step_loss, float(learning_rate or 0.0), grad_norm))
        if process_number() == 0:
            self.checkpoints.settle()
        now = time.perf_counter()
        self.curve.seconds += now - (self.began or now)
        self.began = now
        if self.progress is not None and process_number() == 0:
            figures = {
                "step": done, "steps": total, "loss": self.step_loss,
                "tokens": self.curve.tokens, "seconds": self.curve.seconds,
            }  # fmt: skip
            self.progress(done / total, figures)
        most = self.config.max_tokens
        if self.has_tokens_to_count and most is not None and self.curve.tokens >= most:
            self.control.should_training_stop = True
        if processes() == 1 and self.interrupt.asked:
            self.stop_asked = True
        is_last = done == total or self.control.should_training_stop
        if is_last or self.stop_asked or done % self.config.checkpoint_every == 0:
            self.save()
        if self.stop_asked and not is_last:
            name = self.student_name
            raise KeyboardInterrupt(f"student {name}: stopped after step {done}, which is saved")

    def save(self) -> None:
        """Write a checkpoint; the first process does, and all of them know whether it could.

        Raises:
            StudentError: it could not be written.
        """
        states = gathered(random_states())
        failed: StudentError | None = None
        if process_number() == 0:
            try:
                self.checkpoints.save(
                    self.state.global_step,
                    weights=_trained(self.model),
                    state={
                        "optimizer": self.optimizer.state_dict(),
                        "scheduler": self.lr_scheduler.state_dict(),
                        "random": states,
                    },
                    curve=vars(self.curve),
                    trainer_state=lambda path: self.state.save_to_json(str(path)),
                )
            except StudentError as error:
                failed = error
        failed = gathered(failed)[0]
        if failed is not None:
            raise failed
        self.began = time.perf_counter()

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train, from a checkpoint on where there is one; the last step's is only restored."""
        self.resumed = checkpoint
        if checkpoint is None:
            self.train()
        else:
            self.steps.first = checkpoint.step
            self.train(resume_from_checkpoint=str(checkpoint.path))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del resume_from_checkpoint, model
        weights, trained = self._resumed().weights(), _trained(self.model)
        if weights.keys() != trained.keys():
            raise StudentError(
                str(self._resumed().path), "holds other weights than are trained", "remove it"
            )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(weights[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            state = self._resumed().state()
            self.optimizer.load_state_dict(state["optimizer"])
            self.lr_scheduler.load_state_dict(state["scheduler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            states = self._resumed().state()["random"]
            if process_number() < len(states):  # with more processes than before, some are new
                set_random_states(states[process_number()])

    def _resumed(self) -> Checkpoint:
        if self.resumed is None:
            raise RuntimeError("there is no checkpoint to read; call `run` with one")
        return self.resumed

    def let_go(self) -> None:
        """Leave the model as it was given, but for its weights, and free what training held."""
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        if self.config.gradient_checkpointing:
            self.model.activation_checkpointing_disable()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        self.optimizer = self.lr_scheduler = None
        self.model.eval()


def _trained(model: Any) -> Mapping[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
