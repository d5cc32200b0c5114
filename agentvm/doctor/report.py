"""The report: what was found of the installation, what came of the self-test, and the verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentvm.doctor.check import CheckResult, Rig, run_check
from agentvm.doctor.finding import Finding, Status, name_of

__all__ = ["Report", "self_test"]

_ADVICE = (
    "run no untrusted program here until it is: reinstall agentvm-runtime with the wasmtime that it asks for; if that "
    "does not help, report it with what `agentvm doctor --json` prints"
)


def self_test(names: Sequence[str], rig: Rig | None = None) -> Iterator[CheckResult]:
    """Run the checks of these limits and settings, one after the other. Raises nothing.

    It is for a process of its own: some checks lower a cap of the whole process for a moment.
    """
    try:
        from agentvm.doctor.checks import CHECKS
    except Exception as error:  # noqa: BLE001 - the engine does not even load
        for name in names:
            yield CheckResult(name, "", "", f"not tested: {name_of(error)}", False, 0.0)
        return
    for name in names:
        if name in CHECKS:
            yield run_check(CHECKS[name], rig or Rig())
        else:
            yield CheckResult(name, "", "", "not tested: there is no check of it", False, 0.0)


@dataclass(slots=True)
class Report:
    """All that the doctor has seen."""

    findings: list[Finding] = field(default_factory=list)
    results: list[CheckResult] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What is not as promised, by topic, limit and setting."""
        topics = [finding.topic for finding in self.findings if finding.status is Status.FAIL]
        return topics + [result.name for result in self.results if not result.is_kept]

    @property
    def is_well(self) -> bool:
        """Whether all is as promised."""
        return not self.failures

    def verdict(self) -> str:
        """Say it in one line, with what to do."""
        failures, tested = self.failures, len(self.results)
        if failures:
            count = len(self.findings) + tested
            return f"{len(failures)} of {count} are not as promised ({', '.join(failures)}): {_ADVICE}."
        limits = f"and {tested} limits and settings held" if tested else "and the limits were not tested"
        return f"All is as promised: {len(self.findings)} facts about the installation, {limits}."

    def fields(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "ok": self.is_well,
            "verdict": self.verdict(),
            "installation": [finding.fields() for finding in self.findings],
            "self_test": [result.fields() for result in self.results],
        }
