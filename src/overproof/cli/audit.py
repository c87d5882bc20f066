"""``overproof audit``: was this model trained on that one, and how much?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overproof.cli.audit_check import check_command, signing_key_command
from overproof.cli.audit_ends import (
    assign_command,
    commit_command,
    draw_command,
    key_command,
    plan_command,
    power_command,
    verdict_command,
    verify_command,
)

if TYPE_CHECKING:
    from overproof.records.audit import TestFinding

__all__ = ["app"]

app = typer.Typer(help="Was this model trained on that one, and how much?", no_args_is_help=True)

SECONDS_BETWEEN_LINES = 5.0
SOURCE = "Weights (a directory, a hub's name), or MODEL@http://HOST/v1."

PlanOption = Annotated[
    Path | None, typer.Option("--plan", help="The directory of the sealed plan; keeps the finding.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Of the test, where the plan has several of the kind.")
]
AlphaOption = Annotated[
    float | None, typer.Option(help="The level without a plan; with one, it must be the plan's.")
]
KeyEnvOption = Annotated[
    str | None, typer.Option(help="The variable with the key of the suspect's server.")
]
RawOption = Annotated[bool, typer.Option("--raw", help="Prompts as plain text, no chat template.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

app.command("plan")(plan_command)


@app.command("ghosts")
def ghosts_command(
    log: Annotated[
        Path,
        typer.Argument(help="Served answers, ghosts: JSONL, a ledger, a commitment."),
    ],
    *,
    suspect: Annotated[str | None, typer.Option(help=SOURCE)] = None,
    reference: Annotated[
        str | None, typer.Option(help="A model that never saw the log; likewise.")
    ] = None,
    key_env: KeyEnvOption = None,
    raw: RawOption = False,
    commitment: Annotated[
        Path | None, typer.Option(help="What `audit commit` wrote, to hold the log against.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="Of the log, as it was published.")] = None,
    index_root: Annotated[
        str | None, typer.Option(help="Of the served indices, as it was published.")
    ] = None,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    use_was_blind: Annotated[
        bool,
        typer.Option(
            "--use-was-blind", help="You attest: use did not depend on which answer was served."
        ),
    ] = False,
    look: Annotated[
        int | None,
        typer.Option(help="Of a test planned in stages.  [default: the next one]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Did the suspect see which of several answers was served? Exact."""
    from overproof.api import audit

    with _progress("scored") as progress:
        finding = audit.audit_ghosts(
            log, suspect=suspect, reference=reference, key_env=key_env, raw=raw,
            commitment=commitment, root=root, index_root=index_root, plan=plan, name=name,
            alpha=alpha, use_was_blind=use_was_blind, look=look, progress=progress,
        )  # fmt: skip
    _show(finding, as_json)


