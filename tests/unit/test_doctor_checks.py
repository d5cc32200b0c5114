"""Every limit and setting has a check; each holds here, and each fails where that one cap is not there."""

from collections.abc import Iterator

import pytest

from agentvm import host_usage, log
from agentvm.doctor.check import Check, Rig, Trial, run_check
from agentvm.doctor.checks import CHECKS
from agentvm.doctor.report import self_test
from agentvm.doctor.seen import Seen
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS
from tests.support.doctor_rigs import without


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    log.configure("error")
    yield
    log.configure()


def test_every_limit_and_setting_has_a_check() -> None:
    missing = [name for name in (*SPECS, *SETTINGS, *HOST_SPECS) if name not in CHECKS]
    assert not missing, f"the doctor does not test {', '.join(missing)}: add a @check to agentvm/doctor/checks_*.py"


def test_limit_without_a_check_is_a_broken_promise() -> None:
    (result,) = self_test(["max_of_something_new"])
    assert (result.is_kept, result.reported) == (False, "not tested: there is no check of it")


@pytest.mark.parametrize("name", CHECKS)
def test_check_holds(name: str) -> None:
    caps = {use.name: use.cap for use in host_usage()}
    result = run_check(CHECKS[name], Rig())
    assert result.is_kept, result
    assert {use.name: use.cap for use in host_usage()} == caps


@pytest.mark.parametrize("name", CHECKS)
def test_check_fails_without_its_cap(name: str) -> None:
    result = run_check(CHECKS[name], without(name))
    assert not result.is_kept, result
    assert "Error" not in result.reported, "it failed for another reason"


def _check(attempt: object) -> Check:
    return Check("max_open_fds", SPECS["max_open_fds"], "kernel", "ENFILE", attempt)  # type: ignore[arg-type]


def test_check_that_raises_is_a_broken_promise() -> None:
    def attempt(_: Trial) -> Seen:
        raise LookupError("two\nlines")

    result = run_check(_check(attempt), Rig())
    assert (result.is_kept, result.reported) == (False, "LookupError: two lines")


def test_check_that_hangs_is_a_broken_promise() -> None:
    def attempt(trial: Trial) -> Seen:
        trial.until(lambda: False)
        raise AssertionError("not reached")

    result = run_check(_check(attempt), Rig(patience_seconds=0.01))
    assert not result.is_kept
    assert "nothing within 0.01 s" in result.reported


def test_refusal_that_nothing_recorded_is_a_broken_promise() -> None:
    result = run_check(_check(lambda _: Seen("ENFILE", True)), Rig())
    assert (result.is_kept, result.reported) == (False, "ENFILE, but no refusal was recorded")
