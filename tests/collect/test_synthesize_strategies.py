from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest
from synthesizing import (
    TinyLedger,
    as_json,
    invented,
    numbered,
    seed_prompts,
    tools,
    wanted_number,
)

from overproof.collect.synthesize.build import build, synthesize
from overproof.collect.synthesize.diversity import rouge_l
from overproof.config.synthesize import Evolve, Expand, Paraphrase
from overproof.errors import BudgetError, ConfigError
from overproof.records.exchange import Completion, Outcome, Request
from overproof.records.text_dataset import prompt_item
from overproof.stats.shingles import jaccard_pairs

SEEDS = seed_prompts(
    "How do I keep basil alive indoors?",
    "Write a polite note to a neighbour about noise.",
    "What makes sourdough rise?",
    "Plan a weekend in Lisbon for 2 people.",
)


def paraphrase(**changes: object) -> Paraphrase:
    return Paraphrase.model_validate({"kind": "paraphrase", "count": 12, **changes})


def expand(**changes: object) -> Expand:
    return Expand.model_validate({"kind": "expand", "count": 30, **changes})


def numbers_kept(request: Request) -> str:
    """Inventions that carry the seed's numbers, as a paraphrase must."""
    seed = request.messages[-1].content.split("<prompt>")[1]
    figures = " ".join(re.findall(r"\d+", seed))
    return "\n".join(f"- {text} {figures}" for text in invented(request))


@pytest.mark.parametrize("config", [paraphrase(), expand(), Evolve(kind="evolve", count=12)])
async def test_every_prompt_says_where_it_came_from(
    config: Paraphrase | Expand | Evolve, tmp_path: Path
) -> None:
    ledger = TinyLedger(numbers_kept)
    strategy = build(config, tools(ledger, tmp_path, system="Be brief."))
    made = await strategy.prompts(SEEDS)
    assert len(made) == config.count
    assert len({prompt.item for prompt in made}) == config.count
    known = {seed.item for seed in SEEDS} | {prompt.item for prompt in made}
    for prompt in made:
        assert prompt.item == prompt_item(prompt.messages)
        assert [message.role for message in prompt.messages] == ["system", "user"]
        assert prompt.origin.kind == config.kind == strategy.name
        assert prompt.origin.synthetic
        assert prompt.origin.teacher == "fake@fake"
        assert set(prompt.origin.parents) <= known
        assert prompt.origin.parents
        (key,) = prompt.origin.request_keys
        assert prompt.text in ledger.known[key].text
    assert strategy.report().made == config.count
    assert strategy.report().answers == {"answered": len(ledger.sent)}


@pytest.mark.parametrize("config", [paraphrase(), expand(count=200)])
async def test_a_resumed_run_asks_nothing_twice_at_any_speed(
    config: Paraphrase | Expand, tmp_path: Path
) -> None:
    ledger = TinyLedger(numbers_kept)
    first = await build(config, tools(ledger, tmp_path, width=1)).prompts(SEEDS)
    sent = len(ledger.sent)

    async def slowly(request: Request, check: object = None) -> Completion:
        await asyncio.sleep(random.random() / 500)
        return await ledger(request, check)  # type: ignore[arg-type]

    again = await build(config, tools(slowly, tmp_path, width=64)).prompts(SEEDS)
    assert again == first
    assert len(ledger.sent) == sent
    other = await build(config, tools(ledger, tmp_path, seed=8)).prompts(SEEDS)
    assert other != first


async def test_a_run_cut_short_by_the_budget_goes_on_where_it_was(tmp_path: Path) -> None:
    ledger = TinyLedger(numbered)
    landed: list[asyncio.Task[None] | None] = []

    async def capped(request: Request, check: object = None) -> Completion:
        if len(ledger.sent) >= 3:
            raise BudgetError("budget.max_calls", "3 calls were made")
        landed.append(asyncio.current_task())  # type: ignore[arg-type]
        return await ledger(request, check)  # type: ignore[arg-type]

    with pytest.raises(BudgetError):
        await build(expand(), tools(capped, tmp_path)).prompts(SEEDS)
    assert len(ledger.sent) == 3
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    whole = await build(expand(), tools(TinyLedger(numbered), tmp_path)).prompts(SEEDS)
    assert await build(expand(), tools(ledger, tmp_path)).prompts(SEEDS) == whole
    assert len({request.key for request in ledger.sent}) == len(ledger.sent)


