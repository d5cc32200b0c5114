"""The host ABI of agentOS, `agentos-wasm-host-v1`: processes, signals, sockets and users, on top of preview1.

One module for each chapter. What a call does is Linux's; numbers and layouts are the ABI's.
"""

from collections.abc import Mapping

from agentvm.abi.agentos import (
    account_calls,
    descriptors,
    exec_calls,
    fs_calls,
    ids,
    lock_calls,
    net_names,
    net_options,
    net_polls,
    net_sockets,
    net_transfer,
    ppoll,
    rights_calls,
    rlimit_calls,
    signal_calls,
    spawn,
    system_calls,
    timer_calls,
    tty_calls,
    user_calls,
    wait_calls,
)
from agentvm.abi.syscall import CallTable, collect

__all__ = ["AGENTOS"]

_PROCESS = (
    spawn,
    exec_calls,
    wait_calls,
    signal_calls,
    timer_calls,
    rlimit_calls,
    ids,
    descriptors,
    lock_calls,
    rights_calls,
    ppoll,
)

#: The calls of each import module, by its name.
AGENTOS: Mapping[str, CallTable] = {
    "host_process": collect("host_process", _PROCESS),
    "host_fs": collect("host_fs", (fs_calls,)),
    "host_net": collect("host_net", (net_sockets, net_transfer, net_options, net_polls, net_names)),
    "host_user": collect("host_user", (user_calls, account_calls)),
    "host_tty": collect("host_tty", (tty_calls,)),
    "host_system": collect("host_system", (system_calls,)),
}
