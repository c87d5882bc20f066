"""Chats to tokens: the prompt as it is asked later, and exactly one end. Complaint 6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_chats import make_row
from tiny_lm import SPECIAL, write_tiny_lm

from overproof.clients.local_chat import Chat
from overproof.errors import DataError
from overproof.records.exchange import Message, Request
from overproof.train.lm.chats import Tokenized, tokenize_chats

PLAIN = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(write_tiny_lm(tmp_path_factory.mktemp("lm")))


@pytest.fixture
def end(tokenizer: Any) -> int:
    return int(tokenizer.convert_tokens_to_ids("<|end|>"))


def tokenized(rows: Any, tokenizer: Any, template: str | None = None, **more: Any) -> Tokenized:
    before = tokenizer.chat_template
    tokenizer.chat_template = before if template is None else template
    try:
        settings = {"end": tokenizer.convert_tokens_to_ids("<|end|>"), "max_length": 512} | more
        return tokenize_chats(rows, tokenizer, **settings)
    finally:
        tokenizer.chat_template = before


def test_prompt_is_what_a_server_would_ask(tokenizer: Any, end: int) -> None:
    row = make_row("the boat\n", "a hat\n\nthe end", sample=3)
    row["messages"].insert(0, {"role": "system", "content": "be kind"})
    (chat,) = tokenized([row], tokenizer).chats
    messages = tuple(Message.model_validate(m) for m in row["messages"][:-1])
    asked = Chat(tokenizer).prompt_ids(Request(model="m", messages=messages))
    assert list(chat.ids[: chat.n_prompt]) == asked
    assert tokenizer.decode(chat.ids[chat.n_prompt :]) == "a hat\n\nthe end<|end|>"
    assert chat.ids.count(end) == 3, "one a message"
    assert chat.ids[-1] == end
    assert (chat.item, chat.sample, chat.request_keys) == (row["item"], 3, ("key-the boat\n",))


def test_what_follows_the_end_is_not_learned(tokenizer: Any, end: int) -> None:
    template = PLAIN.replace("<|end|>{% endfor", "<|end|>\n{% endfor")
    (chat,) = tokenized([make_row("a", "b")], tokenizer, template).chats
    assert tokenizer.decode(chat.ids[chat.n_prompt :]) == "b<|end|>"
    assert chat.ids[-1] == end


def test_no_second_bos(tokenizer: Any) -> None:
    # As Llama does: the template writes the BOS, and the tokenizer would add one, too.
    from tokenizers.processors import TemplateProcessing

    bos = "<|tools|>"
    number = tokenizer.convert_tokens_to_ids(bos)
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, number)])
    try:
        assert tokenizer("x")["input_ids"][0] == number, "the bug is at hand"
        (chat,) = tokenized([make_row("a", "b")], tokenizer, bos + PLAIN).chats
    finally:
        backend.post_processor = before
    assert chat.ids.count(number) == 1
    assert chat.ids[0] == number


def test_a_border_that_merges_keeps_the_prompt(tokenizer: Any) -> None:
    # The prompt ends in "t"; "th" is one token where the two are tokenized together.
    template = PLAIN.replace("<|assistant|>{% endif", "t{% endif").replace(
        "<|{{ m['role'] }}|>", "{% if m['role'] == 'assistant' %}t{% endif %}"
    )
    (chat,) = tokenized([make_row("x", "he")], tokenizer, template).chats
    said = tokenizer.convert_ids_to_tokens(list(chat.ids))
    assert said == ["x", "<|end|>", "t", "he", "<|end|>"]
    assert chat.n_prompt == 3


def test_a_template_that_renders_history_differently(tokenizer: Any) -> None:
    template = PLAIN.replace(
        "<|assistant|>{% endif", "<|assistant|><|system|>{% endif"
    )  # a header of reasoning that an answered turn has no more
    found = tokenized([make_row("a", "b c")], tokenizer, template)
    (chat,) = found.chats
    assert tokenizer.decode(chat.ids) == "<|user|>a<|end|><|assistant|><|system|>b c<|end|>"
    assert tokenizer.decode(chat.ids[: chat.n_prompt]).endswith("<|system|>")
    assert "differently" in found.notes[0]


def test_a_template_that_trims(tokenizer: Any) -> None:
    template = PLAIN.replace("m['content']", "m['content'] | trim")
    (chat,) = tokenized([make_row(" a ", " b ")], tokenizer, template).chats
    assert tokenizer.decode(chat.ids) == "<|user|>a<|end|><|assistant|>b<|end|>"


@pytest.mark.parametrize("known", [True, False])
def test_reasoning_goes_where_the_template_knows_it(tokenizer: Any, known: bool) -> None:
    template = PLAIN
    if known:
        template = PLAIN.replace(
            "{{ m['content'] }}",
            "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
            "{{ m['content'] }}",
        )
    found = tokenized([make_row("a", "b", reasoning="so")], tokenizer, template)
    answer = tokenizer.decode(found.chats[0].ids[found.chats[0].n_prompt :])
    assert answer == ("<think>so</think>b<|end|>" if known else "b<|end|>")
    assert bool(found.notes) is not known


def test_a_flag_named_thinking_is_no_field(tokenizer: Any) -> None:
    found = tokenized(
        [make_row("a", "b", reasoning="so")],
        tokenizer,
        "{% if enable_thinking %}{% endif %}" + PLAIN,
    )
    assert "no place" in found.notes[0]


def test_too_long_is_left_out_and_not_cut(tokenizer: Any) -> None:
    rows = [make_row("a", "b"), make_row("a", "b" * 100)]
    found = tokenized(rows, tokenizer, max_length=50)
    assert [chat.row for chat in found.chats] == [0]
    assert found.left_out == {"longer than max_length (50 tokens)": 1}
    with pytest.raises(DataError, match="none is left: 1 longer than max_length"):
        tokenized(rows[1:], tokenizer, max_length=50)


def test_rows_count_answered_ones_alone(tokenizer: Any) -> None:
    unanswered = make_row("a", "b", outcome="refused")
    found = tokenized([unanswered, make_row("c", "d"), make_row("e", "")], tokenizer)
    assert [chat.row for chat in found.chats] == [0]
    assert found.left_out == {"without an answer": 1, "with an empty answer": 1}


def test_an_end_that_never_occurs(tokenizer: Any) -> None:
    # eos_token says one thing and the template another: the student would never stop.
    other = tokenizer.convert_tokens_to_ids("<|tool|>")
    with pytest.raises(DataError, match=r"(?s)'<\|tool\|>'.*never occurs.*'<\|end\|>'"):
        tokenized([make_row("a", "b")], tokenizer, end=other)


@pytest.mark.parametrize("answer", ["b", "b "])
def test_a_template_without_an_end_gets_one(tokenizer: Any, answer: str) -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = tokenized([make_row("a", answer)], tokenizer, template)
    said = tokenizer.decode(found.chats[0].ids)
    assert said.startswith(f"user: a\nassistant: {answer}")
    assert said.endswith("<|end|>")
    assert said.count("<|end|>") == 1
    assert "was added" in found.notes[0]


def test_an_end_within_the_answer_is_left_out(tokenizer: Any) -> None:
    found = tokenized([make_row("a", "b"), make_row("a", "b<|end|>c")], tokenizer)
    assert len(found.chats) == 1
    assert found.left_out == {"with the end-of-turn token inside of the answer": 1}


CALL = {
    "id": "call_0",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "sky"}'},
}
TOOLS = '[{"type": "function", "function": {"name": "look", "parameters": {}}}]'


def test_tool_calls_are_learned(tokenizer: Any) -> None:
    row = make_row("a", "", tools=TOOLS)
    row["messages"][-1]["tool_calls"] = [CALL]
    (chat,) = tokenized([row], tokenizer).chats
    prompt = tokenizer.decode(chat.ids[: chat.n_prompt])
    answer = tokenizer.decode(chat.ids[chat.n_prompt :])
    assert prompt.startswith(f"<|tools|>{TOOLS}")
    assert '{"at": "sky"}' in answer, "arguments are an object for the template"
    assert answer.endswith("<|end|>")


def test_a_template_that_knows_no_tools(tokenizer: Any) -> None:
    row = make_row("a", "b", tools=TOOLS)
    with pytest.raises(DataError, match="knows no tools"):
        tokenized([row], tokenizer, PLAIN)
    row = make_row("a", "")
    row["messages"][-1]["tool_calls"] = [CALL]
    found = tokenized([make_row("a", "b"), row], tokenizer, PLAIN)
    assert found.left_out == {"whose answer the chat template leaves out": 1}


def test_a_template_that_refuses(tokenizer: Any) -> None:
    template = "{% if messages | length > 3 %}{{ raise_exception('too many') }}{% endif %}" + PLAIN
    long = make_row("a", "b")
    long["messages"] = [*long["messages"], *long["messages"]]
    found = tokenized([make_row("a", "b"), long], tokenizer, template)
    assert found.left_out == {"refused by the chat template (too many)": 1}


def test_the_split_that_is_left_empty_is_named(tokenizer: Any) -> None:
    for what in ("training", "tune"):
        with pytest.raises(DataError, match=f"the {what} chats: none is left: 1 longer than"):
            tokenize_chats([make_row("a" * 99, "b")], tokenizer, end=260, max_length=8, what=what)


def test_no_template(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(write_tiny_lm(tmp_path, template=None))
    with pytest.raises(DataError, match="no chat template"):
        tokenize_chats([make_row("a", "b")], bare, end=len(SPECIAL), max_length=64)