async def test_no_more_is_asked_than_is_needed(tmp_path: Path) -> None:
    ledger = TinyLedger(numbered)
    strategy = build(expand(count=20), tools(ledger, tmp_path, width=64))
    assert len(await strategy.prompts(SEEDS)) == 20
    assert len(ledger.sent) == 3
    assert strategy.report().reasons == {"more than wanted": 4}


async def test_new_prompts_become_examples(tmp_path: Path) -> None:
    ledger = TinyLedger(numbered)
    made = await build(expand(count=300), tools(ledger, tmp_path)).prompts(SEEDS)
    items = {prompt.item for prompt in made}
    late = [prompt for prompt in made if set(prompt.origin.parents) & items]
    assert late
    for prompt in late:
        assert len(set(prompt.origin.parents) & items) == 2
        assert len(set(prompt.origin.parents)) == 6  # four seeds are all there are
    request = ledger.asked[-1]
    assert "Below are 6 prompts" in request.messages[0].content


async def test_near_repeats_are_dropped_and_asking_ends(tmp_path: Path) -> None:
    """A teacher that knows twelve prompts, and says them again with slight changes."""
    pool = invented(Request(model="m", messages=_form(12)))

    def answer(request: Request) -> str:
        rng = random.Random(request.key)
        return "\n".join(
            f"{i}. {text.replace('Why', rng.choice(['Why', 'So why', 'WHY']))}"
            for i, text in enumerate(rng.sample(pool, 8), start=1)
        )

    strategy = build(expand(count=50), tools(TinyLedger(answer), tmp_path))
    made = await strategy.prompts(SEEDS)
    assert len(made) == 12
    assert not jaccard_pairs([p.text for p in [*SEEDS, *made]], threshold=0.8)
    assert not [1 for a in made for b in made if a is not b and rouge_l(a.text, b.text) >= 0.7]
    report = strategy.report()
    assert report.seen == 12 + report.dropped == 12 + len(strategy.dropped)
    assert report.notes == ("stopped at 12 of 50: the last 20 answers brought 1 new prompt",)
    assert set(report.reasons) <= {
        "repeats a new prompt",
        "too like a new prompt (shingles)",
        "too like a new prompt (ROUGE-L)",
    }
    assert sum(report.reasons.values()) == report.dropped
    for each in strategy.dropped:
        assert each.like in pool or each.like in [p.text for p in made]
        assert each.similarity is not None
        assert each.request_keys
    assert (
        report.lines()[0] == f"expand: 12 of 50 prompts from {report.answers['answered']} answers"
    )


def _form(n: int) -> tuple[object, ...]:
    return seed_prompts(f"numbered list of {n}")[0].messages


async def test_what_is_held_out_or_a_seed_is_not_made_again(tmp_path: Path) -> None:
    held_out = "Why does copper turn green in the harbour every winter?"

    def answer(request: Request) -> str:
        extra = [SEEDS[0].text.upper(), held_out.replace("every", "each")]
        return "\n".join(f"{i}) {t}" for i, t in enumerate([*extra, *invented(request)], start=1))

    strategy = build(
        expand(count=12, per_request=8), tools(TinyLedger(answer), tmp_path, held_out=[held_out])
    )
    made = await strategy.prompts(SEEDS)
    assert len(made) == 12
    reasons = strategy.report().reasons
    assert reasons["repeats a seed"] == reasons["too like a held-out prompt (ROUGE-L)"] == 2


async def test_malformed_answers_are_asked_again_and_counted(tmp_path: Path) -> None:
    calls = 0

    def answer(request: Request) -> str:
        nonlocal calls
        calls += 1
        return '{"prompts": ["Why' if calls % 2 else as_json(request)

    ledger = TinyLedger(answer)
    strategy = build(expand(count=24), tools(ledger, tmp_path, structured=True))
    assert len(await strategy.prompts(SEEDS)) == 24
    assert ledger.problems == ["the answer is broken JSON"] * 3
    schema = ledger.sent[0].parameters.response_schema
    assert schema is not None
    assert schema["required"] == ["prompts"]
    hopeless = build(expand(count=24), tools(TinyLedger(lambda _: "{}"), tmp_path))
    assert await hopeless.prompts(SEEDS) == []
    assert hopeless.report().answers == {"malformed": 20}
    assert "20 malformed" in hopeless.report().lines()[0]


