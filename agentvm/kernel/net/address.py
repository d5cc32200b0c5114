"""What sockets are called: internet addresses, and names of the Unix domain. How a guest spells them: `abi/agentos`.

Source: ip(7), ipv6(7), unix(7).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agentvm.errno import Errno, KernelError

__all__ = ["ANY4", "ANY6", "LOOPBACK4", "LOOPBACK6", "UNNAMED", "Address", "Family", "InetAddress", "UnixAddress"]


class Family(IntEnum):
    """The address families that there are, with the host ABI's numbers."""

    INET = 1
    INET6 = 2
    UNIX = 3


_V4_MAPPED: Final = 0xFFFF << 32
_LOOPBACK4_FIRST: Final = 0x7F00_0001
_LOOPBACK6: Final = 1


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A host and a port. `version` is 4 or 6, `host` the address as a number; 0 stands for any."""

    version: int
    host: int
    port: int = 0

    @property
    def is_any(self) -> bool:
        """Whether it is 0.0.0.0 or ::."""
        return self.host == 0

    @property
    def plain(self) -> "InetAddress":
        """The same address with version 4 where it is one of those, written as ::ffff:127.0.0.1."""
        if self.version == 6 and self.host >> 32 == _V4_MAPPED >> 32:
            return InetAddress(4, self.host & 0xFFFF_FFFF, self.port)
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether it lies inside the VM: 127.0.0.0/8 or ::1."""
        plain = self.plain
        return plain.host >> 24 == 127 if plain.version == 4 else plain.host == _LOOPBACK6

    @property
    def target(self) -> "InetAddress":
        """Where a connection to this address goes: one to any address goes to this host, as on Linux."""
        plain = self.plain
        if plain.host:
            return plain
        return InetAddress(plain.version, _LOOPBACK4_FIRST if plain.version == 4 else _LOOPBACK6, plain.port)

    def with_port(self, port: int) -> "InetAddress":
        return InetAddress(self.version, self.host, port)

    def seen_by(self, family: Family) -> "InetAddress":
        """This address as a socket of a family is told of it: version 4 is mapped for one of version 6."""
        if family is Family.INET6 and self.version == 4:
            return InetAddress(6, _V4_MAPPED | self.host, self.port)
        return self

    def check_family(self, family: Family) -> None:
        """Raise EAFNOSUPPORT for an address that a socket of this family cannot have."""
        if (self.version == 4) != (family is Family.INET):
            raise KernelError(Errno.EAFNOSUPPORT, f"an address of version {self.version} for a socket of {family.name}")

    def overlaps(self, other: "InetAddress", *, both_only6: bool) -> bool:
        """Whether some connection could be meant for either. `both_only6`: those of version 6 take no version 4."""
        mine, theirs = self.plain, other.plain
        if mine.port != theirs.port:
            return False
        if mine.version == theirs.version:
            return mine.host == theirs.host or not mine.host or not theirs.host
        six = mine if mine.version == 6 else theirs
        return six.is_any and not both_only6


ANY4: Final = InetAddress(4, 0)
ANY6: Final = InetAddress(6, 0)
LOOPBACK4: Final = InetAddress(4, _LOOPBACK4_FIRST)
LOOPBACK6: Final = InetAddress(6, _LOOPBACK6)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A path, or an abstract name of any bytes; without either, the socket has no name."""

    name: bytes | None = None
    is_abstract: bool = False


#: The address of what was never bound; bound to it, a socket is given an abstract name.
UNNAMED: Final = UnixAddress()

Address = InetAddress | UnixAddress
