"""The checks of tokenizers, templates, lengths and sizes: what fails silently, named before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from overproof.config.lm_students import (
    DenseKdConfig,
    LmStudentConfig,
    OnPolicyConfig,
    SampledKdConfig,
    SparseKdConfig,
)
from overproof.errors import OverproofError
from overproof.records.preflight import Check
from overproof.train.lm.chats import tokenize_chats
from overproof.train.lm.endings import Endings, endings_of
from overproof.train.lm.preflight_models import ModelFacts
from overproof.train.lm.vocabularies import check_tokenizer, same_vocabulary

__all__ = [
    "check_context",
    "check_ends",
    "check_licence",
    "check_size",
    "check_template",
    "check_vocabulary",
    "ends_of",
    "problem",
    "token_by_token",
]

FEW = 0.5  # of the teacher's tokens
QUESTION, ANSWER = "a question", "an answer, whole"


def problem(name: str, error: OverproofError) -> Check:
    """A check that an error of a later step ends."""
    return Check(
        name=name,
        outcome="problem",
        found=error.culprit,
        reason=error.reason,
        way_out=error.way_out,
    )


def ends_of(facts: ModelFacts) -> Endings:
    """The tokens that end an answer, as training will choose them.

    Raises:
        ModelError: nothing says how an answer ends.
    """
    module: Any = SimpleNamespace(config=facts.text, generation_config=facts.generation_config)
    return endings_of(module, facts.tokenizer, facts.name)


def token_by_token(config: LmStudentConfig, *, local: bool) -> bool:
    """Whether the method compares student and teacher at the same ids."""
    if isinstance(config, OnPolicyConfig):
        return local and config.scorer != "server"
    return isinstance(config, DenseKdConfig)


def check_size(base: ModelFacts, teacher: ModelFacts | None) -> Check:
    """A student larger than its teacher is no distillation."""
    size = f"{base.parameters:,} parameters"
    if teacher is None:
        return Check(name="size", outcome="ok", found=f"{size}; the teacher's are not known here")
    found = f"{size}, {base.parameters / max(1, teacher.parameters):.0%} of the teacher's"
    if base.parameters > teacher.parameters:
        return Check(
            name="size",
            outcome="problem",
            found=found,
            reason=f"the student ({base.parameters:,} parameters) is larger than the teacher "
            f"({teacher.parameters:,})",
            way_out="choose a smaller base, or prune one: students.prune.layers",
        )
    if base.parameters == teacher.parameters:
        return Check(
            name="size",
            outcome="warning",
            found=found,
            reason="the student is as large as the teacher: it saves nothing",
            way_out="prune it: students.prune.layers",
        )
    return Check(name="size", outcome="ok", found=found)


def check_vocabulary(
    config: LmStudentConfig, base: ModelFacts, teacher: ModelFacts | None
) -> Check:
    """Every token has weights; and the teacher's tokens are the student's, where that matters."""
    name = "tokenizer"
    try:
        check_tokenizer(base.tokenizer, base.rows, base.name)
    except OverproofError as error:
        return problem(name, error)
    if teacher is None:
        return Check(name=name, outcome="ok", found="the teacher's tokenizer is not known here")
    shared = same_vocabulary(base.tokenizer, teacher.tokenizer)
    if shared.same:
        rows = f"{shared.shared:,} tokens, the same by their ids"
        if base.rows != teacher.rows:
            rows += f"; {base.rows:,} and {teacher.rows:,} rows, the rest is padding"
        return Check(name=name, outcome="ok", found=rows)
    overlap = _overlap(base, teacher)
    found = f"{overlap:.0%} of the teacher's tokens are one token of the student's"
    is_drawn = isinstance(config, SampledKdConfig)
    if (is_drawn or token_by_token(config, local=True)) and shared.differs is not None:
        i, ours, theirs = shared.differs
        sizes = "though both are as large, " if base.rows == teacher.rows else ""
        return Check(
            name=name,
            outcome="problem",
            found=found,
            reason=f"{sizes}token {i} is {ours!r} to the student and {theirs!r} to the teacher, "
            + (
                "and the teacher's draws would be no tokens of the student"
                if is_drawn
                else "and the method compares them token by token"
            ),
            way_out="take a base of the teacher's family, or method = 'sparse_kd', which maps "
            "log-probs onto any vocabulary by bytes",
        )
    by_bytes = isinstance(config, SparseKdConfig | OnPolicyConfig)
    if by_bytes and overlap < FEW:
        return Check(
            name=name,
            outcome="warning",
            found=found,
            reason="most of what the teacher gives odds for has no token of the student's, and "
            "counts as one bucket",
            way_out="take a base whose vocabulary is nearer to the teacher's, or method = 'sft'",
        )
    return Check(name=name, outcome="ok", found=found)


def _overlap(base: ModelFacts, teacher: ModelFacts) -> float:
    """The share of the teacher's tokens whose bytes are one of the student's."""

    def said(facts: ModelFacts) -> set[bytes]:
        ids = facts.tokenizer.get_vocab().values()
        return {facts.chat.bytes_of(int(i)) for i in ids} - {b""}

    theirs = said(teacher)
    return len(theirs & said(base)) / max(1, len(theirs))


def check_template(base: ModelFacts, teacher: ModelFacts | None, system: bool) -> Check:
    """The student is asked in a form that its answers go on from."""
    name, tokenizer = "chat template", base.tokenizer
    if not base.chat.template:
        return Check(
            name=name,
            outcome="problem",
            found="none",
            reason=f"the base {base.name} has no chat template, so nobody knows how to ask it",
            way_out="use its instruction-tuned variant, or put a chat_template.jinja beside it",
        )
    asked = [{"role": "user", "content": QUESTION}]
    told = [{"role": "system", "content": "a rule to follow"}] if system else []
    try:
        prompt = str(
            tokenizer.apply_chat_template(
                [*told, *asked], tokenize=False, add_generation_prompt=True
            )
        )
        whole = str(
            tokenizer.apply_chat_template(
                [*told, *asked, {"role": "assistant", "content": ANSWER}], tokenize=False
            )
        )
    except Exception as error:  # noqa: BLE001 - a template is a program of the model's own
        return Check(
            name=name,
            outcome="problem",
            found=f"of {base.name}",
            reason=f"it refuses the recipe's chats: {str(error).partition(chr(10))[0]}",
            way_out="leave task.system empty and say it in task.prompt, or use another base",
        )
    if told and told[0]["content"] not in prompt:
        return Check(
            name=name,
            outcome="warning",
            found=f"of {base.name}",
            reason="it leaves out the system message",
            way_out="say it in task.prompt",
        )
    if not whole.startswith(prompt):
        return Check(
            name=name,
            outcome="warning",
            found=f"of {base.name}",
            reason="its generation prompt is no beginning of an answered chat; answers are put "
            "after the generation prompt as they are",
            way_out="look at a rendered chat before you train",
        )
    same = teacher is not None and teacher.chat.template == base.chat.template
    found = "the teacher's own" if same else f"of {base.name}"
    return Check(name=name, outcome="ok", found=found)


def check_ends(
    config: LmStudentConfig,
    base: ModelFacts,
    teacher: ModelFacts | None,
    rows: Sequence[Mapping[str, Any]],
) -> Check:
    """An answer ends with a token that training shows, and that the teacher ends with, too."""
    name = "end of turn"
    try:
        endings = ends_of(base)
        shown = repr(base.tokenizer.convert_ids_to_tokens(endings.end))
        told = [{"messages": [_say("user", QUESTION), _say("assistant", ANSWER)]}]
        sample = list(rows) or told
        found = tokenize_chats(
            sample, base.tokenizer, end=endings.end, max_length=base.context or 1 << 30
        )
    except OverproofError as error:
        return problem(name, error)
    if any(chat.ids[-1] != endings.end for chat in found.chats):
        return Check(
            name=name,
            outcome="problem",
            found=shown,
            reason="training would show answers that do not end with it",
            way_out="close assistant turns in the chat template",
        )
    if teacher is not None and token_by_token(config, local=True):
        theirs = _ids_of_ends(teacher)
        if endings.end not in theirs:
            others = " or ".join(map(repr, teacher.tokenizer.convert_ids_to_tokens(sorted(theirs))))
            return Check(
                name=name,
                outcome="problem",
                found=shown,
                reason=f"the teacher ends its answers with {others}: from its distribution the "
                "student would learn never to stop",
                way_out="put the teacher's chat_template.jinja into the directory of the base",
            )
    if endings.notes:
        return Check(
            name=name,
            outcome="warning",
            found=shown,
            reason="; ".join(endings.notes),
            way_out="make eos_token_id of its generation_config.json agree with its chat template",
        )
    return Check(name=name, outcome="ok", found=shown)


def _ids_of_ends(teacher: ModelFacts) -> frozenset[int]:
    """As ``clients.local_model`` knows them: named by configs, or special under a known name."""
    try:
        return ends_of(teacher).ends
    except OverproofError:
        return frozenset()


def _say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def check_context(
    config: LmStudentConfig,
    base: ModelFacts,
    lengths: Sequence[int],
    *,
    answered: bool,
) -> Check:
    """The longest chats fit into ``max_length`` and into the base's positions.

    Args:
        config: the student.
        base: what it begins with.
        lengths: of chats, in the base's tokens; with the longest answer allowed where the teacher
            has not answered yet.
        answered: whether the teacher's answers are known.
    """
    name, limit, context = "context", config.max_length, base.context
    if context is not None and limit > context:
        return Check(
            name=name,
            outcome="problem",
            found=f"{context:,} positions",
            reason=f"max_length is {limit:,}, and the base has positions for {context:,} tokens",
            way_out=f"set students.max_length = {context}",
        )
    if not lengths:
        return Check(name=name, outcome="ok", found=f"{limit:,} tokens; no prompt is known yet")
    longest, over = max(lengths), sum(length > limit for length in lengths)
    what = "prompt and answer" if answered else "prompt and the longest answer allowed"
    found = f"longest {what} of {len(lengths):,} chats: {longest:,} of {limit:,} tokens"
    if isinstance(config, OnPolicyConfig) and context is not None:
        room = longest + (config.rollout_tokens if answered else 0)
        if room > context:
            return Check(
                name=name,
                outcome="warning",
                found=found,
                reason=f"the student's own text may reach {room:,} tokens, of {context:,}",
                way_out="lower rollout_tokens",
            )
    if not over:
        return Check(name=name, outcome="ok", found=found)
    share = over / len(lengths)
    return Check(
        name=name,
        outcome="problem" if answered and share == 1 else "warning",
        found=found,
        reason=f"{share:.0%} of chats may be longer than max_length = {limit:,}, and are left out",
        way_out="raise students.max_length"
        + ("" if answered else ", or lower task.max_tokens to what answers need"),
    )


def check_licence(base: ModelFacts) -> Check:
    """Somebody said under what licence the base may be used."""
    if base.licences:
        return Check(name="licence of the base", outcome="ok", found=", ".join(base.licences))
    return Check(
        name="licence of the base",
        outcome="warning",
        found="unknown",
        reason=f"nobody says under what licence {base.name} may be changed and passed on",
        way_out="put its model card (README.md with a license) beside it",
    )
