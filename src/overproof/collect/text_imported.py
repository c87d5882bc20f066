"""A text dataset of answers that were imported: logs become chats, and nobody is asked."""

from __future__ import annotations

from collections.abc import Iterable

from overproof.collect.text_ask import Split
from overproof.collect.text_prompts import Prompts
from overproof.errors import DataError
from overproof.records.exchange import Exchange
from overproof.records.text_dataset import Origin, Prompt, TextExample, prompt_item

__all__ = ["imported_examples", "imported_prompts"]


def imported_prompts(exchanges: Iterable[Exchange], source: str) -> Prompts:
    """The distinct prompts of imported exchanges.

    Raises:
        DataError: there is none.
    """
    found = Prompts(source=source, prompts=[])
    seen: set[str] = set()
    for exchange in exchanges:
        if not exchange.source.startswith("imported:"):
            continue
        messages = exchange.request.messages
        item = prompt_item(messages)
        if item in seen:
            continue  # another answer to the same prompt: a sample of it
        seen.add(item)
        origin = Origin(
            kind="ledger",
            source=exchange.source.removeprefix("imported:"),
            request_keys=(exchange.request.key,),
        )
        found.prompts.append(Prompt(item=item, messages=messages, origin=origin))
    if not found.prompts:
        raise DataError(
            source, "holds no imported exchanges", "bring some in with `overproof import LOGS`"
        )
    return found


def imported_examples(
    exchanges: Iterable[Exchange], work: Iterable[tuple[Prompt, Split]]
) -> list[TextExample]:
    """What was answered to each prompt, as the log has it; several answers are its samples."""
    wanted = {prompt.item: (prompt, split) for prompt, split in work}
    samples: dict[str, int] = {}
    examples = []
    for exchange in exchanges:
        if not exchange.source.startswith("imported:"):
            continue
        item = prompt_item(exchange.request.messages)
        if item not in wanted:
            continue
        prompt, split = wanted[item]
        completion = exchange.completion
        sample = samples.setdefault(item, 0)
        samples[item] += 1
        examples.append(
            TextExample(
                item=item,
                sample=sample,
                split=split,
                messages=exchange.request.messages,
                outcome=completion.outcome,
                answer=completion.text,
                reasoning=completion.reasoning,
                tool_calls=completion.tool_calls,
                error=completion.error or "",
                origin=prompt.origin,
                request_keys=(exchange.request.key,),
                output_tokens=completion.usage.output_tokens if completion.usage else None,
                teacher=exchange.teacher,
                licence=exchange.licence,
                terms=exchange.terms,
            )
        )
    return examples
