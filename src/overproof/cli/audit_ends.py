"""Commands around the tests of an audit: plan, power, commitments, keys, the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "assign_command",
    "commit_command",
    "draw_command",
    "key_command",
    "lines_of",
    "plan_command",
    "power_command",
    "settings_of",
    "verdict_command",
    "verify_command",
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SettingOption = Annotated[
    list[str] | None, typer.Option(help="Of the scheme, such as depths=30; again for more.")
]


def plan_command(
    plan: Annotated[Path, typer.Argument(help="Which tests, at which level (TOML).")],
    *,
    out: Annotated[Path, typer.Option(help="The directory of the audit.")],
    as_json: JsonOption = False,
) -> None:
    """Seal a plan before any data is seen; publish the hash that it prints."""
    from overproof.api import audit

    sealed = audit.audit_seal(plan, out)
    if as_json:
        body = {"sha256": sealed.sha256, "sealed_at": sealed.sealed_at, "path": str(sealed.path),
                "plan": sealed.plan.model_dump(mode="json")}  # fmt: skip
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo(f"sealed on {sealed.sealed_at} → {sealed.path}")
    shared = "over all tests" if len(sealed.plan.tests) > 1 else "for its one test"
    typer.echo(f"level {sealed.plan.alpha:g} {shared}: {', '.join(sealed.plan.names())}")
    typer.echo(f"publish this hash before the data are seen:\n{sealed.sha256}")


def power_command(
    test: Annotated[
        str, typer.Argument(help="ghosts, watermark, phrasings, references or base-shift.")
    ],
    *,
    alpha: Annotated[float, typer.Option(help="The level of the one test.")] = 0.01,
    power: Annotated[float, typer.Option(help="The wished probability of a find.")] = 0.9,
    share: Annotated[
        float,
        typer.Option(help="Ghosts: of the prompts that was used. Phrasings: of the slots."),
    ] = 0.2,
    auc: Annotated[
        float, typer.Option(help="Ghosts: chance that a used answer outranks a ghost.")
    ] = 0.75,
    ghosts: Annotated[int, typer.Option(help="Ghosts: unserved answers a prompt.")] = 3,
    looks: Annotated[
        int, typer.Option(help="Ghosts: planned stages, evenly spaced; 1 for a test at the end.")
    ] = 1,
    spending: Annotated[
        str, typer.Option(help="Ghosts: of the level over the looks; obrien-fleming or pocock.")
    ] = "obrien-fleming",
    tokens: Annotated[float, typer.Option(help="Ghosts: of an answer.")] = 300.0,
    usd_drawn: Annotated[
        float | None, typer.Option(help="Dollars a million tokens that the teacher draws.")
    ] = None,
    usd_scored: Annotated[
        float | None, typer.Option(help="Dollars a million tokens that the suspect scores.")
    ] = None,
    shift: Annotated[
        float | None,
        typer.Option(help="Watermark: green rate above chance. References: standard deviations."),
    ] = None,
    green: Annotated[float, typer.Option(help="Watermark: share of green tokens.")] = 0.25,
    phrasings: Annotated[int, typer.Option(help="Phrasings: to choose among at a slot.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """How many ghosts, prompts, tokens or reference models a wished power needs, and the cost."""
    from overproof.api import audit

    found: dict[str, Any]
    if test == "phrasings":
        found = audit.audit_power_phrasings(
            share=share, phrasings=phrasings, alpha=alpha, power=power
        )
    else:
        found = audit.audit_power(
            test, alpha=alpha, power=power, share=share, auc=auc, ghosts=ghosts, tokens=tokens,
            usd_drawn=usd_drawn, usd_scored=usd_scored, shift=shift, green=green,
        )  # fmt: skip
    if test == "ghosts" and looks != 1:
        found = found | {
            "stages": audit.audit_power_in_stages(
                looks, spending=spending, share=share, auc=auc, ghosts=ghosts, alpha=alpha,
                power=power,
            )
        }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for line in _power_lines(found):
        typer.echo(line)


def _power_lines(found: dict[str, Any]) -> list[str]:
    level = f"at α = {found['alpha']:g} with probability {found['power']:.0%}"
    if found["test"] == "ghosts":
        lines = [
            f"to find use of {found['share']:.3g} of the log {level}, if a used answer outranks a "
            f"ghost with probability {found['auc']:g}:",
            f"  prompts        {found['prompts']:,} (by formula {found['prompts_by_formula']:,})",
            f"  ghosts         {found['ghosts']} a prompt",
            f"  ghost tokens   {found['ghost_tokens']:,}",
            f"  scored tokens  {found['scored_tokens']:,}",
        ]
        if found["usd"] is not None:
            lines.append(f"  cost           ${found['usd']:,.2f}")
        if found["cheapest_ghosts"] is not None:
            lines.append(f"  cheapest at    {found['cheapest_ghosts']} ghost(s) a prompt")
        return lines + (_stage_lines(found["stages"]) if "stages" in found else [])
    if found["test"] == "watermark":
        return [
            f"to find a green rate of {found['green'] + found['shift']:.4f} in place of "
            f"{found['green']:.4f} {level}:",
            f"  scored pairs   {found['scored_pairs']:,} unique (context, token) pairs",
            f"  alternates     {found['alternate_keys']:,} keys, {found['fewest_keys']:,} at least",
        ]
    if found["test"] == "phrasings":
        return [
            f"to find a suspect that follows the key at {found['share']:.3g} of the slots {level}:",
            f"  slots          {found['slots']:,} of {found['phrasings']} phrasings each",
            f"  alternates     {found['alternate_keys']:,} keys",
        ]
    needed, fewest = found["needed_of_each"], f"{found['fewest_of_each']:,} at least for the level"
    enough = (
        f"no number up to 100,000 of each kind is enough; {fewest}"
        if needed is None
        else f"{needed:,} of each kind, {fewest}"
    )
    return [
        f"to find a suspect {found['shift']:g} standard deviations from its references {level}:",
        f"  references     {enough}",
    ]


def _stage_lines(stages: dict[str, Any]) -> list[str]:
    lines = [
        f"in {stages['looks']} stages ({stages['spending']}), for the plan: prompts = "
        f"{stages['prompts']}, looks = {stages['looks']}",
        f"  prompts until it ends, on average: {stages['expected_prompts']:,.0f} if used so, "
        f"{stages['expected_prompts_if_unused']:,.0f} if not",
    ]
    for at, boundary, spent, now in zip(
        stages["at"], stages["boundaries"], stages["spent"], stages["by_look"], strict=True
    ):
        ends = "cannot end it" if boundary is None else f"ends it from a sum of {boundary:,} on"
        lines.append(f"  at {at:,}: {ends}; α spent {spent:.2g}; found here with {now:.1%}")
    return lines


def draw_command(
    *,
    slots: Annotated[int, typer.Option(help="How many requests the log may hold.")],
    answers: Annotated[int, typer.Option(help="Drawn for each: one served, the others ghosts.")],
    out: Annotated[Path, typer.Option(help="The directory of the commitment.")],
    as_json: JsonOption = False,
) -> None:
    """Draw which answers will be served, before any is generated; publish the root."""
    from overproof.api import audit

    manifest = audit.audit_draw(slots, answers, out)
    if as_json:
        typer.echo(json.dumps({"index_root": manifest.root, "slots": slots, "at": manifest.at}))
        return
    typer.echo(f"drew {slots:,} slots of {answers} answers → {out} (keep it secret)")
    typer.echo(f"publish this root before generating:\n{manifest.root}")


def assign_command(
    slots: Annotated[Path, typer.Argument(help="Slots with equivalent phrasings (JSON Lines).")],
    *,
    out: Annotated[Path, typer.Option(help="The directory of the assignment.")],
    accounts: Annotated[
        Path | None, typer.Option(help="To whom phrasings are assigned, one account a line.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a secret key that chooses each account's phrasings; publish the hash it prints."""
    from overproof.api import audit

    sealed = audit.audit_assign(slots, out, () if accounts is None else lines_of(accounts))
    if as_json:
        body = {"sha256": sealed.sha256, "slots": len(sealed.slots),
                "accounts": len(sealed.accounts), "at": sealed.at}  # fmt: skip
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo(
        f"sealed a key over {len(sealed.slots):,} slots for {len(sealed.accounts):,} accounts → "
        f"{out} (keep *.secret.* to yourself)"
    )
    typer.echo(f"publish this hash before serving, and put it into the plan:\n{sealed.sha256}")


