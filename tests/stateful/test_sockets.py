"""Any operations on sockets under small caps: after every step each gauge is what a recount finds, and in the end zero.

Bytes are checked too: what a stream delivers is what went into it, in its order, and messages keep their bounds.
"""

from collections import defaultdict, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentvm.clock import ManualClock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor, FdTable
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.net.address import LOOPBACK4, LOOPBACK6, Family, InetAddress, UnixAddress
from agentvm.kernel.net.host_end import HostEnd
from agentvm.kernel.net.incoming import ByteStream, Incoming, MessageQueue
from agentvm.kernel.net.link import ConnectedSocket
from agentvm.kernel.net.socket import Socket, SocketKind
from agentvm.kernel.net.stream import StreamSocket
from agentvm.kernel.net.unix_names import Naming
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.kernel.wait import Readiness
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

GAUGES = ("max_sockets", "max_connections", "max_socket_buffer_bytes", "max_open_fds", "max_inodes")
ADDRESSES = (
    InetAddress(4, 0, 80),
    InetAddress(4, LOOPBACK4.host, 80),
    InetAddress(4, LOOPBACK4.host, 0),
    InetAddress(4, LOOPBACK4.host + 1, 81),
    InetAddress(6, 0, 80),
    InetAddress(6, LOOPBACK6.host, 81),
    UnixAddress(),
    UnixAddress(b"abstract", is_abstract=True),
    UnixAddress(b"/one"),
    UnixAddress(b"two"),
)
picks = st.integers(0, 30)
#: What a call may be refused with, whatever came before.
EXPECTED = frozenset(
    {
        Errno.EADDRINUSE, Errno.EADDRNOTAVAIL, Errno.EAFNOSUPPORT, Errno.EAGAIN, Errno.EALREADY, Errno.ECONNREFUSED,
        Errno.ECONNRESET, Errno.EDESTADDRREQ, Errno.EINVAL, Errno.EISCONN, Errno.EMFILE, Errno.EMSGSIZE, Errno.ENFILE,
        Errno.ENOBUFS, Errno.ENOENT, Errno.ENOSPC, Errno.ENOTCONN, Errno.ENOTSUP, Errno.EPERM, Errno.EPIPE,
        Errno.EPROTONOSUPPORT, Errno.EPROTOTYPE,
    }
)  # fmt: skip


