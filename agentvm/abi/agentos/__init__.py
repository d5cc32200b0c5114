"""The host ABI of agentOS, `agentos-wasm-host-v1`: processes, signals, sockets and users, on top of preview1.

One module for each chapter. What a call does is Linux's; numbers and layouts are the ABI's.
"""

from collections.abc import Mapping

from agentvm.abi.agentos import (
    descriptors,
    exec_calls,
    ids,
    net_names,
    net_options,
    net_polls,
    net_sockets,
    net_transfer,
    ppoll,
    rights_calls,
    signal_calls,
    spawn,
    wait_calls,
)
from agentvm.abi.syscall import CallTable, collect

__all__ = ["AGENTOS"]

#: The calls of each import module, by its name.
AGENTOS: Mapping[str, CallTable] = {
    "host_process": collect(
        "host_process", (spawn, exec_calls, wait_calls, signal_calls, ids, descriptors, rights_calls, ppoll)
    ),
    "host_net": collect("host_net", (net_sockets, net_transfer, net_options, net_polls, net_names)),
}
