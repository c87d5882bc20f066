"""One run of bench/train.py in a process of its own: python bench/train_once.py NAME DIR [clock].

Prints one JSON object. Speed is tokens, prompts included and padding not, between the end of the
last step of warming up and the end of the last step. Memory is the peak of what is resident until
then, less what was before the model was read, when everything was imported: weights, gradients,
optimizer, activations and data. On a GPU it is the peak of what was allocated there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train_inputs import Size

RATE = 1e-4


class Meter:
    """Notes the time, the tokens and the memory at the end of every step."""

    def __init__(self, size: Size) -> None:
        self.size, self.tokens = size, 0
        self.ends: list[tuple[float, int, float]] = []
        self.losses: list[float] = []
        self.memory = 0.0
        self.baseline = 0.0

    def begin(self) -> None:
        """Everything is imported, and no model is read yet."""
        import torch

        self.on_gpu = torch.cuda.is_available()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.baseline = 0.0 if self.on_gpu else status("VmRSS")

    def step_ends(self) -> None:
        import torch

        if self.on_gpu:
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), self.tokens, time.process_time()))
        self.memory = torch.cuda.max_memory_allocated() / 2**20 if self.on_gpu else status("VmHWM")

    def result(self) -> dict[str, Any]:
        (began, before, idle), (ended, after, busy) = (
            self.ends[self.size.warm_up - 1],
            self.ends[-1],
        )
        return {
            "tokens": after - before,
            "seconds": ended - began,
            "rate": (after - before) / (ended - began),
            "step_seconds": (ended - began) / (len(self.ends) - self.size.warm_up),
            "cpu_seconds": busy - idle,
            "memory_mib": self.memory - self.baseline,
            "losses": self.losses,
        }


def status(name: str) -> float:
    """Resident memory in MiB; its peak where the system tells no more."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def ours(method: str, inputs: dict[str, Any], directory: Path, meter: Meter) -> None:
    """``fit`` with one of our methods."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from overproof.clients.local_model import load, source_of
    from overproof.clients.quiet import quiet_transformers
    from overproof.config.teacher import TeacherConfig
    from overproof.records.logprob_store import LogprobStore
    from overproof.train.lm.methods.build import build_method
    from overproof.train.lm.parts import LmStudent, TokenizedChat
    from overproof.train.lm.trainer import fit

    config, size = our_config(method, meter.size), meter.size
    meter.begin()
    with quiet_transformers():
        module = AutoModelForCausalLM.from_pretrained(inputs["student"], dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(inputs["student"])
    end = tokenizer.eos_token_id
    student = LmStudent(
        "bench", module, tokenizer, "bench", inputs["student"], "none", end, frozenset({end}), None
    )
    chats = [
        TokenizedChat(i, str(i), 0, tuple(chat["ids"]), chat["n_prompt"])
        for i, chat in enumerate(inputs["chats"])
    ]
    teacher = None
    if method in ("dense_kd", "on_policy"):
        teacher = load(
            source_of(inputs["teacher"]),
            TeacherConfig(
                kind="local",
                model=inputs["teacher"],
                dtype="bfloat16" if meter.on_gpu else "float32",
            ),
        )
    stores = {"sparse_kd": "top", "sampled_kd": "sampled"}
    signal = LogprobStore.open(directory / stores[method]) if method in stores else None
    built = build_method(config, student, teacher=teacher, scorer=None, chats=chats, seed=0)

    def hear(_share: float, figures: dict[str, Any]) -> None:
        meter.tokens = figures["tokens"]
        meter.losses.append(figures["loss"])
        meter.step_ends()

    with tempfile.TemporaryDirectory() as out:
        done = fit(
            student, built, chats, [], config, signal=signal, out=Path(out), seed=0, progress=hear
        )
    if done.steps != size.steps + size.warm_up:
        raise SystemExit(f"{done.steps} steps, not {size.steps + size.warm_up}")


def our_config(method: str, size: Size) -> Any:
    from pydantic import TypeAdapter

    from overproof.config.lm_students import AnyLmStudent

    settings: dict[str, Any] = {
        "name": "bench", "method": method, "base": "bench", "epochs": 1, "packing": False,
        "batch_tokens": 2 * size.micro * size.length, "micro_tokens": size.micro * size.length,
        "learning_rate": RATE, "checkpoint_every": 10**6,
    }  # fmt: skip
    if method == "on_policy":
        del settings["base"]
        settings |= {
            "start": "bench", "prompts_per_step": size.prompts, "steps": size.steps + size.warm_up,
            "rollout_tokens": size.answer, "batch_tokens": 2 * size.prompts * size.length,
            "micro_tokens": size.prompts * size.length,
        }  # fmt: skip
    return TypeAdapter(AnyLmStudent).validate_python(settings)


def theirs(name: str, inputs: dict[str, Any], meter: Meter) -> None:
    """A trainer of TRL, with the settings of ours where it has them, its defaults elsewhere."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_args: Any, **_more: Any) -> None:
            meter.step_ends()

    base, config = trl_trainer(name)

    class Counting(base):  # type: ignore[misc,valid-type]
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
            masks = ("attention_mask", "prompt_mask", "completion_mask")
            if "attention_mask" in inputs:
                masks = masks[:1]
            meter.tokens += sum(int(inputs[mask].sum()) for mask in masks if mask in inputs)
            loss = super().compute_loss(model, inputs, *args, **more)
            meter.losses.append(float(loss))
            return loss

    meter.begin()
    size = meter.size
    model = AutoModelForCausalLM.from_pretrained(inputs["student"], dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(inputs["student"])
    given: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    chats = inputs["chats"]
    if name != "sft":
        dtype = "bfloat16" if meter.on_gpu else "float32"
        given["teacher_model"] = AutoModelForCausalLM.from_pretrained(
            inputs["teacher"], dtype=dtype
        )
    if name == "distillation":
        given["train_dataset"] = Dataset.from_list([{"prompt": c["prompt"]} for c in chats])
        settings = {"max_completion_length": size.answer, "beta": 1.0, "temperature": 1.0}
    else:
        learned = [0] * size.prompt + [1] * size.answer
        rows = [{"input_ids": chat["ids"], "completion_mask": learned} for chat in chats]
        given["train_dataset"] = Dataset.from_list(rows)
        settings = {"max_length": None}
    if name == "gkd":
        settings |= {"lmbda": 0.0, "beta": 0.0, "temperature": 1.0}
        given["data_collator"] = collated
    pieces = 1 if name == "distillation" else 2
    with tempfile.TemporaryDirectory() as out:
        args = config(
            output_dir=out, max_steps=size.steps + size.warm_up, learning_rate=RATE,
            per_device_train_batch_size=size.prompts if name == "distillation" else size.micro,
            gradient_accumulation_steps=pieces, gradient_checkpointing=False,
            bf16=meter.on_gpu, use_cpu=not torch.cuda.is_available(), lr_scheduler_type="cosine",
            save_strategy="no", report_to="none", disable_tqdm=True, logging_strategy="no",
            dataloader_pin_memory=False, **settings,
        )  # fmt: skip
        trainer = Counting(
            model=model, args=args, processing_class=tokenizer, callbacks=[Ends()], **given
        )
        trainer.train()


def trl_trainer(name: str) -> tuple[type, type]:
    if name == "sft":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer, SFTConfig
    if name == "gkd":
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        return GKDTrainer, GKDConfig
    from trl import DistillationConfig, DistillationTrainer

    return DistillationTrainer, DistillationConfig


def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Chats of one length, tokenised before, as the collator of GKD hands them on."""
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    learned = torch.tensor([row["completion_mask"] for row in rows]).bool()
    prompts = ids[:, : int((~learned[0]).sum())]
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(~learned, -100),
        "prompts": prompts, "prompt_attention_mask": torch.ones_like(prompts),
    }  # fmt: skip


class Clock:
    """Adds up the time spent in functions; what one calls is taken from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack: list[list[float]] = []
        self.running = False

    def watch(self, owner: Any, name: str, share: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **more: Any) -> Any:
            began, inner = time.perf_counter(), [0.0]
            self.stack.append(inner)
            try:
                return function(*args, **more)
            finally:
                self.stack.pop()
                took = time.perf_counter() - began
                if self.stack:
                    self.stack[-1][0] += took
                if self.running:
                    self.seconds[share] += took - inner[0]

        setattr(owner, name, timed)


def clocked(meter: Meter) -> Clock:
    """Where a step of ours spends its time."""
    import accelerate
    import torch

    from overproof.train.lm import collator, forward
    from overproof.train.lm.methods import dense_kd, on_policy
    from overproof.train.losses import chunked

    clock = Clock()
    clock.watch(dense_kd, "answer_hidden", "teacher")
    clock.watch(on_policy, "rollouts", "rollouts")
    clock.watch(forward, "answer_hidden", "forward")
    clock.watch(chunked._Head, "value_and_gradients", "output head")
    clock.watch(chunked._Head, "losses", "loss")
    clock.watch(torch.autograd, "grad", "loss")  # inside of the head: of the loss alone
    clock.watch(accelerate.Accelerator, "backward", "backward")
    clock.watch(accelerate.Accelerator, "clip_grad_norm_", "clipping")
    clock.watch(torch.optim.AdamW, "step", "optimizer")
    clock.watch(collator.Collator, "__call__", "data")
    ends = meter.step_ends

    def step_ends() -> None:
        ends()
        clock.running = len(meter.ends) >= meter.size.warm_up

    meter.step_ends = step_ends  # type: ignore[method-assign]
    return clock


def main() -> None:
    name, directory = sys.argv[1], Path(sys.argv[2])
    inputs = json.loads((directory / "inputs.json").read_text())
    meter = Meter(Size(**inputs["size"]))
    warnings.simplefilter("ignore")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    clock = clocked(meter) if "clock" in sys.argv[3:] else None
    whose, _, method = name.partition(":")
    if whose == "ours":
        ours(method, inputs, directory, meter)
    else:
        theirs(method, inputs, meter)
    result = meter.result()
    if clock:
        shares = {key: value / result["seconds"] for key, value in clock.seconds.items()}
        result["shares"] = shares | {"other": 1 - sum(shares.values())}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
