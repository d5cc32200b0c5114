"""Every process-wide limit is measured, warns once a crossing, and counts what it refused, made wait or dropped."""

import json

import pytest

from agentvm import AgentVM, LimitUsage, UsageSnapshot, host_usage, on_host_limit
from agentvm.limits.events import EventKind
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.spec import Scope
from tests.limits.crossing import Stage, until
from tests.limits.harness import drives
from tests.limits.host_drivers import HOST_DRIVERS, host_caps


@drives(*HOST_DRIVERS)
@pytest.mark.parametrize("limit", HOST_SPECS)
def test_process_wide_limit_warns_recovers_warns_again_and_refuses(limit: str) -> None:
    """And whoever listens to the process hears of all that, with no VM's name."""
    stage, before = Stage(limit), host_usage()[limit]
    forget = on_host_limit(stage.events.append)
    try:
        with host_caps():
            HOST_DRIVERS[limit](stage)
            after = stage.use
            assert after.warnings - before.warnings >= 2, "the driver never made it warn twice"
            assert after.refused > before.refused, "the driver never took it past the cap"
            assert stage.has_recovered, "the driver never let it recover"
            for kind, count in (
                (EventKind.WARNING, after.warnings - before.warnings),
                (EventKind.REFUSED, after.refused - before.refused),
            ):
                until(lambda kind=kind, count=count: _heard(stage, kind) >= count, f"the last event of {kind}")  # type: ignore[misc]
    finally:
        forget()
    for event in stage.events:
        if event.limit == limit:
            assert (event.vm, event.pid) == (None, None)
            assert event.fill_percent >= 80
            assert f"configure_host({limit}=" in event.setting


def _heard(stage: Stage, kind: EventKind) -> int:
    return sum(event.count for event in list(stage.events) if (event.limit, event.kind) == (stage.limit, kind))


def test_usage_of_the_host_is_a_typed_record_of_all_its_limits() -> None:
    usage = host_usage()
    assert isinstance(usage, UsageSnapshot)
    assert [use.name for use in usage] == [use.name for use in usage.limits] == list(HOST_SPECS)
    with AgentVM():
        assert host_usage()["max_open_vms"].used == usage["max_open_vms"].used + 1
    for use in usage:
        assert isinstance(use, LimitUsage)
        assert use.scope is Scope.HOST
        assert json.loads(json.dumps(use.fields())).keys() >= {"used", "peak", "cap", "percent", "refused", "warnings"}
    with pytest.raises(KeyError):
        usage["max_processes"]
