"""Checks of what waits in sockets, and of connections."""

from agentvm.doctor.check import Trial, check
from agentvm.doctor.seen import Seen
from agentvm.doctor.socket_guest import SocketGuest

__all__ = ()

_PORT = 80


@check("max_connections", by="kernel")
def connections(trial: Trial) -> Seen:
    """Two ends of one connection, and the first end of another one, which then cannot be accepted."""
    with trial.vm(3) as vm, SocketGuest(vm) as guest:
        listener = guest.listen(_PORT)
        guest.connected(listener, _PORT)
        _, third = guest.socket()
        guest.connect(third, f"127.0.0.1:{_PORT}")
        accepted, _ = guest.accept(listener)
        _, fourth = guest.socket()
        connected = guest.connect(fourth, f"127.0.0.1:{_PORT}")
        seen = f"connect: {connected}; accept: {accepted}"
        return Seen(seen, seen == "connect: ENOBUFS; accept: ENFILE")


@check("max_socket_buffer_bytes", by="kernel")
def buffers(trial: Trial) -> Seen:
    """Each socket takes a quarter, until the others' floors are all that is left."""
    cap = 64 << 10
    with trial.vm(cap) as vm, SocketGuest(vm) as guest:
        listener = guest.listen(_PORT)
        taken = []
        said = "OK"
        for _ in range(5):
            client, _ = guest.connected(listener, _PORT)
            said, done = guest.send(client, cap)
            taken.append(done)
        held = trial.used(vm)
        is_kept = said == "EAGAIN" and max(taken) == cap // 4 and cap * 9 // 10 < held <= cap and sum(taken) == held
        return Seen(f"{said} after {held:,}", is_kept)


@check("max_datagrams", by="kernel")
def datagrams(trial: Trial) -> Seen:
    with trial.vm(5) as vm, SocketGuest(vm) as guest:
        (_, sender), (_, receiver) = guest.socket(datagrams=True), guest.socket(datagrams=True)
        guest.bind(receiver, "unix-abstract:00")
        guest.connect(sender, "unix-abstract:00")
        said, done = guest.send_each(sender, 9)
        return Seen(f"{said} after {done}", (said, done) == ("EAGAIN", 5))
