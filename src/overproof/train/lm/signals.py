"""The sparse signal of a student: from the ledger's log-probs or from the teacher's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from overproof.config.lm_students import SampledKdConfig, SparseKdConfig
from overproof.config.load import LoadedTextRecipe
from overproof.errors import StudentError
from overproof.records.chat_dataset import read_chats
from overproof.records.exchange import Outcome
from overproof.records.hashing import content_hash
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

if TYPE_CHECKING:
    from overproof.clients.local_model import LocalModel
    from overproof.records.logprob_store import LogprobStore
    from overproof.train.lm.parts import LmStudent, TokenizedChat
    from overproof.train.lm.signal_report import SignalReport

__all__ = ["signal_for"]

LITTLE = 0.5  # of the answer tokens: a warning
HARDLY_ANY = 0.05  # of them: the rest of the loss is cross-entropy alone
MOST = 32  # alternatives a token that the teacher's weights are asked for where nobody says


def signal_for(  # noqa: PLR0917
    loaded: LoadedTextRecipe,
    config: SparseKdConfig | SampledKdConfig,
    student: LmStudent,
    chats: Sequence[TokenizedChat],
    teacher: Callable[[], LocalModel],
    say: Callable[[str], None],
) -> LogprobStore:
    """The store of what the teacher thought of every answer token, made once and reused.

    Answers that came with ``top_logprobs`` have them in the ledger; else the teacher's weights
    read prompt and answer again.

    Log-probs that tell of less than half of the answer tokens are worth a warning, which the
    student's notes keep.

    Raises:
        DataError: no answer has log-probs, and the weights are not here.
        StudentError: they tell of hardly any token, so that this would be SFT by another name.
    """
    paths = RunPaths(loaded.run_dir)
    asked = loaded.recipe.task.top_logprobs
    from_ledger = isinstance(config, SparseKdConfig) and bool(
        asked or loaded.recipe.teacher.kind != "local"
    )
    key = content_hash(
        {
            "dataset": loaded.dataset_sha256,
            "chats": content_hash([[chat.item, chat.sample, *chat.ids] for chat in chats]),
            "from": "ledger" if from_ledger else "weights",
            "k": config.top_k if isinstance(config, SparseKdConfig) else None,
            "draws": config.draws if isinstance(config, SampledKdConfig) else None,
            "seed": loaded.recipe.run.seed,
        }
    )
    out = paths.dir / "signals" / key.removeprefix("sha256:")[:16]
    from overproof.train.lm.ledger_signal import signal_from_ledger
    from overproof.train.lm.scoring import signal_from_weights

    if from_ledger:
        with Ledger.open(paths.ledger) as ledger:
            store, report = signal_from_ledger(
                ledger.lookup,
                chats,
                _answers(paths, chats),
                student.tokenizer,
                student.end,
                out,
                k=config.top_k or asked or MOST if isinstance(config, SparseKdConfig) else MOST,
            )
    else:
        store, report = signal_from_weights(
            teacher(),
            chats,
            student.tokenizer,
            out,
            k=(config.top_k or MOST) if isinstance(config, SparseKdConfig) else None,
            draws=config.draws if isinstance(config, SampledKdConfig) else None,
            seed=loaded.recipe.run.seed,
            rows=_answered(paths),
        )
    say(f"student {config.name}: {report}")
    if (note := _warning(config.name, report)) is not None:
        say(f"student {config.name}: warning: {note}")
        student.notes.append(note)
    return store


def _warning(name: str, report: SignalReport) -> str | None:
    """What to say of a signal that tells of few tokens.

    Raises:
        StudentError: it tells of next to none.
    """
    share = report.known_share
    if share >= LITTLE:
        return None
    told = f"the teacher's log-probs tell of {share:.1%} of the answer tokens alone"
    if share < HARDLY_ANY:
        raise StudentError(
            f"student {name}",
            f"{told}: this would be SFT under another name",
            "collect answers with task.top_logprobs set; where texts part, look at the chat "
            "template of the base; or take method = 'sft'",
        )
    return f"{told}; the others are learned from the text, as SFT does"


def _answered(paths: RunPaths) -> list[dict[str, Any]]:
    """The rows that ``TokenizedChat.row`` counts."""
    rows = read_chats(paths.dataset, "train")
    return [row for row in rows if row["outcome"] == Outcome.ANSWERED.value]


def _answers(paths: RunPaths, chats: Sequence[TokenizedChat]) -> list[str]:
    """The answers' text, chat by chat."""
    rows = _answered(paths)
    return [str(rows[chat.row]["messages"][-1]["content"]) for chat in chats]
