"""The ``overproof`` command: one file a command, imported when it is called.

Exit codes: 0 done and good; 1 done, and the answer is "no"; 2 bad input or config; 3 a teacher
failed for good; 130 interrupted, resumable.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from overproof import __version__
from overproof.errors import OverproofError

__all__ = ["app", "main"]

app = typer.Typer(
    name="overproof",
    help="Distil language models, and prove how much survived.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Commands that keep nothing of a run that was cut short, or say themselves how it is taken up.
BEGIN_ANEW = frozenset({"guard", "init", "plan", "serve", "export", "terms", "proving traffic"})

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe (TOML), or a directory with one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"overproof {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Distil language models, and prove how much survived."""


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write recipe.toml.")] = Path(),
    task: Annotated[
        str, typer.Option(help="label: a classifier with a certificate; text: a dataset of chats.")
    ] = "label",
) -> None:
    """Write a commented starter recipe."""
    from overproof import api

    path = api.init(directory, task)
    typer.echo(f"wrote {path}\nnext: edit it, then `overproof plan {path}`")


@app.command()
def plan(
    recipe: RecipeArgument,
    ask: Annotated[
        int,
        typer.Option(
            min=0,
            help="Ask the teacher so many inputs, to predict lengths, money and time. A paid "
            "teacher bills them; the answers are kept and count in the budget.",
        ),
    ] = 0,
    json: JsonOption = False,
) -> None:
    """The verdict before spending: calls, tokens, money, time, power."""
    from overproof.cli.plan import plan_command

    plan_command(recipe, json, ask)


@app.command()
def distill(recipe: RecipeArgument, json: JsonOption = False) -> None:
    """Collect, train and certify; finishes what is missing and repeats nothing."""
    _run(recipe, json, steps=("collect", "train", "certify"))


@app.command()
def collect(
    recipe: RecipeArgument,
    shard: Annotated[
        str | None, typer.Option(help="Ask one part alone, such as 2/8, into a ledger of its own.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Ask the teacher and freeze the dataset."""
    from overproof import api
    from overproof.cli.collect_shard import collect_shard_command
    from overproof.cli.collect_text import collect_text_command
    from overproof.cli.distill import distill_command
    from overproof.config.load import LoadedTextRecipe

    if shard is not None:
        collect_shard_command(recipe, shard, json)
        return
    loaded = api.load_any(recipe)
    if isinstance(loaded, LoadedTextRecipe):
        collect_text_command(loaded, json)
    else:
        distill_command(loaded, json, steps=("collect",))


@app.command()
def train(recipe: RecipeArgument, json: JsonOption = False) -> None:
    """Train the students on the frozen dataset."""
    _run(recipe, json, steps=("train",))


@app.command()
def certify(recipe: RecipeArgument, json: JsonOption = False) -> None:
    """Measure the students on the test pool and write the certificate."""
    _run(recipe, json, steps=("certify",))


def _run(recipe: Path, json: bool, steps: tuple[str, ...]) -> None:
    """Run steps of a recipe of either kind."""
    from overproof import api
    from overproof.cli.distill import distill_command
    from overproof.cli.distill_text import distill_text_command
    from overproof.config.load import LoadedTextRecipe

    loaded = api.load_any(recipe)
    try:
        if isinstance(loaded, LoadedTextRecipe):
            distill_text_command(loaded, json, steps)
        else:
            distill_command(loaded, json, steps)
    except KeyboardInterrupt as interrupted:  # typer forgets what it says
        if str(interrupted):
            typer.echo(f"\n{interrupted}", err=True)
        raise


def main() -> None:
    """Run the command line; turn errors into messages and exit codes."""
    from overproof.cli.commands import register

    register(app)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except OverproofError as error:
        _print_outcomes(error)
        typer.echo(f"error: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # the reader of our output has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # a full disk, a missing permission: nothing committed is lost
        culprit = error.filename or "writing"
        typer.echo(f"error: {culprit}: {error.strerror or error}", err=True)
        onwards = ": it goes on from here" if _goes_on() else ""
        typer.echo(f"  → mend it and run the same command again{onwards}", err=True)
        code = 2
    except Exception as error:
        if not hasattr(error, "show"):  # a wrong option or argument knows how to show itself
            raise
        error.show()
        code = 2
    if code == 130:  # typer makes this of Ctrl-C, too
        onwards = ": run the same command again to go on from here" if _goes_on() else ""
        typer.echo(f"\ninterrupted{onwards}", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _goes_on() -> bool:
    """Whether the command, run once more, takes up what it had done."""
    words = sys.argv[1:3]
    return not (BEGIN_ANEW & {" ".join(words), *words[:1]})


def _print_outcomes(error: OverproofError) -> None:
    """The table of what came, where so much failed that the run ends in an error."""
    if error.outcomes:
        from rich.console import Console

        from overproof.cli.collect_text import print_outcomes

        print_outcomes(error.outcomes, Console(stderr=True))


def _terminated(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
