"""host_net: host names: numbers, `localhost`, and what /etc/hosts of the VM says. Source: getaddrinfo(3)."""

import ipaddress
from struct import Struct

from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, Number, OutBuffer, Pointer
from agentvm.abi.syscall import Support, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Filetype

__all__ = ["net_dns_query_rr_v1", "net_getaddrinfo", "net_tls_connect"]

_U32 = Struct("<I")
_HOSTS = b"/etc/hosts"
#: Of /etc/hosts so much is read, and of a host so many addresses are told.
_MOST_HOSTS_BYTES, _MOST_ADDRESSES = 65_536, 64
_LOCALHOST = {b"localhost": (b"127.0.0.1", b"::1")}
_LONGEST_NAME = 255


@syscall(
    {
        Errno.ENOENT: "nothing in the VM has this name: no number, not localhost, and not in /etc/hosts",
        Errno.EINVAL: "the family is none of 0, 4, 6, or the port is no number",
        Errno.ENAMETOOLONG: "the name has more than 255 bytes",
        Errno.ERANGE: "the buffer is too small; its length says how much is needed",
    }
)
def net_getaddrinfo(
    ctx: CallContext, host: Block, port: Block, family: Number, ret_buf: Pointer, ret_len: Pointer
) -> None:
    """Return the addresses of a host as JSON, `[{"addr":"127.0.0.1","family":4}]`; nobody outside is asked."""
    length = ctx.memory.span(ret_len, 4)
    room = ctx.memory.span(ret_buf, _U32.unpack_from(length)[0])
    if family not in (0, 4, 6):
        raise KernelError(Errno.EINVAL, f"family {family}")
    if len(host) > _LONGEST_NAME:
        raise KernelError(Errno.ENAMETOOLONG, f"a name of {len(host)} bytes")
    name = bytes(host).removesuffix(b"\0")
    found = [(text, version) for text, version in _addresses(ctx, name) if family in (0, version)]
    if not found:
        raise KernelError(Errno.ENOENT, f"nothing in the VM is called {name!r}")
    answer = b"[%s]" % b",".join(b'{"addr":"%s","family":%d}' % entry for entry in found)
    if len(answer) > len(room):
        _U32.pack_into(length, 0, len(answer))
        raise KernelError(Errno.ERANGE, f"{len(answer)} bytes, there is room for {len(room)}")
    room[: len(answer)] = answer
    _U32.pack_into(length, 0, len(answer))


def _addresses(ctx: CallContext, name: bytes) -> list[tuple[bytes, int]]:
    number = _numeric(name)
    if number is not None:
        return [number]
    name = name.lower().removesuffix(b".")
    listed = [found for text in _listed(ctx, name) if (found := _numeric(text)) is not None]
    if listed:
        return listed
    return [found for text in _LOCALHOST.get(name, ()) if (found := _numeric(text)) is not None]


def _numeric(text: bytes) -> tuple[bytes, int] | None:
    """Return an address as it is usually written, and its version; None for what is none."""
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    return str(address).encode(), address.version


def _listed(ctx: CallContext, name: bytes) -> list[bytes]:
    """Return the addresses that /etc/hosts has for a name."""
    found: list[bytes] = []
    for line in _read_hosts(ctx).split(b"\n"):
        address, *names = line.partition(b"#")[0].split() or [b""]
        if name in (other.lower() for other in names):
            found.append(address)
    return found[:_MOST_ADDRESSES]


def _read_hosts(ctx: CallContext) -> bytes:
    vfs = ctx.vfs
    try:
        file = vfs.open_at(vfs.root, _HOSTS, root=vfs.root, confined=False)
    except KernelError:
        return b""
    try:
        if file.stat().filetype is not Filetype.REGULAR_FILE:
            return b""
        buffer = bytearray(min(file.stat().size, _MOST_HOSTS_BYTES))
        return bytes(buffer[: file.pread([memoryview(buffer)], 0)])
    finally:
        file.on_last_close()


_NOTHING_OUTSIDE = {Errno.ENOTSUP: "nothing outside of the VM can be asked or reached"}


@syscall(_NOTHING_OUTSIDE, support=Support.REFUSED, note="A VM has no TLS of its own: a guest brings its library.")
def net_tls_connect(ctx: CallContext, fd: Fd, host: Block) -> None:
    """Go on with TLS on a connected socket."""
    raise KernelError(Errno.ENOTSUP, "TLS is the guest's own business")


@syscall(_NOTHING_OUTSIDE, support=Support.REFUSED, note="There is no name server inside a VM.")
def net_dns_query_rr_v1(ctx: CallContext, name: Block, rrtype: Number, out: OutBuffer) -> tuple[Number, Number, Number]:
    """Ask a name server for records."""
    raise KernelError(Errno.ENOTSUP, "there is no name server")
