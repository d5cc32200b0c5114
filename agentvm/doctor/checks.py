"""The table of all checks: one for each limit and setting of the catalogue."""

from collections.abc import Mapping
from types import ModuleType

from agentvm.doctor import (
    checks_files,
    checks_guest,
    checks_host,
    checks_modules,
    checks_objects,
    checks_settings,
    checks_sockets,
    checks_time,
)
from agentvm.doctor.check import Check
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS

__all__ = ["CHECKS"]


def _collect(*modules: ModuleType) -> Mapping[str, Check]:
    found = [one for module in modules for one in vars(module).values() if isinstance(one, Check)]
    table = {one.name: one for one in found}
    assert len(table) == len(found), "a limit has two checks"
    return {name: table[name] for name in (*SPECS, *SETTINGS, *HOST_SPECS) if name in table}


#: Every check by its limit or setting, in the order of the catalogue.
CHECKS = _collect(
    checks_objects,
    checks_sockets,
    checks_files,
    checks_guest,
    checks_modules,
    checks_time,
    checks_settings,
    checks_host,
)
