"""Which token ends an answer, and which one pads.

A student that is taught one end and stopped at another never stops: the commonest silent failure
of distilling (weights whose generation config names ``<|endoftext|>`` under a template that closes
turns with ``<|im_end|>``). So the template decides, and everything else is set to agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from overproof.clients.local_model import ENDS
from overproof.errors import ModelError

__all__ = ["Endings", "endings_of", "settle_padding"]

QUESTION, ANSWER = "a question", "an answer, whole"
FILLERS = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>")


@dataclass(frozen=True)
class Endings:
    """``end`` closes an answer in training; any of ``ends`` stops one that is generated."""

    end: int
    ends: frozenset[int]
    notes: tuple[str, ...] = ()


def endings_of(module: Any, tokenizer: Any, name: str) -> Endings:
    """What ends an answer, by the chat template first and by the generation config second.

    Args:
        module: a causal model.
        tokenizer: its tokenizer, with a chat template.
        name: of the base, for errors.

    Raises:
        ModelError: the template refuses a plain chat, or nothing says how an answer ends.
    """
    added = tokenizer.added_tokens_decoder
    named = _named_ends(module, tokenizer)
    special = {i for i, token in added.items() if token.special and str(token.content) in ENDS}
    closing = [i for i in _closing_ids(tokenizer, name) if i in added]
    if closing:
        end, notes = closing[0], _disagreement(closing[0], module, tokenizer)
    elif named:
        end = named[0]
        notes = (
            f"the chat template closes answers with no token of its own; {_shown(tokenizer, end)} "
            "ends them",
        )
    else:
        raise ModelError(
            name,
            "nothing says how an answer ends: neither its chat template nor its generation config "
            "names a token",
            'set "eos_token" in its tokenizer_config.json, or close assistant turns in its chat '
            "template",
        )
    return Endings(end, frozenset({end, *named, *special}), notes)


def settle_padding(tokenizer: Any, end: int, name: str) -> tuple[str, ...]:
    """Give the tokenizer a token to pad with where it has none; returns what to note of that.

    Labels never depend on it: what is padding is known by its place, so a padding token that also
    ends answers is learned where it ends one.

    Raises:
        ModelError: there is no special token that could pad.
    """
    if tokenizer.pad_token_id is not None:
        return ()
    by_text = {str(token.content): i for i, token in tokenizer.added_tokens_decoder.items()}
    fillers = [by_text[text] for text in FILLERS if text in by_text and by_text[text] != end]
    filler = fillers[0] if fillers else end
    text = tokenizer.convert_ids_to_tokens(filler)
    if text is None:
        raise ModelError(
            name, "has no token to pad with", 'set "pad_token" in its tokenizer_config.json'
        )
    tokenizer.pad_token = text
    return (f"the tokenizer names no padding token; {text!r} pads",)


def _closing_ids(tokenizer: Any, name: str) -> list[int]:
    """The tokens that the template puts after an assistant's answer."""
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
    ]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # a template is a program of the model's, and may raise anything
        raise ModelError(
            name,
            f"its chat template refuses a question with an answer: {error}",
            "use the chat_template.jinja of its instruction-tuned variant",
        ) from error
    before, said, after = text.rpartition(ANSWER)
    if not said or QUESTION not in before:
        raise ModelError(
            name,
            "its chat template leaves out what user and assistant say",
            "use the chat_template.jinja of its instruction-tuned variant",
        )
    return list(tokenizer(after, add_special_tokens=False)["input_ids"]) if after else []


def _named_ends(module: Any, tokenizer: Any) -> list[int]:
    """The ends that generation config, config and tokenizer name, in this order."""
    found = _stops(module)
    found += _listed(getattr(module.config, "eos_token_id", None))
    found += _listed(tokenizer.eos_token_id)
    return list(dict.fromkeys(found))


def _stops(module: Any) -> list[int]:
    """Where generating stops by the generation config."""
    config = module.generation_config
    return _listed(config.eos_token_id if config else None)


def _listed(ids: Any) -> list[int]:
    return [] if ids is None else list(ids) if isinstance(ids, list | tuple) else [ids]


def _disagreement(end: int, module: Any, tokenizer: Any) -> tuple[str, ...]:
    stops = _stops(module)
    if not stops or end in stops:
        return ()
    others = ", ".join(_shown(tokenizer, other) for other in stops)
    return (
        f"the chat template closes answers with {_shown(tokenizer, end)}, and the generation "
        f"config stops at {others}: the student stops at either",
    )


def _shown(tokenizer: Any, token: int) -> str:
    return repr(tokenizer.convert_ids_to_tokens(token))
