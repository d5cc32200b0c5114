"""One successful call of each kind: from it the tests make every bad pointer, bad descriptor and missing right."""

from collections.abc import Callable
from dataclasses import dataclass

from agentvm.abi.rights import FILE_BASE, Rights
from tests.abi.rig import CREAT, Rig

__all__ = ["BASELINES", "Baseline"]

Arguments = list[int]


@dataclass(frozen=True)
class Baseline:
    """A call that succeeds, with arguments that `make` prepares. `rights` has the right that each descriptor parameter
    needs, by its position; `repeatable` says whether it succeeds twice."""

    make: Callable[[Rig], Arguments]
    rights: tuple[tuple[int, Rights], ...] = ()
    repeatable: bool = True


def _plain(*arguments: int) -> Callable[[Rig], Arguments]:
    return lambda rig: list(arguments)


def _out(*sizes: int) -> Callable[[Rig], Arguments]:
    return lambda rig: [rig.space(size) for size in sizes]


def _file(*rest: int, out: int = 0) -> Callable[[Rig], Arguments]:
    """A file's descriptor, numbers, and perhaps room for a result."""
    return lambda rig: [rig.create("/tmp/file", b"0123456789"), *rest, *([rig.space(out)] if out else [])]


def _transfer(*rest: int) -> Callable[[Rig], Arguments]:
    return lambda rig: [
        rig.create("/tmp/file", b"0123456789"),
        *rig.iovecs((rig.space(4), 4), (rig.space(3), 3)),
        *rest,
        rig.space(4),
    ]


def _path(rig: Rig) -> Arguments:
    rig.vm.fs.write("/file", b"12345")
    return [3, *rig.text("file")]


def _new_path(rig: Rig) -> Arguments:
    return [3, *rig.text("new")]


def _link(rig: Rig) -> Arguments:
    rig.vm.fs.write("/file", b"12345")
    return [3, 0, *rig.text("file"), 3, *rig.text("new")]


def _rename(rig: Rig) -> Arguments:
    rig.vm.fs.write("/file", b"12345")
    return [3, *rig.text("file"), 3, *rig.text("new")]


def _readlink(rig: Rig) -> Arguments:
    rig.ok("path_symlink", *rig.text("target"), 3, *rig.text("link"))
    return [3, *rig.text("link"), rig.space(16), 16, rig.space(4)]


def _empty_directory(rig: Rig) -> Arguments:
    rig.vm.fs.mkdir("/empty")
    return [3, *rig.text("empty")]


def _poll(rig: Rig) -> Arguments:
    clock = bytes(16) + (1).to_bytes(8, "little") + (5).to_bytes(8, "little") + bytes(16)
    return [rig.put(clock), rig.space(32), 1, rig.space(4)]


def _listener(rig: Rig) -> int:
    return rig.open_fds()[-1]


def _accept(rig: Rig) -> Arguments:
    rig.instance.connect()
    return [_listener(rig), 0, rig.space(4)]


def _connection(rig: Rig) -> int:
    rig.instance.connect().send(b"hello")
    out = rig.space(4)
    rig.ok("sock_accept", _listener(rig), 0, out)
    return rig.number(out)


def _recv(rig: Rig) -> Arguments:
    return [_connection(rig), *rig.iovecs((rig.space(2), 2)), 0, rig.space(4), rig.space(2)]


def _send(rig: Rig) -> Arguments:
    return [_connection(rig), *rig.iovecs((rig.put(b"hi"), 2)), 0, rig.space(4)]


def _shutdown(rig: Rig) -> Arguments:
    return [_connection(rig), 3]


R = Rights

