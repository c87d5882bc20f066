"""How much memory a student's training takes, before it takes it.

An estimate from shapes alone: what lies in memory at the peak of a step. It is checked against
measured peaks in the tests, and meant to be within a factor of two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from overproof.config.lm_students import (
    DenseKdConfig,
    LmStudentConfig,
    OnPolicyConfig,
    SampledKdConfig,
    SparseKdConfig,
)
from overproof.records.preflight import Check
from overproof.train.lm.preflight_models import ModelFacts

__all__ = ["MemoryEstimate", "available_memory", "check_memory", "estimate_memory"]

FLOAT = 4  # bytes; what is trained is kept in float32
CHUNK = 64 << 20  # bytes of logits that exist at once, see train.losses.chunked
PROGRAM = 600 << 20  # bytes of the program and its libraries
TIGHT = 0.8  # of what is free


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what they are for; ``total`` is the peak."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    teacher: int
    program: int = PROGRAM

    @property
    def total(self) -> int:
        """Everything at once; saving needs the weights twice, but no gradients any more."""
        training = self.gradients + self.optimizer + self.activations + self.logits
        return self.weights + max(training, self.weights) + self.teacher + self.program

    @property
    def told(self) -> str:
        """The parts, the largest first."""
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "logits": self.logits,
            "teacher": self.teacher,
            "program": self.program,
        }
        shown = sorted(parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {_gib(size)}" for name, size in shown if size)


def estimate_memory(
    config: LmStudentConfig,
    base: ModelFacts,
    teacher: ModelFacts | None = None,
    *,
    longest: int | None = None,
) -> MemoryEstimate:
    """Estimate the peak of one process.

    Args:
        config: the student.
        base: what it begins with.
        teacher: of weights that must be in memory besides, else ``None``.
        longest: the longest chat in tokens; a row is as long at least.
    """
    parameters = base.parameters
    trainable = parameters if config.lora is None else _lora_parameters(config, base)
    tokens = max(config.micro_tokens, longest or 0)
    chunks = 3  # logits, their gradient, and what the softmax keeps
    if isinstance(config, DenseKdConfig | OnPolicyConfig):
        chunks = 6  # those of the teacher and the divergence between them
    rows = max(16 * base.rows * FLOAT, min(CHUNK, tokens * base.rows * FLOAT))
    head = base.rows * base.text.hidden_size * FLOAT if config.lora is None else 0
    signal = 0
    if isinstance(config, SparseKdConfig | SampledKdConfig):
        places = config.draws if isinstance(config, SampledKdConfig) else (config.top_k or 20)
        signal = 4 * tokens * places * 8
    in_memory = 0
    if teacher is not None:
        in_memory = FLOAT * teacher.parameters + tokens * teacher.text.hidden_size * FLOAT * 8
    return MemoryEstimate(
        weights=FLOAT * parameters,
        gradients=FLOAT * trainable,
        optimizer=2 * FLOAT * trainable,
        activations=_activations(config, base, tokens) + _cache(config, base, longest),
        logits=chunks * rows + head + signal,
        teacher=in_memory,
    )


def _activations(config: LmStudentConfig, base: ModelFacts, tokens: int) -> int:
    """What the backward pass needs of a Llama-like layer, times the layers.

    A token leaves behind, in a layer: the input and output of two norms, q, k, v, what attention
    and its projection give, gate, up, the activation and its product, and two residual sums.
    """
    text = base.text
    width = int(text.hidden_size)
    inner = int(getattr(text, "intermediate_size", None) or 4 * width)
    heads, shared, layers = _shape(base)
    # Norms keep their input in float32 and what it was scaled to; rotary embedding copies q and k.
    layer = 10 * width + 5 * heads + 4 * shared + 4 * inner
    if config.lora is not None:
        layer += 7 * config.lora.rank
    if config.gradient_checkpointing:
        return FLOAT * tokens * (layers * width + layer)
    return FLOAT * tokens * layer * layers


def _shape(base: ModelFacts) -> tuple[int, int, int]:
    """Width of all query heads, width of all key heads, number of layers."""
    text = base.text
    heads = int(text.num_attention_heads)
    head = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    keys = int(getattr(text, "num_key_value_heads", None) or heads)
    return heads * head, keys * head, int(text.num_hidden_layers)


def _cache(config: LmStudentConfig, base: ModelFacts, longest: int | None) -> int:
    """Keys and values of the student's own text, on-policy."""
    if not isinstance(config, OnPolicyConfig):
        return 0
    _, shared, layers = _shape(base)
    length = (longest or 256) + config.rollout_tokens
    return 2 * FLOAT * shared * layers * config.prompts_per_step * length


def _lora_parameters(config: LmStudentConfig, base: ModelFacts) -> int:
    lora = config.lora
    if lora is None:
        raise ValueError("no LoRA")
    total = 0
    for name, part in base.skeleton.named_modules():
        if not isinstance(part, torch.nn.Linear) or name.endswith("lm_head"):
            continue
        last = name.rpartition(".")[2]
        if lora.targets == "all-linear" or last in lora.targets or name in lora.targets:
            total += lora.rank * (part.in_features + part.out_features)
    return total


def available_memory() -> tuple[int, str]:
    """Bytes that are free, and of what: the GPU where there is one, else this machine.

    On Linux also within the limit of the control group (cgroup v2); elsewhere all there is.
    """
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return int(free), torch.cuda.get_device_name()
    info = Path("/proc/meminfo")
    if not info.is_file():
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return pages, "this machine"
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(0, free), "this machine"


def check_memory(
    config: LmStudentConfig, estimate: MemoryEstimate, available: tuple[int, str]
) -> Check:
    """A problem where it does not fit, a warning where it is tight."""
    free, where = available
    # Processes of one machine share its memory; each GPU has its own.
    times = config.processes if where == "this machine" else 1
    needed = estimate.total * times
    found = f"about {_gib(needed)} of {_gib(free)} free on {where} ({estimate.told})"
    if needed <= TIGHT * free:
        return Check(name="memory", outcome="ok", found=found)
    lower = []
    if estimate.activations >= estimate.weights:
        lower.append("micro_tokens (smaller pieces of a step change nothing of the result)")
        if not config.gradient_checkpointing:
            lower.append("gradient_checkpointing = true")
    if config.lora is None:
        lower.append("lora (gradients and optimizer of its weights alone)")
    lower.append("a smaller base or prune.layers")
    over = needed > free
    return Check(
        name="memory",
        outcome="problem" if over else "warning",
        found=found,
        reason=f"needs about {_gib(needed)}, and {_gib(free)} are free on {where}",
        way_out="lower " + "; or ".join(lower) if len(lower) == 1 else "try " + "; ".join(lower),
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB" if size < 10 << 30 else f"{size / (1 << 30):.0f} GiB"
