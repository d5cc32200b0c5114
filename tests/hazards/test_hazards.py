"""What would kill or cheat the host without its cure. Each runs in a process of its own, whose exit status tells."""

import pytest

from tests.hazards.runs import hazard

CALLBACKS = ["host", "epoch", "new", "grow", "get", "drop"]


@pytest.mark.parametrize(
    "exception", ["RuntimeError", "RecursionError", "MemoryError", "KeyboardInterrupt", "SystemExit"]
)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_exception_in_a_callback_ends_the_guest_only(callback: str, exception: str) -> None:
    assert "the host lives" in hazard("raising", callback, exception)


@pytest.mark.parametrize("callback", CALLBACKS)
def test_exception_in_a_callback_whose_handler_fails_too(callback: str) -> None:
    assert "the host lives" in hazard("raising", callback, "RuntimeError", "broken")


def test_storm_of_ctrl_c_on_the_main_thread() -> None:
    assert "interrupts" in hazard("ctrl_c", "4")


@pytest.mark.parametrize("when", ["early", "late", "running", "foreign"])
@pytest.mark.parametrize("flags", [(), ("-X", "faulthandler")], ids=["plain", "faulthandler"])
def test_replaced_signal_handlers(when: str, flags: tuple[str, ...]) -> None:
    output = hazard("handlers", when, flags=flags)
    assert "the host lives" in output
    warned = "were put back" in output
    assert warned == (when == "foreign" or (when in ("late", "running") and not flags))


@pytest.mark.parametrize("what", ["thread", "mapping", "recursion"])
def test_refusal_of_the_host_is_a_typed_result(what: str) -> None:
    hazard("refusals", what)


@pytest.mark.parametrize("how", ["end", "raise", "exit", "close"])
def test_guests_that_run_at_the_interpreters_exit(how: str) -> None:
    assert hazard("leaving", how) == ""


def test_fork_after_a_vm_was_opened_is_refused_clearly() -> None:
    hazard("forked")


@pytest.mark.parametrize("stack_bytes", [1 << 20, 64 << 20], ids=["1 MiB", "64 MiB"])
def test_recursion_never_hurts_the_host(stack_bytes: int) -> None:
    assert "the host lives" in hazard("recursion", str(stack_bytes))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_overflow_of_a_large_stack_takes_what_is_charged_for_it_and_gives_it_back(threads: str) -> None:
    hazard("overflow_memory", threads)


@pytest.mark.parametrize("how", ["ctrl_c", "leaving"])
def test_events_of_limits_while_the_host_is_disturbed(how: str) -> None:
    assert "the host lives" in hazard("told", how)


@pytest.mark.slow
def test_nothing_leaks_over_thousands_of_vms() -> None:
    hazard("leaks", "2000")
