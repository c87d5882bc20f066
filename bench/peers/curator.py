"""bespokelabs-curator on a file of prompts: python curator.py URL PROMPTS OUT IN_FLIGHT HOME.

Run with the Python of an environment that has bespokelabs-curator. PROMPTS is a JSON list of
texts; OUT gets a JSON list of answers, null where it has none.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    url, prompts, out, in_flight, home = sys.argv[1:]
    os.environ |= {
        "OPENAI_API_KEY": "none",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "CURATOR_CACHE_DIR": home,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
    }
    curator = importlib.import_module("bespokelabs.curator")

    def prompt(_llm, row):
        return row["text"]

    def parse(_llm, row, response):
        return {"text": row["text"], "answer": response}

    llm = type("Asker", (curator.LLM,), {"prompt": prompt, "parse": parse})(
        model_name="openai/served-model",
        backend="litellm",
        backend_params={
            "base_url": url,
            "max_requests_per_minute": 1_000_000,
            "max_tokens_per_minute": 1_000_000_000,
            "max_concurrent_requests": int(in_flight),
            "require_all_responses": False,
            "request_timeout": 30,
        },
    )
    texts = json.loads(Path(prompts).read_text())
    result = llm([{"text": text} for text in texts], working_dir=home)
    dataset = getattr(result, "dataset", result)
    found = {row["text"]: row["answer"] for row in dataset}
    Path(out).write_text(json.dumps([found.get(text) for text in texts]))


main()
