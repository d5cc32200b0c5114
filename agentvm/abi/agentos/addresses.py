"""Socket addresses as the host ABI spells them: text such as `127.0.0.1:80`, `[::1]:80`, `unix:/run/x`.

Also `unix-path-hex:` for paths that are no plain ASCII, `unix-abstract:` with the name in hexadecimal digits,
`unix-autobind` and `unix-unnamed`.
"""

import ipaddress
from functools import lru_cache
from struct import Struct
from typing import Final

from agentvm.abi.context import CallContext
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import UNNAMED, Address, InetAddress, UnixAddress

__all__ = ["AddressOut", "format_address", "parse_address"]

_PATH, _PATH_HEX, _ABSTRACT = b"unix:", b"unix-path-hex:", b"unix-abstract:"
_NAMELESS: Final = (b"unix-autobind", b"unix-unnamed")
_LOCALHOST: Final = b"localhost"
_U32 = Struct("<I")
#: A guest uses few addresses at a time; each is a few hundred bytes at most.
_MOST_KNOWN = 256
_LONGEST_INET = 64


def parse_address(ctx: CallContext, text: memoryview) -> Address:
    """Return the address of a text; EINVAL, ENAMETOOLONG."""
    if len(text) <= _LONGEST_INET:
        return _parse_short(bytes(text))
    # Every byte of a path may be two digits.
    ctx.kernel.registry.ceiling("max_path_bytes").check((len(text) - len(_PATH_HEX)) // 2)
    return _parse(bytes(text))


def _parse(text: bytes) -> Address:
    if text.startswith(_PATH):
        return UnixAddress(text[len(_PATH) :])
    if text.startswith(_PATH_HEX):
        return UnixAddress(_unhex(text[len(_PATH_HEX) :]))
    if text.startswith(_ABSTRACT):
        return UnixAddress(_unhex(text[len(_ABSTRACT) :]), is_abstract=True)
    if text in _NAMELESS:
        return UNNAMED
    return _parse_inet(text)


_parse_short = lru_cache(_MOST_KNOWN)(_parse)


def _unhex(digits: bytes) -> bytes:
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise KernelError(Errno.EINVAL, f"{digits!r} are no hexadecimal digits") from None


def _parse_inet(text: bytes) -> InetAddress:
    host, colon, port = text.rpartition(b":")
    if not colon or not port.isdigit() or int(port) > 0xFFFF:
        raise KernelError(Errno.EINVAL, f"{text!r} is no address: it ends with no port")
    try:
        if host.startswith(b"[") and host.endswith(b"]"):
            return InetAddress(6, int(ipaddress.IPv6Address(host[1:-1].decode("ascii"))), int(port))
        name = b"127.0.0.1" if host == _LOCALHOST else host
        return InetAddress(4, int(ipaddress.IPv4Address(name.decode("ascii"))), int(port))
    except ValueError:
        raise KernelError(Errno.EINVAL, f"{text!r} is no address") from None


@lru_cache(_MOST_KNOWN)
def format_address(address: Address) -> bytes:
    """Return an address as text."""
    if isinstance(address, InetAddress):
        if address.version == 4:
            return b"%s:%d" % (str(ipaddress.IPv4Address(address.host)).encode(), address.port)
        return b"[%s]:%d" % (str(ipaddress.IPv6Address(address.host)).encode(), address.port)
    name = address.name
    if name is None:
        return b"unix-unnamed"
    if address.is_abstract:
        return _ABSTRACT + name.hex().encode()
    if all(0x20 <= byte <= 0x7E for byte in name):
        return _PATH + name
    return _PATH_HEX + name.hex().encode()


class AddressOut:
    """Where a call writes an address: its text, cut off where there is no room, and its whole length.

    A length pointer of 0 says that the caller does not want to know.
    """

    __slots__ = ("_length", "_room")

    def __init__(self, ctx: CallContext, pointer: int, length_pointer: int) -> None:
        """Check both pointers; EFAULT."""
        self._length: memoryview | None = None
        self._room = memoryview(b"")
        if length_pointer:
            self._length = ctx.memory.span(length_pointer, 4)
            self._room = ctx.memory.span(pointer, _U32.unpack_from(self._length)[0])

    def write(self, address: Address | None) -> None:
        """Write an address; without one, a length of 0."""
        if self._length is None:
            return
        text = format_address(address) if address is not None else b""
        piece = text[: len(self._room)]
        self._room[: len(piece)] = piece
        _U32.pack_into(self._length, 0, len(text))