def commit_command(
    log: Annotated[Path, typer.Argument(help="Served answers with ghosts and position (JSONL).")],
    *,
    out: Annotated[Path, typer.Option(help="The directory of the commitment.")],
    as_json: JsonOption = False,
) -> None:
    """Commit to a served log: salts, leaves and the root to publish."""
    from overproof.api import audit

    manifest = audit.audit_commit(log, out)
    if as_json:
        body = {"root": manifest.root, "requests": len(manifest.leaves), "at": manifest.at}
        typer.echo(json.dumps(body))
        return
    typer.echo(f"committed {len(manifest.leaves):,} requests → {out} (keep its secrets)")
    typer.echo(f"publish this root now:\n{manifest.root}")


def verify_command(
    directory: Annotated[Path, typer.Argument(help="The directory of the commitment.")],
    *,
    root: Annotated[str | None, typer.Option(help="Of the log, as it was published.")] = None,
    index_root: Annotated[
        str | None, typer.Option(help="Of the served indices, as it was published.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a committed log against its roots. Exit code 1 where it was altered."""
    from overproof.api import audit
    from overproof.audit.commitments import Integrity

    check, requests = audit.audit_verify(directory, root=root, index_root=index_root)
    intact = check.integrity is Integrity.INTACT
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(check) | {"requests": len(requests)}, indent=2))
    elif intact:
        against = "the published root" if root else "its own manifest alone (give --root)"
        indices = "checked" if check.indices_committed else "not committed before generation"
        typer.echo(f"intact: {len(requests):,} requests, against {against}")
        typer.echo(f"served indices: {indices}; {check.unused_slots:,} slot(s) unused")
    else:
        first = f" (first: {check.first_altered})" if check.first_altered else ""
        typer.echo(f"altered: {check.reason}{first}")
    if not intact:
        raise typer.Exit(1)


def key_command(
    *,
    scheme: Annotated[str, typer.Option(help="kgw, kgw-selfhash, unigram, gumbel or synthid.")],
    out: Annotated[Path, typer.Option(help="The file to write, readable by you alone.")],
    setting: SettingOption = None,
) -> None:
    """Draw a secret watermark key to serve with; prints its hash for the plan."""
    from overproof.api import audit

    sha256 = audit.audit_key(scheme, out, settings_of(setting))
    typer.echo(f'wrote {out}\nfor the plan: key_sha256 = "{sha256}"')


def verdict_command(
    directory: Annotated[Path, typer.Argument(help="With the sealed plan and its findings.")],
    *,
    plan_hash: Annotated[
        str | None, typer.Option(help="The plan's hash, as it was published before the data.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the pages go.  [default: DIRECTORY]")
    ] = None,
    log_tokens: Annotated[float | None, typer.Option(help="Tokens of the log's answers.")] = None,
    training_tokens: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Smallest and largest stated size of the suspect's training data."),
    ] = None,
    shadows: Annotated[
        Path | None,
        typer.Option(help="Shadow students, for the dose equivalent (JSON Lines)."),
    ] = None,
    signing_key: Annotated[
        Path | None, typer.Option(help="Ed25519 key that signs, from `audit signing-key`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join all findings into one verdict page. Exit code 1 for "cannot say"."""
    from overproof.api import audit
    from overproof.records.audit import AuditVerdict

    verdict = audit.audit_verdict(
        directory, given_away=plan_hash, out=out, log_tokens=log_tokens,
        training_tokens=training_tokens, shadows=shadows, signing_key=signing_key,
    )  # fmt: skip
    said = verdict.attestation
    if as_json:
        from overproof.audit.finding_files import plain

        typer.echo(json.dumps(plain(said.to_json()), indent=2, ensure_ascii=True))
    else:
        typer.echo(f"{said.verdict.value.upper()}\n{said.words}")
        for test in said.tests:
            p = "" if test.p is None else f", p = {test.p:.3g}"
            adjusted = "" if test.adjusted is None else f", adjusted {test.adjusted:.3g}"
            typer.echo(f"  {test.name}: {test.decision.value}{p}{adjusted}")
        for line in (*said.caveats, *said.would_change):
            typer.echo(f"  - {line}")
        typer.echo("wrote " + ", ".join(str(path) for path in verdict.files))
        by = verdict.signed_by
        typer.echo("not signed" if by is None else f"signed with {by.algorithm}, key {by.name}")
    if said.verdict is AuditVerdict.CANNOT_SAY:
        raise typer.Exit(1)


def settings_of(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``name=value`` settings: whole numbers, numbers, or words.

    Raises:
        ConfigError: without an equals sign, or a name given twice.
    """
    from overproof.errors import ConfigError

    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ConfigError(f"--setting {pair}", "is not NAME=VALUE, each once", "share=0.25")
        value: Any = text
        for kind in (int, float):
            try:
                value = kind(text)
                break
            except ValueError:
                continue
        found[name] = value
    return found


def lines_of(path: Path) -> tuple[str, ...]:
    """The lines of a file that are not blank, each once.

    Raises:
        DataError: it cannot be read, or names one twice.
    """
    from overproof.errors import DataError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "check the path") from error
    lines = [line.strip() for line in text.splitlines()]
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line and found.setdefault(line, number) != number:
            raise DataError(f"{path}:{number}", f"names {line} again", "name each model once")
    return tuple(found)
