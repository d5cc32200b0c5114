"""Every limit of a VM warns once a crossing, again after it has recovered, and records what it refuses.

Those of the host process are in test_host_limits.py.
"""

import pytest

from agentvm.limits.catalogue import SPECS
from tests.limits import crossings_calls, crossings_guest, crossings_modules, crossings_objects, crossings_sockets
from tests.limits.crossing import DRIVERS, Stage

#: Where the drivers are: importing them is what declares them.
PLACES = (crossings_calls, crossings_guest, crossings_modules, crossings_objects, crossings_sockets)


@pytest.mark.parametrize("limit", SPECS)
def test_limit_warns_recovers_warns_again_and_refuses(limit: str) -> None:
    assert limit in DRIVERS, f"nothing drives {limit} past its warning point and its cap: add a driver with @crosses"
    stage = Stage(limit)
    DRIVERS[limit](stage)
    stage.check()


def test_drivers_are_those_of_limits_that_exist() -> None:
    assert not DRIVERS.keys() - SPECS.keys()