#: By name of the call. The proxy has one listener, as its last descriptor; proc_exit does not return.
BASELINES = {
    "args_get": Baseline(_out(64, 64)),
    "args_sizes_get": Baseline(_out(4, 4)),
    "clock_res_get": Baseline(lambda rig: [1, rig.space(8)]),
    "clock_time_get": Baseline(lambda rig: [1, 0, rig.space(8)]),
    "environ_get": Baseline(_out(64, 64)),
    "environ_sizes_get": Baseline(_out(4, 4)),
    "fd_advise": Baseline(_file(0, 4, 1), ((0, R.FD_ADVISE),)),
    "fd_allocate": Baseline(_file(0, 20), ((0, R.FD_ALLOCATE),)),
    "fd_close": Baseline(_file(), repeatable=False),
    "fd_datasync": Baseline(_file()),
    "fd_fdstat_get": Baseline(_file(out=24)),
    "fd_fdstat_set_flags": Baseline(_file(1), ((0, R.FD_FDSTAT_SET_FLAGS),)),
    "fd_fdstat_set_rights": Baseline(_file(FILE_BASE, 0)),
    "fd_filestat_get": Baseline(_file(out=64), ((0, R.FD_FILESTAT_GET),)),
    "fd_filestat_set_size": Baseline(_file(3), ((0, R.FD_FILESTAT_SET_SIZE),)),
    "fd_filestat_set_times": Baseline(_file(1, 2, 5), ((0, R.FD_FILESTAT_SET_TIMES),)),
    "fd_pread": Baseline(_transfer(2), ((0, R.FD_READ), (0, R.FD_SEEK))),
    "fd_prestat_dir_name": Baseline(lambda rig: [3, rig.space(8), 8]),
    "fd_prestat_get": Baseline(lambda rig: [3, rig.space(8)]),
    "fd_pwrite": Baseline(_transfer(2), ((0, R.FD_WRITE), (0, R.FD_SEEK))),
    "fd_read": Baseline(_transfer(), ((0, R.FD_READ),)),
    "fd_readdir": Baseline(lambda rig: [rig.open_dir("."), rig.space(200), 200, 0, rig.space(4)], ((0, R.FD_READDIR),)),
    "fd_renumber": Baseline(lambda rig: [rig.create("/tmp/file"), rig.create("/tmp/other")], repeatable=False),
    "fd_seek": Baseline(lambda rig: [rig.create("/tmp/file"), 3, 0, rig.space(8)], ((0, R.FD_SEEK),)),
    "fd_sync": Baseline(_file(), ((0, R.FD_SYNC),)),
    "fd_tell": Baseline(_file(out=8)),
    "fd_write": Baseline(_transfer(), ((0, R.FD_WRITE),)),
    "path_create_directory": Baseline(_new_path, ((0, R.PATH_CREATE_DIRECTORY),), repeatable=False),
    "path_filestat_get": Baseline(lambda rig: [3, 0, *_path(rig)[1:], rig.space(64)], ((0, R.PATH_FILESTAT_GET),)),
    "path_filestat_set_times": Baseline(
        lambda rig: [3, 0, *_path(rig)[1:], 1, 2, 5], ((0, R.PATH_FILESTAT_SET_TIMES),)
    ),
    "path_link": Baseline(_link, ((0, R.PATH_LINK_SOURCE), (4, R.PATH_LINK_TARGET)), repeatable=False),
    "path_open": Baseline(
        lambda rig: [3, 0, *_new_path(rig)[1:], CREAT, FILE_BASE, 0, 0, rig.space(4)],
        ((0, R.PATH_OPEN), (0, R.PATH_CREATE_FILE)),
    ),
    "path_readlink": Baseline(_readlink, ((0, R.PATH_READLINK),)),
    "path_remove_directory": Baseline(_empty_directory, ((0, R.PATH_REMOVE_DIRECTORY),), repeatable=False),
    "path_rename": Baseline(_rename, ((0, R.PATH_RENAME_SOURCE), (3, R.PATH_RENAME_TARGET)), repeatable=False),
    "path_symlink": Baseline(
        lambda rig: [*rig.text("target"), 3, *rig.text("link")], ((2, R.PATH_SYMLINK),), repeatable=False
    ),
    "path_unlink_file": Baseline(_path, ((0, R.PATH_UNLINK_FILE),), repeatable=False),
    "poll_oneoff": Baseline(_poll),
    "proc_raise": Baseline(_plain(0)),
    "random_get": Baseline(lambda rig: [rig.space(8), 8]),
    "sched_yield": Baseline(_plain()),
    "sock_accept": Baseline(_accept, ((0, R.SOCK_ACCEPT),), repeatable=False),
    "sock_recv": Baseline(_recv, ((0, R.FD_READ),)),
    "sock_send": Baseline(_send, ((0, R.FD_WRITE),)),
    "sock_shutdown": Baseline(_shutdown, ((0, R.SOCK_SHUTDOWN),)),
}
