"""The estimate of memory against measured peaks, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tiny_exports import tiny_tokenizer

from overproof.config.lm_students import SftConfig
from overproof.train.lm.preflight_memory import available_memory, check_memory, estimate_memory
from overproof.train.lm.preflight_models import ModelFacts

TOKENS = 1024
SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 768,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
TRAIN = """
    import json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    shape, section = json.loads(sys.argv[3]), json.loads(sys.argv[4])
    from tiny_exports import tiny_student
    from overproof.config.lm_students import SftConfig
    from overproof.train.lm.base import _with_lora
    from overproof.train.lm.methods.sft import Sft
    from overproof.train.lm.parts import TokenizedChat
    from overproof.train.lm.trainer import fit

    student = tiny_student(padding=0, **shape)
    student.context = 4096
    config = SftConfig(**section)
    if config.lora:
        student.module = _with_lora(student.module, config.lora)
    ids = tuple(range(60, 200)) * 20
    chats = [
        TokenizedChat(i, str(i), 0, (*ids[i : i + 1023], student.end), 20) for i in range(1)
    ]
    fit(student, Sft(), chats, [], config, out=Path(sys.argv[1]), seed=0)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def facts(**changes: Any) -> ModelFacts:
    from transformers import LlamaConfig

    return ModelFacts("tiny", LlamaConfig(**{**SHAPE, **changes}), None, tiny_tokenizer())


def section(**changes: Any) -> dict[str, Any]:
    return {
        "name": "s",
        "base": "b",
        "method": "sft",
        "epochs": 1,
        "batch_tokens": TOKENS,
        "micro_tokens": TOKENS,
        "max_length": TOKENS,
        **changes,
    }


def test_parts_are_what_the_shapes_say() -> None:
    base = facts()
    full = estimate_memory(SftConfig(**section()), base)
    assert full.weights == full.gradients == 4 * base.parameters
    assert full.optimizer == 2 * full.weights
    lora = estimate_memory(SftConfig(**section(lora={"rank": 8})), base)
    trained = 8 * 8 * (2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 768))
    assert lora.gradients == 4 * trained
    assert lora.total < full.total
    some = SftConfig(**section(lora={"rank": 8, "targets": ["q_proj"]}))
    assert estimate_memory(some, base).gradients == 4 * 8 * 8 * 512
    half = estimate_memory(SftConfig(**section(micro_tokens=TOKENS // 2)), base)
    assert half.activations == full.activations // 2
    checkpointed = SftConfig(**section(gradient_checkpointing=True))
    assert estimate_memory(checkpointed, base).activations < full.activations / 4
    with_teacher = estimate_memory(SftConfig(**section()), base, base)
    assert with_teacher.teacher > with_teacher.weights
    long = estimate_memory(SftConfig(**section()), base, longest=2 * TOKENS)
    assert long.activations == 2 * full.activations


def test_processes_of_one_machine_share_its_memory() -> None:
    one, two = SftConfig(**section()), SftConfig(**section(processes=2))
    estimate = estimate_memory(one, facts())
    free = int(1.5 * estimate.total)
    assert check_memory(one, estimate, (free, "this machine")).outcome == "ok"
    assert check_memory(two, estimate, (free, "this machine")).outcome == "problem"
    assert check_memory(two, estimate, (free, "a GPU")).outcome == "ok"
    found = check_memory(one, estimate, (estimate.total // 2, "a GPU"))
    assert "gradient_checkpointing = true" in found.way_out
    assert "micro_tokens" in found.way_out


def test_free_memory_is_known() -> None:
    free, where = available_memory()
    assert free > 0
    assert where


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    "changes", [{}, {"gradient_checkpointing": True, "lora": {"rank": 8}}], ids=str
)
def test_the_estimate_is_within_a_factor_of_the_measured_peak(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    told = section(**changes)
    support = str(Path(__file__).resolve().parent.parent / "support")
    done = subprocess.run(
        [
            sys.executable, "-c", textwrap.dedent(TRAIN),
            str(tmp_path / "out"), support, json.dumps(SHAPE), json.dumps(told),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    measured = int(done.stdout.split()[-1]) * 1024
    estimate = estimate_memory(SftConfig(**told), facts()).total
    assert 0.6 <= estimate / measured <= 1.7, (estimate >> 20, measured >> 20)
