"""What the runs of bench/train.py read: models, chats, and what a teacher thought of them.

Written once, so that every process trains the same weights on the same tokens. The model has
random weights, which take as long as trained ones, so nothing is fetched. All chats are of one
length: nobody gains by packing, and padding costs nobody anything.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

WORDS = (  # noqa: SIM905 - one a line would be four pages
    "the of and to in is that for it was on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find"
).split()
SPECIAL = ("<pad>", "<end>", "<user>", "<assistant>")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
K = 32


@dataclass(frozen=True)
class Size:
    """``length`` tokens a chat, of which ``answer``; ``micro`` chats at a time, two times a step.

    ``warm_up`` steps are not measured, ``steps`` are. On-policy, ``prompts`` are answered a step.
    """

    vocabulary: int
    length: int
    answer: int
    micro: int
    steps: int
    warm_up: int
    prompts: int

    @property
    def chats(self) -> int:
        return 2 * self.micro * (self.steps + self.warm_up)

    @property
    def prompt(self) -> int:
        return self.length - self.answer


def write_inputs(directory: Path, size: Size, model: Path | None) -> None:
    """Write ``student`` and ``teacher`` (or ``model`` for both), chats and two signals."""
    paths = {"student": model, "teacher": model}
    if model is None:
        paths = {name: directory / name for name in paths}
        write_model(directory / "student", size.vocabulary, width=256, layers=6)
        write_model(directory / "teacher", size.vocabulary, width=384, layers=8)
    chats, vocabulary = tokenized(Path(paths["student"] or ""), size)
    settings = {name: str(path) for name, path in paths.items()} | {"size": asdict(size)}
    (directory / "inputs.json").write_text(json.dumps(settings | {"chats": chats}))
    answers = [len(chat["ids"]) - chat["n_prompt"] for chat in chats]
    write_signals(directory, answers, vocabulary)


def write_model(directory: Path, vocabulary: int, *, width: int, layers: int) -> None:
    """A random Llama over words, one token each."""
    import torch
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*WORDS, *(f"w{i}" for i in range(vocabulary))][: vocabulary - len(SPECIAL)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="the"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", chat_template=TEMPLATE
    )
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        intermediate_size=3 * width,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(directory)


def tokenized(model: Path, size: Size) -> tuple[list[dict[str, object]], int]:
    """Chats of random words, cut to the same number of tokens."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    vocabulary = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    draw, end, chats = random.Random(0), tokenizer.eos_token_id, []
    for _ in range(size.chats):
        asked, said = (" ".join(draw.choices(WORDS, k=size.length)) for _ in range(2))
        head, tail = asked, ""
        prompt: list[int] = []
        while not prompt or len(prompt) > size.prompt:  # shorten until it has the length
            head = head.rpartition(" ")[0]
            prompt = prompt_ids(tokenizer, head)
        tail = "".join([" " + WORDS[0]] * (size.prompt - len(prompt)))
        prompt = prompt_ids(tokenizer, head + tail)
        if len(prompt) != size.prompt:
            raise SystemExit(f"a prompt of {len(prompt)} tokens, not {size.prompt}")
        answer = tokenizer(said, add_special_tokens=False)["input_ids"][: size.answer - 1]
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": head + tail}], tokenize=False, add_generation_prompt=True
        )
        chats.append({"prompt": rendered, "ids": [*prompt, *answer, end], "n_prompt": len(prompt)})
    return chats, vocabulary


def prompt_ids(tokenizer: object, text: str) -> list[int]:
    rendered = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])  # type: ignore[operator]


def write_signals(directory: Path, answers: list[int], vocabulary: int) -> None:
    """Top 32 with a tail, and 32 draws, of random distributions."""
    from overproof.records.logprob_store import StoreWriter

    rng = np.random.default_rng(0)
    for kind in ("top", "sampled"):
        with StoreWriter(
            directory / kind, k=K, vocabulary=vocabulary, kind=kind, fingerprint="bench"
        ) as writer:
            for n in answers:
                spread = np.arange(K) * (vocabulary // K)  # K different tokens
                ids = (rng.integers(vocabulary, size=(n, 1)) + spread) % vocabulary
                if kind == "top":
                    share = rng.dirichlet(np.full(K + 1, 0.3), n).clip(1e-6)
                    share /= share.sum(axis=1, keepdims=True)
                    logprobs = np.log(-np.sort(-share[:, :K], axis=1))
                    tail = np.log(1 - np.exp(logprobs).sum(axis=1))
                else:
                    counts = rng.multinomial(K, rng.dirichlet(np.full(K, 0.3), n))
                    with np.errstate(divide="ignore"):
                        logprobs = np.log(counts / K)
                    tail = np.full(n, -np.inf)
                writer.append(ids, logprobs, tail, np.ones(n, dtype=bool))
            writer.finish()
