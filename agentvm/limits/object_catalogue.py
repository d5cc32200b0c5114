"""The limits of what programs make for themselves: pipes, connections and what waits in them, and locks."""

from dataclasses import dataclass

from agentvm.errno import Errno
from agentvm.limits.amount import Amount
from agentvm.limits.declare import GIB, KIB, MIB, limit
from agentvm.limits.spec import Kind, Past, Scope, Unit

__all__ = ["ObjectLimits"]


# `Limits` has the methods that a dataclass gets; making them here too would take as long as starting a VM.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ObjectLimits:
    """The part of `Limits` that is about objects which programs make."""

    max_pipes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 128, Errno.ENFILE, "pipe, open of a FIFO: ENFILE",
        "Pipes that programs made, and FIFOs that are open.",
    )  # fmt: skip
    max_file_locks: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 1024, Errno.ENOLCK, "flock, fcntl: ENOLCK",
        "Locks on files: one for each open file that is locked, and for each range that a process has locked.",
    )  # fmt: skip
    max_connections: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 128, Errno.ENOBUFS, "connect: ENOBUFS; accept: ENFILE, and it stays queued",
        "Ends of connections, by connect and by accept, of all processes together.",
    )  # fmt: skip
    max_socket_buffer_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, 4 * MIB, Errno.EAGAIN, "blocks; EAGAIN if non-blocking",
        "Bytes that wait in all sockets to be received. Each is sure of 4 KiB, and none gets more than a quarter.",
        aliases=("max_socket_buffered_bytes",), past=Past.WAITS, minimum=16 * KIB, maximum=4 * GIB,
    )  # fmt: skip
    max_datagrams: Amount = limit(
        Kind.GAUGE, Scope.FILE, Unit.COUNT, 1024, Errno.EAGAIN, "blocks; EAGAIN if non-blocking",
        "Messages that wait in one socket to be received.", aliases=("max_socket_datagram_queue_len",),
        past=Past.WAITS, minimum=1, maximum=1_048_576,
    )  # fmt: skip
