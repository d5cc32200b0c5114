"""Drivers for connections, and for what waits in sockets."""

from agentvm.doctor.socket_guest import SocketGuest
from tests.limits.crossing import Stage, crosses

__all__ = ()

PORT = 8080
ADDRESS = f"127.0.0.1:{PORT}"


@crosses("max_connections")
def connections(stage: Stage) -> None:
    with stage.open(max_connections=10) as vm, SocketGuest(vm) as guest:
        listener = guest.listen(PORT)
        ends = [end for _ in range(3) for end in guest.connected(listener, PORT)]
        stage.quiet()
        ends += guest.connected(listener, PORT)
        stage.warned()
        while len(ends) > 2:
            guest.close(ends.pop())
        stage.recovered()
        ends += [end for _ in range(3) for end in guest.connected(listener, PORT)]
        stage.warned()
        waiting = [guest.socket()[1] for _ in range(2)]
        assert [guest.connect(end, ADDRESS) for end in waiting] == ["OK", "OK"]
        assert guest.accept(listener)[0] == "ENFILE"
        stage.refused()
        _, late = guest.socket()
        assert guest.connect(late, ADDRESS) == "ENOBUFS"
        stage.refused()
        guest.close(ends.pop())
        assert guest.accept(listener)[0] == "OK", "the connection stayed where it was"


@crosses("max_socket_buffer_bytes")
def socket_buffers(stage: Stage) -> None:
    cap = 64 << 10
    quarter = cap // 4
    with stage.open(max_socket_buffer_bytes=cap, max_sockets=64) as vm, SocketGuest(vm) as guest:
        listener = guest.listen(PORT)
        pairs = [guest.connected(listener, PORT) for _ in range(5)]
        for client, _ in pairs[:3]:
            assert guest.send(client, quarter) == ("OK", quarter)
        stage.quiet()
        guest.send(pairs[3][0], quarter // 2)
        stage.warned()
        for _, server in pairs[:2]:
            for _ in range(4):
                guest.receive(server)
        stage.recovered()
        for client, _ in pairs[:2]:
            guest.send(client, quarter)
        stage.warned()
        assert guest.send(pairs[0][0], 1) == ("EAGAIN", 0), "no socket gets more than a quarter"
        stage.refused()
        assert guest.send(pairs[3][0], cap)[0] == "EAGAIN"
        stage.refused()
        said, done = guest.send(pairs[4][0], cap)
        assert (said, done) == ("EAGAIN", cap // 128), "what each socket is sure of"


@crosses("max_datagrams")
def datagrams(stage: Stage) -> None:
    with stage.open(max_datagrams=10) as vm, SocketGuest(vm) as guest:
        (_, sender), (_, receiver) = guest.socket(datagrams=True), guest.socket(datagrams=True)
        assert guest.bind(receiver, "unix-abstract:00") == "OK"
        assert guest.connect(sender, "unix-abstract:00") == "OK"
        guest.send_each(sender, 7)
        stage.quiet()
        guest.send_each(sender, 1)
        stage.warned()
        for _ in range(3):
            guest.receive(receiver)
        stage.recovered()
        guest.send_each(sender, 3)
        stage.warned()
        assert guest.send_each(sender, 9) == ("EAGAIN", 2)
        stage.refused()