async def test_failures_and_refusals_never_become_prompts(tmp_path: Path) -> None:
    ends = [
        Completion(outcome=Outcome.FAILED, error="status 400", text="1. Never a prompt at all"),
        Completion(outcome=Outcome.REFUSED, text="1. Never a prompt either"),
        Completion(outcome=Outcome.ANSWERED, text="I'm sorry, I can't help with that."),
        Completion(outcome=Outcome.TRUNCATED, text="1. Why is the sky blue?\n2. Why is the gra"),
    ]
    ledger = TinyLedger(lambda request: ends[request.sample % 4])
    strategy = build(expand(count=5, patience=8), tools(ledger, tmp_path))
    made = await strategy.prompts(SEEDS)
    assert [prompt.text for prompt in made] == ["Why is the sky blue?"]
    report = strategy.report()
    assert report.answers["failed"] == report.answers["refused"]
    assert report.reasons["is a refusal"] == report.answers["answered"]
    assert "stopped at 1 of 5" in report.notes[0]


async def test_paraphrases_keep_numbers_references_and_spread_over_the_seeds(
    tmp_path: Path,
) -> None:
    seeds = seed_prompts(*(f"Tell me of case {i} and of its cost" for i in range(40)),
                         reference="the answer", facts={"row": 1})  # fmt: skip

    def answer(request: Request) -> str:
        assert wanted_number(request) == 1  # 40 seeds for 30 prompts: one of each
        number = re.findall(r"case (\d+)", request.messages[0].content)[0]
        rng = random.Random(request.key)
        shown = number if rng.random() < 0.7 else "99"
        return f"1. {invented(request)[0]} {shown}"

    strategy = build(paraphrase(count=30), tools(TinyLedger(answer), tmp_path))
    made = await strategy.prompts(seeds)
    assert len(made) == 30
    assert {prompt.reference for prompt in made} == {"the answer"}
    assert all(prompt.facts == {"row": 1} for prompt in made)
    number = {seed.item: seed.text.split()[4] for seed in seeds}
    assert all(p.text.endswith(f" {number[p.origin.parents[0]]}") for p in made)
    assert len({p.origin.parents for p in made}) > 25
    assert list(strategy.report().reasons) == ["loses a number or address of its seed"]
    bare = build(paraphrase(count=3, keep_reference=False), tools(TinyLedger(answer), tmp_path))
    assert {prompt.reference for prompt in await bare.prompts(seeds)} == {None}


async def test_strategies_run_in_order_and_may_build_on_one_another(tmp_path: Path) -> None:
    configs = [
        expand(count=10),
        Evolve.model_validate({"kind": "evolve", "count": 6, "from": "all"}),
        paraphrase(count=4),
    ]
    result = await synthesize(configs, tools(TinyLedger(numbers_kept), tmp_path), SEEDS)
    kinds = [prompt.origin.kind for prompt in result.prompts]
    assert kinds == ["expand"] * 10 + ["evolve"] * 6 + ["paraphrase"] * 4
    seeds = {seed.item for seed in SEEDS}
    expanded = {p.item for p in result.prompts[:10]}
    evolved_from = {parent for p in result.prompts[10:16] for parent in p.origin.parents}
    assert evolved_from & expanded
    assert {parent for p in result.prompts[16:] for parent in p.origin.parents} <= seeds
    assert [report.name for report in result.reports] == ["expand", "evolve", "paraphrase"]
    same = [expand(count=10), expand(count=10)]
    twice = await synthesize(same, tools(TinyLedger(numbered), tmp_path), SEEDS)
    assert len({prompt.item for prompt in twice.prompts}) == 20
    assert any(reason == "repeats an earlier prompt" for reason in twice.reports[1].reasons)


async def test_no_seeds_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    several = SEEDS[0].model_copy(update={"turns": ("And outdoors?",)})
    for seeds in ([], [several]):
        with pytest.raises(ConfigError, match="no seeds to start from"):
            await synthesize([paraphrase()], tools(TinyLedger(numbered), tmp_path), seeds)
    strategy = build(paraphrase(count=1), tools(TinyLedger(numbers_kept), tmp_path))
    await strategy.prompts([several, *SEEDS])
    assert strategy.notes == ["seeds of several turns left out: 1"]
