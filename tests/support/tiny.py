"""Small stand-ins for the road's ends: a random encoder and a task that the fake teacher knows."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

WORDS = [
    f"{a}{b}{c}"
    for a in ("ka", "lo", "mi", "ne", "pu", "ra")
    for b in "bdgkm"
    for c in ("", "l", "n", "r")
]

RECIPE = """\
[run]
name = "tiny, synthetic"
dir = "{run_dir}"
demo = true

[teacher]
kind = "fake"
model = "fake"
concurrency = 8

[data]
file = "{data}"
gold = "label"
train = 160
tune = 40
test = 120
examples = 10

[task]
labels = {{ yes = "agreement", no = "refusal" }}
system = '''
Choose.
{{% for option in options %}}{{{{ option }}}}
{{% endfor %}}'''
prompt = "Text: {{{{ input }}}}"
examples_per_label = 1
rendering = "letters"
repeats = 40
prior = "none"

[students.encoder]
base = "{base}"
epochs = 2
max_length = 32
learning_curve = [0.5]

[students.probe]
base = "{base}"
max_length = 32
repeats = 2

[certificate]
margin = 0.3
bootstrap = 200
"""


def write_tiny_encoder(directory: Path, words: Sequence[str] = WORDS) -> Path:
    """A random BERT of two layers, width 32, with a word-level tokenizer over ``words``."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from overproof.clients.quiet import quiet_transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
            model_max_length=40,
        ).save_pretrained(directory)
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    return directory


def write_task(directory: Path, recipe: str = "configs/demo.toml", run: str = "runs/demo") -> Path:
    """A recipe with its data (synthetic words; gold is the fake teacher's own label, mostly)."""
    from overproof.clients.fake import FakeTeacher
    from overproof.records.exchange import Message, Request

    directory = directory.resolve()
    teacher, rng = FakeTeacher(), random.Random(5)
    data = directory / "questions.csv"
    with data.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(360):
            text = " ".join(rng.sample(WORDS, 7))
            prompt = "A. x\nB. y\n"
            request = Request(model="fake", messages=(
                Message(role="system", content=prompt),
                Message(role="user", content=f"Text: {text}")))  # fmt: skip
            chances = teacher.distribution(request)
            right = "yes" if chances["A"] > chances["B"] else "no"
            wrong = "no" if right == "yes" else "yes"
            writer.writerow([text, right if rng.random() < 0.9 else wrong])
    base = write_tiny_encoder(directory / "tiny-encoder")
    path = directory / recipe
    path.parent.mkdir(parents=True, exist_ok=True)
    text = RECIPE.format(run_dir=directory / run, data=data, base=base)
    path.write_text(text)
    return path


CHATS = """\
[run]
name = "chats"
dir = "{run_dir}"
[teacher]
kind = "fake"
model = "fake"
[data]
file = "{data}"
train = 40
test = 10
[task]
kind = "text"
max_tokens = 64
[[filters]]
kind = "near_duplicate"
"""


def write_chats(directory: Path) -> Path:
    """The recipe of a text task over the data of ``write_task``."""
    path = directory.resolve() / "configs/chats.toml"
    run, data = directory.resolve() / "runs/chats", directory.resolve() / "questions.csv"
    path.write_text(CHATS.format(run_dir=run, data=data))
    return path
