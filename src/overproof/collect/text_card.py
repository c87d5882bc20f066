"""The dataset card: what a reader of the data must know, and how libraries load it."""

from __future__ import annotations

import json

from overproof.config.text_recipe import TextRecipe
from overproof.records.chat_dataset import TextManifest
from overproof.records.gap import gap_lines
from overproof.records.hashing import content_hash

__all__ = ["dataset_card", "dataset_info"]

SPLITS = ("train", "tune", "test")


def dataset_info(recipe: TextRecipe, manifest: TextManifest) -> str:
    """``dataset_info.json``: how LLaMA-Factory reads the JSONL files."""
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function_call",
        "system_tag": "system",
    }
    columns = {"messages": "messages"}
    if recipe.task.tools:
        columns["tools"] = "tools"
    entries = {
        f"overproof_{split}": {
            "file_name": f"{split}.jsonl",
            "formatting": "openai",
            "columns": columns,
            "tags": tags,
        }
        for split in SPLITS
        if manifest.counts.get(split)
    }
    return json.dumps(entries, indent=2) + "\n"


def dataset_card(recipe: TextRecipe, manifest: TextManifest) -> str:
    """``README.md`` of the dataset, with the YAML head that the ``datasets`` library reads."""
    parts = [
        _head(recipe, manifest),
        f"# {recipe.run.name}\n",
        _what(recipe, manifest),
        _source(recipe, manifest),
        _outcomes(manifest),
        _filters(manifest),
        _reports(manifest),
        _loading(recipe, manifest),
    ]
    return "\n".join(part for part in parts if part)


def _head(recipe: TextRecipe, manifest: TextManifest) -> str:
    splits = [split for split in SPLITS if manifest.counts.get(split)]
    lines = [
        "---",
        f"pretty_name: {json.dumps(recipe.run.name, ensure_ascii=False)}",
        "license: other",
        f"license_name: {json.dumps(str(manifest.teacher.get('licence', 'unknown')))}",
        "task_categories:",
        "- text-generation",
        "tags:",
        "- overproof",
        "- distillation",
        *(["- synthetic"] if _synthetic(manifest) else []),
        "configs:",
    ]
    # The library takes configurations of the same words for the same data, and caches them.
    digest = content_hash(manifest.files)
    for config, folder in (("default", ""), ("chat", "chat/")):
        lines += [f"- config_name: {config}", f"  description: {digest}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {_split_name(split)}", f"    path: {folder}{split}.parquet"]
    return "\n".join([*lines, "---", ""])


def _split_name(split: str) -> str:
    return "validation" if split == "tune" else split


def _synthetic(manifest: TextManifest) -> int:
    return sum(n for kind, n in manifest.origins.items() if kind not in ("file", "ledger"))


def _what(recipe: TextRecipe, manifest: TextManifest) -> str:
    rows = ", ".join(f"{manifest.counts.get(split, 0):,} {split}" for split in SPLITS)
    text = (
        f"Chats whose last message was written by **{_plain(manifest.teacher.get('name'))}**: "
        f"{rows}. "
    )
    made = _synthetic(manifest)
    total = sum(manifest.origins.values())
    if made:
        text += f"{made:,} of {total:,} training prompts are **synthetic**: "
        kinds = (f"{kind} {n:,}" for kind, n in sorted(manifest.origins.items()))
        text += ", ".join(kinds) + ". "
    if recipe.teacher.kind == "fake":
        text += "\n\n**The teacher was a stand-in: these answers mean nothing.**"
    return text + "\n"


def _source(recipe: TextRecipe, manifest: TextManifest) -> str:
    teacher = manifest.teacher
    rows = [
        ("teacher", teacher.get("name")),
        ("model", teacher.get("model")),
        ("licence", teacher.get("licence")),
        ("terms", teacher.get("terms")),
        ("clause", teacher.get("clause")),
        ("source of the terms", teacher.get("source")),
        ("terms file", teacher.get("terms_version")),
        ("attestation", teacher.get("attestation")),
        ("prompts", manifest.input_file),
        ("prompts, SHA-256", manifest.input_sha256),
        ("recipe", manifest.recipe_sha256),
        ("recipe with filters", manifest.dataset_sha256),
        ("temperature", recipe.task.temperature),
        ("answers a prompt", recipe.task.samples),
    ]
    table = [f"| {name} | {_cell(value)} |" for name, value in rows if value not in (None, "")]
    shares = sum(manifest.provenance.values())
    for name, count in sorted(manifest.provenance.items()):
        table.append(f"| training rows of {_cell(name)} | {count:,} ({count / shares:.1%}) |")
    return "\n".join(["## Where it comes from\n", "| | |", "|---|---|", *table, ""])


def _outcomes(manifest: TextManifest) -> str:
    names = sorted({name for split in manifest.outcomes.values() for name in split})
    lines = [
        "## What the teacher answered\n",
        "| | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for split, counts in manifest.outcomes.items():
        cells = " | ".join(f"{counts.get(name, 0):,}" for name in names)
        lines.append(f"| {split} | {cells} |")
    return "\n".join([*lines, ""])


def _filters(manifest: TextManifest) -> str:
    if not manifest.filters:
        return ""
    lines = ["## What was dropped\n", "| filter | saw | dropped | why |", "|---|---:|---:|---|"]
    for report in manifest.filters:
        why = "; ".join(f"{_plain(reason)} ({n:,})" for reason, n in report.reasons.items())
        lines.append(f"| {report.name} | {report.seen:,} | {report.dropped:,} | {_cell(why)} |")
        lines += [f"| | | | {_cell(note)} |" for note in report.notes]
    lines.append("\nEvery dropped example is in `dropped.jsonl`, with the filter and the reason.\n")
    return "\n".join(lines)


def _reports(manifest: TextManifest) -> str:
    lines: list[str] = []
    if manifest.gap is not None:
        lines += ["## Synthetic against real prompts\n"]
        lines += [f"- {_plain(line)}" for line in gap_lines(manifest.gap)]
        lines += [""]
    if manifest.drift is not None:
        lines += ["## Did the teacher change meanwhile?\n"]
        lines += [f"- {_plain(line)}" for line in manifest.drift.get("statements", ())]
        lines += [""]
    if manifest.notes:
        lines += ["## Worth knowing\n", *(f"- {_plain(note)}" for note in manifest.notes), ""]
    return "\n".join(lines)


def _loading(recipe: TextRecipe, manifest: TextManifest) -> str:
    lines = [
        "## Loading it\n",
        "```python",
        "from datasets import load_dataset",
        'load_dataset("DIRECTORY", "chat")     # messages alone: TRL, axolotl',
        'load_dataset("DIRECTORY")             # every outcome, with origin, teacher and terms',
        "```",
        "",
        "`train.jsonl` is in OpenAI's fine-tuning format; `dataset_info.json` registers the "
        "files with LLaMA-Factory.",
        "",
    ]
    if recipe.task.tools:
        lines += [
            "A call's `arguments` are JSON text, as OpenAI wants them, and so is the column "
            "`tools`, for Arrow wants one type a column. Chat templates that render "
            "`arguments | tojson` without looking (Llama 3, some Qwen) need objects: pass "
            "`json.loads` of them to `apply_chat_template`.",
            "",
        ]
    digest = content_hash(manifest.files)
    lines += [f"Hash of all files: `{digest}`; each file's own is in `manifest.json`.", ""]
    return "\n".join(lines)


def _plain(value: object) -> str:
    return " ".join(str(value).split())


def _cell(value: object) -> str:
    return _plain(value).replace("|", "\\|")
