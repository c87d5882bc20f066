"""``fit``: train one student with one method, from tokens to a curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from overproof.clients.quiet import quiet_transformers
from overproof.config.lm_students import LmStudentConfig, OnPolicyConfig
from overproof.errors import DataError, StudentError
from overproof.records.hashing import content_hash
from overproof.train.lm.checkpoints import Checkpoints
from overproof.train.lm.collator import Collator
from overproof.train.lm.guards import Interrupt, memory_errors_named
from overproof.train.lm.launch import (
    is_launched,
    process_group,
    process_number,
    same_everywhere,
    wait_for_all,
)
from overproof.train.lm.loop import Curve, LmTrainer, Progress, Steps
from overproof.train.lm.packing import StepPlan, plan_prompts, plan_steps
from overproof.train.lm.parts import LmStudent, Method, TokenizedChat
from overproof.train.lm.randomness import randomness_kept
from overproof.train.lm.separation import keeps_packed_chats_apart, one_row_only
from overproof.train.lm.tune_loss import mean_cross_entropy

if TYPE_CHECKING:
    from overproof.records.logprob_store import LogprobStore

__all__ = ["Fit", "fit", "steps_of"]


@dataclass(frozen=True)
class Fit:
    """What training a student came to.

    ``losses`` are (step, loss an answer token, learning rate, norm of the gradient before it was
    clipped). ``tokens`` were read over all processes, prompts included; the loss was on
    ``answer_tokens`` of them. ``tune_loss`` is the plain cross-entropy in nats an answer token of
    the tune split, ``base_tune_loss`` the same before training. ``seconds`` are those of the
    steps, over all the times that training was taken up again.
    """

    steps: int
    tokens: int
    answer_tokens: int
    seconds: float
    losses: list[tuple[int, float, float, float]]
    tune_loss: float | None
    base_tune_loss: float | None
    notes: list[str] = field(default_factory=list)


def steps_of(config: LmStudentConfig, chats: Sequence[TokenizedChat], seed: int) -> list[StepPlan]:
    """Which chats each step is about.

    Raises:
        DataError: there are no chats, or ``max_tokens`` is less than one of them.
    """
    lengths = [len(chat.ids) for chat in chats]
    if isinstance(config, OnPolicyConfig):
        return plan_prompts(lengths, prompts=config.prompts_per_step, steps=config.steps, seed=seed)
    return plan_steps(
        lengths,
        batch_tokens=config.batch_tokens,
        epochs=config.epochs,
        max_tokens=config.max_tokens,
        seed=seed,
    )


def fit(
    student: LmStudent,
    method: Method,
    train: Sequence[TokenizedChat],
    tune: Sequence[TokenizedChat],
    config: LmStudentConfig,
    *,
    signal: LogprobStore | None = None,
    out: Path,
    key: str = "",
    seed: int,
    progress: Progress | None = None,
) -> Fit:
    """Train ``student`` in place, or go on where it was interrupted.

    The same arguments give the same weights, bit by bit on a CPU in float32, however often the
    process was killed in between. Under ``torchrun`` every process calls it alike.

    Args:
        student: what is trained.
        method: computes the loss.
        train: chats to learn from.
        tune: chats to measure the loss on, before and after.
        config: the student's section of the recipe.
        signal: what the teacher thought of each answer token, a row for each chat of ``train``.
        out: for checkpoints, and nothing else; it stays when training is done.
        key: hash of everything that the weights depend on: data, configuration, base. Checkpoints
            of another key are not gone on from. Without one it is made of the arguments.
        seed: of the order of the data and of dropout.
        progress: hears the share that is done, and ``step``, ``steps``, ``loss``, ``tokens`` and
            ``seconds``; in the first process only.

    Raises:
        DataError: no chats, one that is longer than the student's context, or none that ends.
        StudentError: the loss is no number, memory is short, or a checkpoint cannot be written.
        KeyboardInterrupt: Ctrl-C, after the step under way was saved.
    """
    _check(student, train)
    _make(out)
    key = key or _key(student, train, config, seed)
    checkpoints, interrupt = Checkpoints(out, key), Interrupt()
    with (
        process_group(),
        randomness_kept(),
        quiet_transformers(),
        memory_errors_named(student.name, config),
        _settings_kept(student.module),
    ):
        last = checkpoints.last()
        wait_for_all()  # nobody writes before all have looked
        curve = _curve(last.curve()) if last else Curve()
        args = _arguments(config, out, seed)
        _set_precision(student.module.to(args.device), config)
        packing, notes = _packing(student, config)
        trainer = _trainer(
            student, method, train, config,
            args=args, signal=signal, packing=packing, seed=seed, checkpoints=checkpoints,
            interrupt=interrupt, curve=curve, progress=progress,
        )  # fmt: skip
        measured = _tune_loss(student, tune, config, packing, trainer)
        try:
            if last is None:
                same_everywhere(list(student.module.parameters()))
                curve.base_tune_loss = measured("before training")
            else:
                notes.append(f"taken up again after step {last.step}")
            with interrupt.awaited():
                trainer.run(last)
            tune_loss = measured("after training")
            if process_number() == 0:
                checkpoints.settle()
        finally:
            trainer.let_go()
    return Fit(
        steps=len(curve.losses),
        tokens=curve.tokens,
        answer_tokens=curve.answer_tokens,
        seconds=curve.seconds,
        losses=curve.losses,
        tune_loss=tune_loss,
        base_tune_loss=curve.base_tune_loss,
        notes=notes,
    )


def _check(student: LmStudent, train: Sequence[TokenizedChat]) -> None:
    """Refuse chats that cannot be learned from."""
    if not train:
        raise DataError("the training chats", "there are none", "collect some first")
    longest = max(len(chat.ids) for chat in train)
    if student.context is not None and longest > student.context:
        raise DataError(
            f"student {student.name}",
            f"reads {student.context} tokens at most, and a training chat has {longest}",
            f"set max_length to {student.context} or less",
        )
    if not any(chat.ids[-1] in student.ends | {student.end} for chat in train):
        raise DataError(
            f"student {student.name}",
            f"no training chat ends with its end-of-turn token ({student.end}), so that it would "
            "never learn to stop",
            "look at the chat template and eos_token of its base",
        )


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be a directory for checkpoints: {error.strerror}"
        raise StudentError(
            str(out), reason, "move what is there, or give the run another dir"
        ) from error


def _arguments(config: LmStudentConfig, out: Path, seed: int) -> transformers.TrainingArguments:
    """Settings of the Trainer. It writes nothing and says nothing by itself."""
    has_cuda = torch.cuda.is_available()
    bf16 = config.precision == "bfloat16" or (config.precision == "auto" and has_cuda)
    args = transformers.TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=config.rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        optim="adamw_torch_fused",
        bf16=bf16,
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not has_cuda,
        ddp_backend=("nccl" if has_cuda else "gloo") if is_launched() else None,
        seed=seed % 2**32,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        ignore_data_skip=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # several are for torchrun, not for DataParallel
    return args


def _trainer(
    student: LmStudent,
    method: Method,
    train: Sequence[TokenizedChat],
    config: LmStudentConfig,
    *,
    args: transformers.TrainingArguments,
    signal: LogprobStore | None,
    packing: bool,
    seed: int,
    checkpoints: Checkpoints,
    interrupt: Interrupt,
    curve: Curve,
    progress: Progress | None,
) -> LmTrainer:
    steps = Steps(
        plan=steps_of(config, train, seed),
        lengths=[len(chat.ids) for chat in train],
        collator=Collator(
            train, _pad(student), packing, signal, names_chats=isinstance(config, OnPolicyConfig)
        ),
        micro_tokens=config.micro_tokens,
        one_row=one_row_only(student.module),
    )
    args.max_steps = len(steps)
    return LmTrainer(
        student.name,
        student.module,
        args,
        method=method,
        config=config,
        chats=train,
        steps=steps,
        checkpoints=checkpoints,
        interrupt=interrupt,
        curve=curve,
        progress=progress if process_number() == 0 else None,
    )


def _set_precision(module: Any, config: LmStudentConfig) -> None:
    """Keep what is trained in float32: an update is often less than bfloat16 can tell apart."""
    if config.precision == "float32":
        module.float()
        return
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def _pad(student: LmStudent) -> int:
    pad = getattr(student.tokenizer, "pad_token_id", None)
    return student.end if pad is None else int(pad)


def _curve(saved: dict[str, Any]) -> Curve:
    losses = [(int(step), loss, rate, norm) for step, loss, rate, norm in saved.pop("losses")]
    return Curve(losses=losses, **saved)


def _key(
    student: LmStudent, train: Sequence[TokenizedChat], config: LmStudentConfig, seed: int
) -> str:
    section = config.model_dump(mode="json", exclude={"checkpoint_every", "processes"})
    base = [student.name, student.base, student.base_dir]
    chats = [list(chat.ids) for chat in train]
    return content_hash({"chats": chats, "config": section, "base": base, "seed": seed})


def _packing(student: LmStudent, config: LmStudentConfig) -> tuple[bool, list[str]]:
    """Whether rows are packed, and why not where the recipe asks for it."""
    if not config.packing or isinstance(config, OnPolicyConfig):
        return False, []
    if keeps_packed_chats_apart(student.module):
        return True, []
    return False, ["the model mixes chats that are packed into one row: rows were padded instead"]


def _tune_loss(
    student: LmStudent,
    tune: Sequence[TokenizedChat],
    config: LmStudentConfig,
    packing: bool,
    trainer: LmTrainer,
) -> Callable[[str], float | None]:
    """What measures the loss on the tune split, given when that is."""

    def measured(when: str) -> float | None:
        loss = mean_cross_entropy(
            student.module,
            tune,
            pad=_pad(student),
            micro_tokens=config.micro_tokens,
            packing=packing,
            one_row=one_row_only(student.module),
            autocast=trainer.accelerator.autocast,
        )
        if loss is not None and not math.isfinite(loss):
            raise StudentError(
                f"student {student.name}",
                f"its loss on the tune split is {loss} {when}",
                "check the base's weights; after training, lower learning_rate",
            )
        return loss

    return measured


@contextmanager
def _settings_kept(module: Any) -> Iterator[None]:
    """Give back the settings that the Trainer changes: a student would be saved with them."""
    configs: list[Any] = [module.config, module.config.get_text_config()]
    before = [getattr(config, "use_cache", None) for config in configs]
    try:
        yield
    finally:
        for config, use_cache in zip(configs, before, strict=True):
            if use_cache is not None:
                config.use_cache = use_cache
