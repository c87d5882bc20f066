"""What a certificate of a text task does not show, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overproof.config.text_recipe import TextRecipe
from overproof.evaluate.wording import listed, percent
from overproof.records.certificate import Interval
from overproof.records.chat_dataset import TextManifest
from overproof.records.text_certificate import Contestant, TextComparison

__all__ = ["Found", "text_limits"]

FEW = 100


@dataclass(frozen=True)
class Found:
    """What limits are read off: the recipe, the dataset, what was measured.

    ``unread`` says how many answers could not be read for a perplexity, by whom of whom; ``left``
    are students that are not inferior by themselves and are not certified, for they are several.
    """

    recipe: TextRecipe
    manifest: TextManifest
    contestants: Sequence[Contestant]
    comparisons: Sequence[TextComparison]
    n_test: int
    n_answered: int
    looks: int
    left: Sequence[str]
    unread: Mapping[str, int]
    notes: Sequence[str] = ()


def text_limits(found: Found) -> tuple[str, ...]:
    """All limits that apply, the weightiest first."""
    kinds = (_run, _yardstick, _size, _several, _quality, _reading, _machine)
    return tuple([sentence for kind in kinds for sentence in kind(found)] + list(found.notes))


def _run(found: Found) -> list[str]:
    recipe, teacher = found.recipe, found.manifest.teacher
    said = []
    if recipe.run.demo:
        said.append("This is a demo: small data and small models, to show the road.")
    if recipe.teacher.kind == "fake":
        said.append("The teacher is the fake one: its answers mean nothing, nor does this.")
    terms = recipe.teacher.terms.training
    if terms == "unknown" and teacher.get("terms", "unknown") == "unknown":
        said.append("It is unknown whether the teacher's terms allow training on its answers.")
    if terms == "attested":
        said.append("The right to train on the teacher's answers is attested by the user.")
    against = {"no": "forbid it", "conditions": "allow it on a condition"}
    if teacher.get("terms_say") in against:
        said.append(
            f"The teacher's terms as they are known ({teacher.get('terms_version')}) "
            f"{against[str(teacher['terms_say'])]}: {teacher.get('clause')}."
        )
    return said


def _yardstick(found: Found) -> list[str]:
    recipe, said = found.recipe, []
    teacher = next((c for c in found.contestants if c.role == "teacher"), None)
    if recipe.certificate.scorer == "teacher":
        said.append(
            "There is no known right answer: what the teacher said counts as right, mistakes "
            "included, and the teacher itself scores 1. Whether it would say the same again is not "
            "measured, so a difference to it is partly its own scatter."
        )
    elif teacher is not None and teacher.score.high < 0.8:
        said.append(
            f"The teacher is weak ({percent(teacher.score.estimate)}): not being worse than it is "
            "not the same as being good."
        )
    warm = recipe.task.temperature
    if warm is None or warm > 0:
        how = "at its default" if warm is None else f"at {warm:g}"
        said.append(
            f"The teacher answered with its temperature {how}, students and bases at 0: part of "
            "the difference is that."
        )
    if found.n_answered < found.n_test:
        said.append(
            f"The teacher gave no valid answer to {found.n_test - found.n_answered:,} of "
            f"{found.n_test:,} test prompts: "
            + (
                "they are left out, for there is nothing to compare with."
                if recipe.certificate.scorer == "teacher"
                else "they score zero for it, and agreement leaves them out."
            )
        )
    if recipe.task.answer == "json":
        said.append(
            "A teacher may have been handed the JSON Schema beside the prompt; students and bases "
            "saw the prompt alone, as they were trained."
        )
    said.append(
        "The test prompts come from the same source as the training prompts; on prompts of another "
        "kind student and teacher may differ more."
    )
    return said


def _size(found: Found) -> list[str]:
    n = found.n_answered if found.recipe.certificate.scorer == "teacher" else found.n_test
    said = ["Intervals assume that the test prompts are independent draws."]
    if n < FEW:
        said.append(
            f"{n:,} test prompts are few: p-values and intervals are those of score tests, which "
            "are approximate, and differences of several points cannot be told from none."
        )
    if found.looks > 1:
        alpha = found.recipe.certificate.alpha
        said.append(
            f"The test set was looked at {found.looks} times with different students: the chance "
            f"of at least one false certificate is up to {percent(min(1.0, found.looks * alpha))}."
        )
    return said


def _several(found: Found) -> list[str]:
    students = [c.name for c in found.contestants if c.role == "student"]
    if len(students) < 2:
        return []
    said = (
        f"{len(students)} students were tested against the teacher; which are certified is "
        "corrected for that (Holm), so that the chance of one false certificate or more is at most "
        "the level. Intervals and the other comparisons are each at a level of their own."
    )
    if found.left:
        be = "is" if len(found.left) == 1 else "are"
        said += (
            f" {listed(list(found.left))} {be} non-inferior alone and not certified among so many."
        )
    return [said]


def _quality(found: Found) -> list[str]:
    said = []
    for one in found.contestants:
        if one.role == "student" and one.degeneration.any.estimate > 0:
            parts = {
                "loops": one.degeneration.loops,
                "never stop": one.degeneration.unstopped,
                "are empty": one.degeneration.empty,
            }
            told = [f"{percent(share.estimate)} {what}" for what, share in parts.items()
                    if share.estimate > 0]  # fmt: skip
            said.append(
                f"Of the answers of {one.name}, {percent(one.degeneration.any.estimate)} are "
                f"broken ({listed(told)}); one that never stops scores zero."
            )
    for comparison in found.comparisons:
        student = comparison.first
        if comparison.margin is None and comparison.verdict == "worse":
            said.append(f"{student} is worse than {comparison.second}.")
    return said


def _reading(found: Found) -> list[str]:
    said = []
    read: list[Interval] = [
        value
        for one in found.contestants
        for value in (one.teacher_perplexity, one.perplexity_of_teacher)
        if value is not None
    ]
    if read:
        said.append(
            "Perplexities are per token of whoever reads; of readers with different tokenizers "
            "they cannot be compared, and loops have a low one."
        )
    elif found.recipe.certificate.perplexity:
        said.append(
            "Perplexities of one another's text are not measured: the teacher's weights are not "
            "here."
            if found.recipe.teacher.kind != "local"
            else "Perplexities of one another's text could not be measured."
        )
    said += [
        f"{count:,} answers could not be read for a perplexity: {what}."
        for what, count in found.unread.items()
        if count
    ]
    return said


def _machine(found: Found) -> list[str]:
    said = [
        "Throughput and latency are of the machine that certified; the teacher's are from "
        "collecting, the way to it included."
    ]
    if found.recipe.teacher.kind in ("embedded", "local"):
        said.append("The teacher ran on this machine, or on the one that collected.")
    return said