class Sockets(RuleBasedStateMachine):
    """Two processes and the host, with sockets of every kind."""

    @initialize(
        sockets=st.integers(2, 12),
        connections=st.integers(1, 8),
        buffer_kib=st.integers(16, 48),
        datagrams=st.integers(1, 4),
        backlog=st.integers(1, 3),
        fds=st.integers(2, 16),
    )
    def open(self, sockets: int, connections: int, buffer_kib: int, datagrams: int, backlog: int, fds: int) -> None:
        self.registry = Registry(
            Limits(
                max_sockets=sockets,
                max_connections=connections,
                max_socket_buffer_bytes=buffer_kib << 10,
                max_datagrams=datagrams,
                max_listener_backlog=backlog,
                max_open_fds=fds,
                max_inodes=3,
            )
        )
        clock = ManualClock(step_ns=1)
        self.kernel = Kernel(self.registry, clock, bytes, Vfs(self.registry, clock), lambda: None)
        self.network = self.kernel.network
        self.naming = Naming(self.kernel.vfs.root, b"/")
        self.tables = [self._table() for _ in range(2)]
        self.hosts: list[tuple[HostEnd, HostEnd, StreamSocket]] = []
        self.streams: dict[int, bytearray] = defaultdict(bytearray)
        self.messages: dict[int, deque[bytes]] = defaultdict(deque)
        self.kept: list[Incoming] = []  # so that no two have one id
        self.next_byte = 0

    def _table(self) -> FdTable:
        gauges = self.registry.open_process()
        return FdTable(gauges.gauge("max_open_fds_per_process"), self.registry.gauge("max_open_fds"))

    # -- choosing -----------------------------------------------------------------------------------------------------
    def _open(self, socket: Socket, table: int) -> None:
        try:
            self.tables[table % 2].open(Descriptor(socket, 0, 0))
        except KernelError:
            socket.on_last_close()
            raise

    def _pick(self, which: int) -> Socket | None:
        found = [d.file for table in self.tables for d in table.by_number.values()]
        return found[which % len(found)] if found else None  # type: ignore[return-value]

    def _try(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except KernelError as error:
            if error.errno not in EXPECTED:
                raise
            return None

    def _data(self, size: int) -> bytes:
        data = bytes((self.next_byte + index) % 251 for index in range(size))
        self.next_byte += size
        return data

    # -- steps --------------------------------------------------------------------------------------------------------
    @rule(family=st.sampled_from(Family), kind=st.sampled_from(SocketKind), table=picks)
    def socket(self, family: Family, kind: SocketKind, table: int) -> None:
        made = self._try(self.network.socket, family, kind)
        if made is not None:
            self._try(self._open, made, table)

    @rule(kind=st.sampled_from(SocketKind), table=picks)
    def pair(self, kind: SocketKind, table: int) -> None:
        for end in self._try(self.network.pair, kind) or ():
            self._try(self._open, end, table)

    @rule(which=picks, address=st.sampled_from(ADDRESSES))
    def bind(self, which: int, address: Any) -> None:
        if (socket := self._pick(which)) is not None:
            self._try(self.network.bind, socket, address, self.naming)

    @rule(which=picks, backlog=st.integers(-1, 2))
    def listen(self, which: int, backlog: int) -> None:
        if (socket := self._pick(which)) is not None:
            self._try(socket.listen, backlog)

    @rule(which=picks, address=st.sampled_from(ADDRESSES))
    def connect(self, which: int, address: Any) -> None:
        if (socket := self._pick(which)) is not None:
            self._try(socket.connect, address, self.naming)

    @rule(which=picks, table=picks)
    def accept(self, which: int, table: int) -> None:
        if (socket := self._pick(which)) is None:
            return
        accepted = self._try(socket.accept_nowait, FdFlags(0))
        if accepted is not None:
            self._try(self._open, accepted, table)

    @rule(which=picks, size=st.integers(0, 20_000), passed=st.lists(picks, max_size=2))
    def send(self, which: int, size: int, passed: list[int]) -> None:
        socket = self._pick(which)
        if socket is None:
            return
        parcel = None
        if passed and socket.family is Family.UNIX and size:
            descriptors = [d for d in map(self._descriptor, passed) if d is not None]
            parcel = self._try(self.network.in_flight.pack, descriptors)
        data, before = self._data(size), socket.readiness()
        target = self._target(socket)
        try:
            done = socket.send_nowait([memoryview(data)], None, self.naming, parcel)
        except KernelError as error:
            if error.errno not in EXPECTED:
                raise
            is_lie = error.errno is Errno.EAGAIN and size and before & Readiness.WRITE and socket.carries_bytes
            if parcel is not None:
                parcel.drop()
            if is_lie:
                raise AssertionError("ready to write, and it would block") from error
            return
        if target is not None:
            self.kept.append(target)
            if isinstance(target, ByteStream):
                self.streams[id(target)] += data[:done]
            else:
                self.messages[id(target)].append(data)

    def _descriptor(self, which: int) -> Descriptor | None:
        found = [d for table in self.tables for d in table.by_number.values()]
        return found[which % len(found)] if found else None

    def _target(self, socket: Socket) -> Incoming | None:
        """Where what this sends will go, where that is plain."""
        if isinstance(socket, ConnectedSocket):
            return socket.peer.incoming if socket.peer is not None else None
        peer = getattr(socket, "peer", None)
        return peer.incoming if peer is not None else None

    @rule(which=picks, size=st.integers(1, 20_000), peek=st.booleans(), opens=st.booleans())
    def receive(self, which: int, size: int, peek: bool, opens: bool) -> None:
        socket = self._pick(which)
        if socket is None:
            return
        incoming, buffer, before = getattr(socket, "incoming", None), bytearray(size), socket.readiness()
        received = self._try(socket.receive_nowait, [memoryview(buffer)], peek=peek)
        if received is None:
            return
        assert before & Readiness.READABLE, "something was received from what was not ready"
        self._compare(incoming, bytes(buffer[: received.copied]), peek=peek)
        if received.parcel is not None:
            assert not peek
            for descriptor in received.parcel.take():
                if opens:
                    self._try(self.tables[which % 2].open, descriptor)

    def _compare(self, incoming: Any, got: bytes, *, peek: bool) -> None:
        if isinstance(incoming, ByteStream):
            expected = self.streams[id(incoming)]
            assert expected.startswith(got)
            if not peek:
                del expected[: len(got)]
        elif isinstance(incoming, MessageQueue) and self.messages[id(incoming)]:
            expected = self.messages[id(incoming)]
            message = expected[0] if peek else expected.popleft()
            assert message.startswith(got)

    @rule(which=picks, read=st.booleans(), write=st.booleans())
    def shutdown(self, which: int, read: bool, write: bool) -> None:
        if (socket := self._pick(which)) is not None:
            self._try(socket.shutdown, read=read, write=write)

    @rule(which=picks, size=st.integers(0, 30_000))
    def resize(self, which: int, size: int) -> None:
        if (socket := self._pick(which)) is not None:
            socket.options.set_receive_bytes(size, self.network.space.most)
            socket.resize()

    @rule(which=picks)
    def close(self, which: int) -> None:
        found = [(table, number) for table in self.tables for number in table]
        if found:
            table, number = found[which % len(found)]
            table.close(number)

    @rule(which=picks, table=picks)
    def duplicate(self, which: int, table: int) -> None:
        descriptor = self._descriptor(which)
        if descriptor is not None:
            self._try(self.tables[table % 2].open, descriptor.copy())

    @precondition(lambda self: len(self.hosts) < 4)
    @rule(which=picks)
    def host_connects(self, which: int) -> None:
        socket = self._pick(which)
        if isinstance(socket, StreamSocket) and socket.kind is SocketKind.STREAM:
            end = self._try(self.network.connect_host, socket)
            if end is not None:
                ends = [HostEnd(end, self.kernel.lock, self.kernel.clock, reads=reads) for reads in (False, True)]
                self.hosts.append((ends[0], ends[1], end))

    @rule(which=picks, reads=st.booleans())
    def host_closes(self, which: int, reads: bool) -> None:
        if self.hosts:
            self.hosts[which % len(self.hosts)][int(reads)].close()

    @rule(size=st.integers(16, 64))
    def raise_caps(self, size: int) -> None:
        cap = max(size << 10, int(self.registry.gauge("max_socket_buffer_bytes").cap))
        self.kernel.raise_limits(Limits(max_socket_buffer_bytes=cap))

    # -- recount ------------------------------------------------------------------------------------------------------
    def _sockets(self) -> set[Socket]:
        found = {d.file for table in self.tables for d in table.by_number.values()}
        found |= {d.file for parcel in self.network.in_flight.parcels for d in parcel.descriptors}
        found |= {end for *_, end in self.hosts if end.references}
        for socket in list(found):
            if isinstance(socket, StreamSocket) and socket.backlog is not None:
                found |= set(socket.backlog._queue._items)
        return found  # type: ignore[return-value]

    @invariant()
    def gauges_are_what_a_recount_finds(self) -> None:
        if not hasattr(self, "network"):
            return
        sockets, registry = self._sockets(), self.registry
        in_flight = sum(len(parcel) for parcel in self.network.in_flight.parcels)
        queues = [queue for socket in sockets if (queue := getattr(socket, "incoming", None)) is not None]
        assert registry.gauge("max_sockets").used == sum(socket.has_place for socket in sockets)
        assert registry.gauge("max_connections").used == sum(
            isinstance(socket, StreamSocket) and socket.holds_connection for socket in sockets
        )
        assert registry.gauge("max_open_fds").used == sum(map(len, self.tables)) + in_flight
        assert all(queue.held == queue.statistics() for queue in queues)
        space = self.network.space
        assert space.gauge.used == sum(queue.held for queue in queues) <= space.gauge.cap
        assert space._kept == sum(max(0, holder.floor - holder.held) for holder in space)
        assert space.gauge.used + space._kept <= space.gauge.cap
        assert set(space) <= set(queues)
        for queue in queues:
            if isinstance(queue, MessageQueue):
                assert queue.level.used == len(queue.messages) <= queue.level.cap

    @invariant()
    def names_are_those_of_sockets_that_are_there(self) -> None:
        if not hasattr(self, "network"):
            return
        sockets = self._sockets()
        for ports in (self.network._streams, self.network._datagrams):
            assert set(ports) <= sockets
        assert set(self.network._names._abstract.values()) <= sockets
        assert set(self.network._names._files) <= sockets

    def teardown(self) -> None:
        if not hasattr(self, "network"):
            return
        for outgoing, incoming, _ in self.hosts:
            outgoing.close()
            incoming.close()
        for table in self.tables:
            table.close_all()
        self.gauges_are_what_a_recount_finds()
        self.kernel.close()
        assert {name: self.registry.gauge(name).used for name in GAUGES} == dict.fromkeys(GAUGES, 0)
        assert not list(self.network.space)
        assert not self.registry._objects


Sockets.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestSockets = Sockets.TestCase
