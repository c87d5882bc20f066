"""distill-slm's teacher on a file of prompts: python distill_slm.py URL PROMPTS OUT IN_FLIGHT HOME.

Run with the Python of an environment that has distill-slm. PROMPTS is a JSON list of texts; OUT
gets a JSON list of answers, null where it has none.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    url, prompts, out, in_flight, home = sys.argv[1:]
    cache = importlib.import_module("distill.cache").DiskCache(Path(home) / "cache")
    config = importlib.import_module("distill.config").TeacherConfig(
        provider="openai_compatible",
        model="served-model",
        base_url=url,
        concurrency=int(in_flight),
        max_tokens=256,
        price_input_per_mtok=0.0,
        price_output_per_mtok=0.0,
    )
    teachers = importlib.import_module("distill.teachers.openai_compatible")
    prompt = importlib.import_module("distill.teachers.base").Prompt
    teacher = teachers.OpenAICompatibleTeacher(config, cache=cache)
    texts = json.loads(Path(prompts).read_text())
    answers = teacher.complete_many([prompt(system="", user=text) for text in texts])
    Path(out).write_text(json.dumps([None if a is None else a.text for a in answers]))


main()