@app.command("watermark")
def watermark_command(
    texts: Annotated[Path, typer.Argument(help="The suspect's texts: JSONL of text or tokens.")],
    *,
    scheme: Annotated[
        str | None, typer.Option(help="kgw, kgw-selfhash, unigram, gumbel or synthid.")
    ] = None,
    key_env: Annotated[str | None, typer.Option(help="The variable with the secret key.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Or a file with it; JSON {cohort: key} for several.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="The directory of the teacher's tokenizer.")
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(help="Size that the scheme draws over, if not the tokenizer's.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="Of the scheme, such as share=0.25; again for more.")
    ] = None,
    keys: Annotated[int | None, typer.Option(min=19, help="Alternate keys to try.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="The suspect's weights: sum its probability of green tokens.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="The teacher's weights, or others that never saw the mark: far stronger."
        ),
    ] = None,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Does the suspect's text lean towards a watermark? Rank among alternate keys."""
    from overproof.api import audit
    from overproof.cli.audit_ends import settings_of

    with _progress("keys") as progress:
        finding = audit.audit_watermark(
            texts, scheme=scheme, key_env=key_env, key_file=key_file, tokenizer=tokenizer,
            vocabulary=vocabulary, settings=settings_of(setting), keys=keys, weights=weights,
            reference=reference, plan=plan, name=name, alpha=alpha, progress=progress,
        )  # fmt: skip
    _show(finding, as_json)


@app.command("phrasings")
def phrasings_command(
    texts: Annotated[Path, typer.Argument(help="What the suspect said (JSON Lines).")],
    *,
    assignment: Annotated[Path, typer.Option(help="What `audit assign` wrote.")],
    published: Annotated[
        str | None, typer.Option(help="The assignment's hash as published, if not in the plan.")
    ] = None,
    accounts: Annotated[
        Path | None, typer.Option(help="Whose phrasings are looked for, one account a line.")
    ] = None,
    served: Annotated[
        Path | None, typer.Option(help="Which slots really went out (JSON Lines).")
    ] = None,
    keys: Annotated[int | None, typer.Option(min=999, help="Alternate keys to try.")] = None,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Does a black-box suspect use the phrasings a secret key chose? Rank among alternate keys."""
    from overproof.api import audit
    from overproof.cli.audit_ends import lines_of

    with _progress("keys") as progress:
        finding = audit.audit_phrasings(
            texts, assignment=assignment, published=published,
            accounts=() if accounts is None else lines_of(accounts), served=served, keys=keys,
            plan=plan, name=name, alpha=alpha, progress=progress,
        )  # fmt: skip
    _show(finding, as_json)


@app.command("references")
def references_command(
    answers: Annotated[Path, typer.Argument(help="What all models answered (JSON Lines).")],
    *,
    models: Annotated[
        Path | None, typer.Option(help="What is known of them: date, size, base (JSON Lines).")
    ] = None,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is the suspect nearer to this teacher than innocent models are? A rank, never a proof."""
    from overproof.api import audit

    _show(
        audit.audit_references(answers, models=models, plan=plan, name=name, alpha=alpha), as_json
    )


@app.command("weights")
def weights_command(
    suspect: Annotated[Path, typer.Argument(help="Safetensors: a file, or a directory.")],
    other: Annotated[Path, typer.Argument(help="The model that it may descend from.")],
    *,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the suspect's weights start from another model's? Exact."""
    from overproof.api import audit

    _show(audit.audit_weights(suspect, other, plan=plan, name=name, alpha=alpha), as_json)


@app.command("base-shift")
def base_shift_command(
    answers: Annotated[
        Path, typer.Argument(help="Each prompt's answers, of teacher and decoys (JSON Lines).")
    ],
    *,
    suspect: Annotated[str | None, typer.Option(help=SOURCE)] = None,
    base: Annotated[str | None, typer.Option(help="The public model it was tuned from.")] = None,
    innocents: Annotated[
        Path | None, typer.Option(help="Fine-tunes of the same base, one model a line.")
    ] = None,
    key_env: KeyEnvOption = None,
    raw: RawOption = False,
    plan: PlanOption = None,
    name: NameOption = None,
    alpha: AlphaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Did fine-tuning move the suspect from its base towards the teacher? A rank."""
    from overproof.api import audit
    from overproof.cli.audit_ends import lines_of

    with _progress("scored") as progress:
        finding = audit.audit_base_shift(
            answers, suspect=suspect, base=base, key_env=key_env, raw=raw, plan=plan, name=name,
            innocents=() if innocents is None else lines_of(innocents), alpha=alpha,
            progress=progress,
        )  # fmt: skip
    _show(finding, as_json)


app.command("power")(power_command)
app.command("draw")(draw_command)
app.command("assign")(assign_command)
app.command("commit")(commit_command)
app.command("verify")(verify_command)
app.command("key")(key_command)
app.command("verdict")(verdict_command)
app.command("check")(check_command)
app.command("signing-key")(signing_key_command)


def _show(finding: TestFinding, as_json: bool) -> None:
    """Print a finding; end with 1 where it was refused."""
    from overproof.records.audit import Standing

    if as_json:
        from overproof.audit.finding_files import plain

        typer.echo(json.dumps(plain(finding.to_json()), indent=2, ensure_ascii=True))
    else:
        from overproof.cli.audit_tables import print_finding

        print_finding(finding)
    if finding.standing is Standing.REFUSED:
        raise typer.Exit(1)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A line that changes on a terminal, one every few seconds elsewhere; on stderr."""
    import time

    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    last = time.monotonic()
    if console.is_terminal:
        with console.status("reading") as status:
            yield lambda done, of: status.update(f"{what}: {done:,} of {of:,}")
        return

    def now_and_then(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{what}: {done:,} of {of:,}", soft_wrap=True)

    yield now_and_then
