"""Around the tests of an audit: the sealed plan, and where a test stands in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_commits import (
    LOG,
    LOG_MANIFEST,
    audit_commit,
    audit_draw,
    audit_verify,
    require_folder,
)
from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.audit.preregistration import SealedPlan
    from overproof.config.audit import AuditPlan, PlannedTest
    from overproof.records.audit import TestFinding

__all__ = [
    "LOG",
    "LOG_MANIFEST",
    "PLAN",
    "Setting",
    "audit_commit",
    "audit_draw",
    "audit_seal",
    "audit_verify",
    "flagged",
    "model_name",
    "require_models",
    "setting_of",
    "weight_files",
]

PLAN = "plan.json"
DEFAULT_ALPHA = 0.01
NOT_PLANNED = (
    "run without a sealed plan: nobody can tell whether its level and settings were chosen before "
    "the data were seen"
)


@dataclass(frozen=True)
class Setting:
    """Where a test stands: its place in a sealed plan, or in none.

    Attributes:
        kind: of test, as on the command line.
        name: in the plan.
        alpha: the level.
        seed: of everything random.
        planned: what the plan says of it; None without a plan.
        sealed: the plan.
        directory: where findings go.
        used: all that the test is run with beside its data, see `note`.
    """

    kind: str
    name: str
    alpha: float
    seed: int
    planned: PlannedTest | None = None
    sealed: SealedPlan | None = None
    directory: Path | None = None
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The level that the test has for itself, at which its power is stated."""
        return self.alpha if self.sealed is None else self.sealed.plan.share

    def note(self, **used: Any) -> None:
        """Note what the outcome depends on beside the data, for `record`; secrets by their hash.

        The same data with anything noted otherwise is another run, and the p-value counts once
        more.
        """
        self.used.update(used)

    def require(self, used: Mapping[str, Any]) -> None:
        """Refuse settings other than planned.

        Raises:
            ConfigError: the setting is named.
        """
        if self.sealed is not None:
            from overproof.audit.preregistration import require_used

            require_used(self.sealed, self.name, used)

    def record(self, files: Sequence[Path]) -> None:
        """Note by digest what the test is run on and with, before it is run."""
        if self.sealed is not None:
            from overproof.audit.preregistration import record_data

            record_data(self.sealed, self.name, files, used=self.used)

    def keep(self, finding: TestFinding) -> TestFinding:
        """Write the finding beside its plan; without one, say that there is none."""
        from overproof.audit.finding_files import write_finding
        from overproof.records.audit import Standing

        if self.sealed is None or self.directory is None:
            flagged = finding.standing is Standing.DONE
            return replace(
                finding,
                standing=Standing.FLAGGED if flagged else finding.standing,
                reasons=(*finding.reasons, NOT_PLANNED),
            )
        write_finding(self.directory, self.name, self.sealed.sha256, finding)
        return finding


def audit_seal(plan: Path, out: Path) -> SealedPlan:
    """Check a plan and seal it in a directory; the same plan twice is sealed once.

    Raises:
        ConfigError: the plan cannot be used, or another one was sealed there before; what was
            changed is named.
    """
    from overproof.audit.preregistration import read_sealed_plan, require_unchanged, seal_plan
    from overproof.config.audit import load_audit_plan

    loaded = load_audit_plan(plan)
    _check_schemes(loaded, str(plan))
    require_folder(out)
    path = out / PLAN
    if path.exists():
        sealed = read_sealed_plan(path)
        require_unchanged(sealed, loaded, str(plan))
        return sealed
    return seal_plan(loaded, path)


def _check_schemes(plan: AuditPlan, name: str) -> None:
    """Refuse settings that a watermark does not have, before they are sealed."""
    from overproof.audit.watermarks.schemes import make_scheme
    from overproof.config.audit import WatermarkPlan

    for test, called in zip(plan.tests, plan.names(), strict=True):
        if isinstance(test, WatermarkPlan):
            try:
                make_scheme(test.scheme, 1 << 16, **test.settings)
            except ConfigError as error:
                reason = f"{error.culprit} {error.reason}"
                raise ConfigError(f"{name}: {called}.settings", reason, error.way_out) from error


def setting_of(
    kind: str, directory: Path | None, name: str | None = None, alpha: float | None = None
) -> Setting:
    """The place of a test in the sealed plan of a directory.

    Args:
        kind: of test.
        directory: of the plan; None for a test without one.
        name: of the test in the plan; needed where several are of the kind.
        alpha: the level, where there is no plan; with one it must be the plan's.

    Raises:
        ConfigError: no such test in the plan, more than one, or another level than planned.
        DataError: the plan was altered.
    """
    if alpha is not None and not 0 < alpha < 1:
        raise ConfigError("alpha", f"is {alpha:g}", "give a level between 0 and 1")
    if directory is None:
        if name is not None:
            raise ConfigError(f"the test {name!r}", "is looked for in no plan", "give --plan DIR")
        return Setting(kind, kind, DEFAULT_ALPHA if alpha is None else alpha, 0)
    from overproof.audit.preregistration import read_sealed_plan, require_used

    sealed = read_sealed_plan(directory / PLAN)
    plan = sealed.plan
    named = dict(zip(plan.names(), plan.tests, strict=True))
    fitting = [each for each, test in named.items() if test.kind == kind]
    if name is None:
        if len(fitting) != 1:
            reason = f"has {len(fitting)} tests of the kind {kind!r}"
            known = f"name one: {', '.join(fitting)}" if fitting else f"planned: {', '.join(named)}"
            raise ConfigError(str(directory / PLAN), reason, known)
        name = fitting[0]
    elif name not in fitting:
        is_other = f"is a {named[name].kind} test" if name in named else "is not in the sealed plan"
        raise ConfigError(f"the test {name!r}", is_other, f"planned: {', '.join(named)}")
    if alpha is not None:
        require_used(sealed, name, {"alpha": alpha})
    return Setting(kind, name, plan.alpha, plan.seed, named[name], sealed, directory)


def flagged(finding: TestFinding, reason: str) -> TestFinding:
    """The finding with a warning more; one that was refused stays so."""
    from overproof.records.audit import Standing

    standing = Standing.FLAGGED if finding.standing is Standing.DONE else finding.standing
    return replace(finding, standing=standing, reasons=(*finding.reasons, reason))


def weight_files(model: str | None) -> list[Path]:
    """The files of a model that is here, to be noted by digest; none of a server or hub name."""
    if model is None or "@http" in model:
        return []
    path = Path(model).expanduser()
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path] * path.is_file()


def model_name(model: str | None) -> str:
    """What `weight_files` leaves out: a server's model or a hub's name; empty where files tell.

    The server's address does not count: the same model behind another port is the same suspect.
    """
    return "" if model is None or weight_files(model) else model.partition("@http")[0]


def require_models(
    setting: Setting, what: str, planned: Sequence[str], found: Sequence[str]
) -> None:
    """Refuse other models than planned; in any order."""
    if planned and set(planned) != set(found):
        odd = sorted(set(planned) ^ set(found))[0]
        how = "was planned and is missing" if odd in planned else "was not planned"
        raise ConfigError(f"{setting.name}.{what}: {odd}", how, "test under the plan as sealed")
