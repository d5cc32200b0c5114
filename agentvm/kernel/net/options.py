"""Options of sockets: what they are set to, and which have an effect here. Source: socket(7), tcp(7), ipv6(7).

A size that is set is doubled, as on Linux, whose own bookkeeping takes the other half.
"""

from typing import Final

__all__ = ["DEFAULT_BUFFER_BYTES", "SocketOptions"]

#: Linux's net.core.rmem_default and wmem_default.
DEFAULT_BUFFER_BYTES: Final = 212_992
_LEAST_RECEIVE, _LEAST_SEND = 2_304, 4_608


class SocketOptions:
    """The options of one socket. An accepted connection starts with a copy of its listener's."""

    __slots__ = (
        "aborts",
        "linger",
        "only6",
        "plain",
        "receive_bytes",
        "receive_timeout_ns",
        "reuse_address",
        "reuse_port",
        "send_bytes",
        "send_timeout_ns",
    )

    def __init__(self) -> None:
        self.reuse_address = self.reuse_port = False
        #: IPV6_V6ONLY: a socket of version 6 takes no connections of version 4.
        self.only6 = False
        self.receive_bytes = self.send_bytes = DEFAULT_BUFFER_BYTES
        #: SO_RCVTIMEO and SO_SNDTIMEO; None waits for ever.
        self.receive_timeout_ns: int | None = None
        self.send_timeout_ns: int | None = None
        #: SO_LINGER as it was set, and whether closing breaks the connection off (linger of no seconds).
        self.linger = (0, 0)
        self.aborts = False
        #: What is accepted and changes nothing here, by (level, option): as many as the ABI lists.
        self.plain: dict[tuple[int, int], int] = {}

    def copy(self) -> "SocketOptions":
        """Return the options that an accepted connection starts with."""
        other = SocketOptions()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.plain = dict(self.plain)
        return other

    def set_receive_bytes(self, size: int, most: int) -> None:
        """SO_RCVBUF. At most what the budget lets one socket have."""
        self.receive_bytes = min(most, max(2 * size, _LEAST_RECEIVE))

    def set_send_bytes(self, size: int, most: int) -> None:
        """SO_SNDBUF. At most what the budget lets one socket have."""
        self.send_bytes = min(most, max(2 * size, _LEAST_SEND))
