"""The socket calls against the ABI's document: every call is there, with the type that programs import it by."""

import pytest

from agentvm.abi.agentos import AGENTOS
from agentvm.abi.syscall import Support

#: Written by hand from the ABI's document: i32 as i, i64 as l; each returns an errno.
NET = """
net_accept iiii        net_bind iii             net_close i              net_connect iii
net_dns_query_rr_v1 iiiiiiii                    net_getaddrinfo iiiiiii  net_getpeername iii
net_getsockname iii    net_getsockopt iiiii     net_listen ii            net_poll iiii
net_recv iiiii         net_recvfrom iiiiiii     net_send iiiii           net_sendto iiiiiii
net_set_nonblock ii    net_setsockopt iiiii     net_socket iiii          net_tls_connect iii
net_validate_accept i  net_validate_socket i
"""
PROCESS = """
fd_recvmsg_rights iiiiiiiii  fd_sendmsg_rights iiiiiii  fd_socketpair iiiii  proc_ppoll_v1 iilliiii
"""
_LETTERS = {"i32": "i", "i64": "l"}


def _expected(text: str) -> dict[str, str]:
    return dict(zip(text.split()[::2], text.split()[1::2], strict=True))


@pytest.mark.parametrize(
    ("module", "name", "letters"),
    [
        *(("host_net", *entry) for entry in _expected(NET).items()),
        *(("host_process", *entry) for entry in _expected(PROCESS).items()),
    ],
)
def test_a_call_has_the_type_of_the_document(module: str, name: str, letters: str) -> None:
    spec = AGENTOS[module][name]
    assert "".join(_LETTERS[kind] for kind in spec.wasm_params) == letters
    assert spec.wasm_results == ("i32",)
    assert spec.summary.endswith(".")
    assert all(spec.fails_with.values())


def test_host_net_has_its_21_calls_and_refuses_two() -> None:
    assert sorted(AGENTOS["host_net"]) == sorted(_expected(NET))
    refused = {spec.name for spec in AGENTOS["host_net"].values() if spec.support is Support.REFUSED}
    assert refused == {"net_dns_query_rr_v1", "net_tls_connect"}
