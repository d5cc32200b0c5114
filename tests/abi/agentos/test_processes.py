"""host_process: spawn, exec, wait, groups and ids, call by call; whole programs are compared in tests/differential."""

from struct import pack

import pytest
import wasmtime

from agentvm import AgentVM, Errno, Limits, Signal
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.rig import WILD, Boot, Rig

CLOSE, DUP2, OPEN, CHDIR, FCHDIR, CLOSEFROM = 1, 2, 3, 4, 5, 6
SETPGROUP, SETSIGMASK, SETSID = 2, 8, 128
NO_HANG, UNTRACED, CONTINUED = 1, 2, 8
ANY = 0xFFFF_FFFF
WRONLY, CREAT = 0x1000_0000, 1 << 12


def _module(body: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f"""(module
 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
 (memory (export "memory") 1)
 (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00")
 (func (export "_start") {body}))""")
    )


#: One that exits with 7; one that first writes four bytes of argv[0] to descriptor 1; one that never ends.
EXITS = _module("(call $exit (i32.const 7))")
SAYS = _module(
    "(drop (call $args (i32.const 512) (i32.const 16)))"
    "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (call $exit (i32.const 7))"
)
SPINS = _module("(loop $l (br $l))")


def _install(vm: AgentVM) -> None:
    vm.fs.mkdir("/bin", exist_ok=True)
    vm.fs.mkdir("/opt")
    for name, data in {"exits": EXITS, "says": SAYS, "spins": SPINS}.items():
        vm.fs.write(f"/bin/{name}", data, mode=0o755)
    vm.fs.write("/bin/plain", EXITS, mode=0o644)
    vm.fs.write("/bin/text", b"echo hello", mode=0o755)
    vm.fs.write("/bin/script", b"#!/bin/says option\n", mode=0o755)
    vm.fs.write("/bin/loop", b"#!/bin/loop\n", mode=0o755)
    vm.fs.write("/bin/lost", b"#!/bin/nowhere\n", mode=0o755)
    vm.fs.write("/opt/says", SAYS, mode=0o755)


@pytest.fixture
def rig(boot_host: Boot) -> Rig:
    return boot_host(setup=_install)


def _strings(*strings: str) -> bytes:
    return b"".join(string.encode() + b"\0" for string in strings)


def _action(command: int, fd: int = 0, source: int = 0, flags: int = 0, mode: int = 0, path: bytes = b"") -> bytes:
    return pack("<IiiiII", command, fd, source, flags, mode, len(path)) + path


def _arguments(
    rig: Rig,
    path: str,
    argv: bytes | None = None,
    *actions: bytes,
    env: bytes = b"",
    cwd: str = "",
    search: str = "",
    flags: int = 0,
    mask: int = 0,
    pgroup: int = 0,
) -> tuple[int, ...]:
    def block(data: bytes) -> tuple[int, int]:
        return (rig.put(data), len(data)) if data else (0, 0)

    return (
        *block(path.encode()),
        *block(_strings(path) if argv is None else argv),
        *block(env),
        *block(b"".join(actions)),
        *block(cwd.encode()),
        *block(search.encode()),
        flags,
        0,
        0,
        mask & 0xFFFF_FFFF,
        mask >> 32,
        pgroup,
        0,
        0,
    )


def _spawn(rig: Rig, *arguments: object, **options: object) -> int:
    return rig.made("proc_spawn_v4", *_arguments(rig, *arguments, **options))  # type: ignore[arg-type]


def _refused(rig: Rig, *arguments: object, **options: object) -> Errno:
    return rig.call("proc_spawn_v4", *_arguments(rig, *arguments, **options), 64)  # type: ignore[arg-type]


def _wait(rig: Rig, pid: int = ANY, options: int = 0) -> tuple[int, int]:
    rig.ok("proc_waitpid_v3", pid, options, 64, 68, writes=[(64, 8)])
    return rig.number(68), rig.number(64)


# -- spawn ------------------------------------------------------------------------------------------------------------
def test_spawn_starts_a_program_and_wait_returns_its_status_once(rig: Rig) -> None:
    pid = _spawn(rig, "/bin/exits")
    assert _wait(rig, pid) == (pid, 7 << 8)
    assert rig.call("proc_waitpid_v3", pid, 0, 64, 68) is Errno.ECHILD


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("", Errno.ENOENT),
        ("/bin/nothing", Errno.ENOENT),
        ("/bin/exits/x", Errno.ENOTDIR),
        ("/bin", Errno.EACCES),
        ("/bin/plain", Errno.EACCES),
        ("/bin/text", Errno.ENOEXEC),
        ("/bin/loop", Errno.ELOOP),
        ("/bin/lost", Errno.ENOENT),
        ("/bin/" + "x" * 300, Errno.ENAMETOOLONG),
        ("/" + "x/" * 3000, Errno.ENAMETOOLONG),
    ],
)
def test_spawn_of_what_cannot_be_run_is_refused_and_leaves_no_process(rig: Rig, path: str, errno: Errno) -> None:
    assert _refused(rig, path, b"a\0") is errno
    assert rig.call("proc_waitpid_v3", ANY, NO_HANG, 64, 68) is Errno.ECHILD
    assert rig.vm.usage()["max_processes"].used == 1


def test_spawn_hands_over_standard_output_by_an_action(rig: Rig) -> None:
    reader, writer = rig.space(4), rig.space(4)
    rig.ok("fd_pipe", reader, writer)
    read_end, write_end = rig.number(reader), rig.number(writer)
    pid = _spawn(rig, "/bin/says", _strings("abc"), _action(DUP2, 1, write_end), _action(CLOSEFROM, 3))
    rig.ok("fd_close", write_end)
    assert rig.read_fd(read_end, 9) == b"abc\0"
    assert rig.read_fd(read_end, 9) == b""
    assert _wait(rig) == (pid, 7 << 8)


def test_spawn_opens_a_file_for_the_child(rig: Rig) -> None:
    _spawn(rig, "/bin/says", _strings("abc"), _action(OPEN, 1, 0, WRONLY | CREAT, 0o600, b"/opt/out"))
    _wait(rig)
    assert rig.vm.fs.read("/opt/out") == b"abc\0"
    assert rig.vm.fs.stat("/opt/out").mode & 0o777 == 0o600


def test_spawn_searches_its_path_in_order(rig: Rig) -> None:
    assert _refused(rig, "says", b"a\0", search="/nowhere:/etc") is Errno.ENOENT
    _spawn(rig, "says", _strings("abc"), search="/nowhere:/opt:/bin")
    assert _wait(rig)[1] == 7 << 8
    assert _refused(rig, "plain", b"a\0", search="/nowhere:/bin:/opt") is Errno.EACCES


def test_spawn_resolves_a_relative_path_from_the_childs_directory(rig: Rig) -> None:
    _spawn(rig, "says", _strings("abc"), cwd="/opt")
    assert _wait(rig)[1] == 7 << 8
    assert _refused(rig, "nothing", b"a\0", cwd="/opt") is Errno.ENOENT


def test_a_script_runs_its_interpreter_with_the_option_and_its_own_path(rig: Rig) -> None:
    reader, writer = rig.space(4), rig.space(4)
    rig.ok("fd_pipe", reader, writer)
    pid = _spawn(rig, "/bin/script", _strings("zero", "one"), _action(DUP2, 1, rig.number(writer)))
    assert rig.read_fd(rig.number(reader), 9) == b"/bin"
    record = rig.vm._kernel.processes.find(pid)
    argv = record.image.argv if record is not None else ()
    assert argv == (b"/bin/says", b"option", b"/bin/script", b"one")
    _wait(rig)


@pytest.mark.parametrize(
    ("actions", "errno"),
    [
        (_action(DUP2, 1, 99), Errno.EBADF),
        (_action(DUP2, -1, 1), Errno.EBADF),
        (_action(DUP2, 1 << 20, 1), Errno.EBADF),
        (_action(OPEN, 5, 0, 0, 0, b"/nothing"), Errno.ENOENT),
        (_action(OPEN, 5, 0, 0, 0, b""), Errno.ENOENT),
        (_action(OPEN, 5, 0, WRONLY, 0, b"/bin"), Errno.EISDIR),
        (_action(CHDIR, path=b"/nowhere"), Errno.ENOENT),
        (_action(CHDIR, path=b"/bin/exits"), Errno.ENOTDIR),
        (_action(FCHDIR, 99), Errno.EBADF),
        (_action(FCHDIR, 0), Errno.ENOTDIR),
        (_action(7), Errno.EINVAL),
        (_action(CLOSE)[:-1], Errno.EINVAL),
        (_action(CHDIR, path=b"/bin")[:-1], Errno.EINVAL),
    ],
)
def test_an_action_that_fails_fails_the_spawn_and_leaves_no_process(rig: Rig, actions: bytes, errno: Errno) -> None:
    assert _refused(rig, "/bin/exits", None, actions) is errno
    usage = rig.vm.usage()
    assert usage["max_processes"].used == 1
    assert usage["max_open_fds"].used == 3


@pytest.mark.parametrize(
    ("flags", "errno"),
    [(256, Errno.ENOTSUP), (1 << 31, Errno.ENOTSUP), (SETSID | SETPGROUP, Errno.EPERM)],
)
def test_spawn_refuses_attributes_that_it_does_not_know_or_that_exclude_each_other(
    rig: Rig, flags: int, errno: Errno
) -> None:
    assert _refused(rig, "/bin/exits", flags=flags) is errno


def test_spawn_attributes_set_groups_sessions_and_masks(rig: Rig) -> None:
    own = rig.made("proc_getpgid", 0)
    table = rig.vm._kernel.processes
    grouped = _spawn(rig, "/bin/spins", flags=SETPGROUP)
    member = _spawn(rig, "/bin/spins", flags=SETPGROUP, pgroup=grouped)
    alone = _spawn(rig, "/bin/spins", flags=SETSID)
    masked = _spawn(rig, "/bin/spins", flags=SETSIGMASK, mask=1 << 9 | 1 << 40)
    assert [table.get(pid).pgid for pid in (grouped, member, alone, masked)] == [grouped, grouped, alone, own]
    assert [table.get(pid).sid for pid in (grouped, member, alone)] == [table.get(masked).sid] * 2 + [alone]
    assert table.get(masked).signals.blocked == 1 << 9 | 1 << 40
    assert _refused(rig, "/bin/exits", flags=SETPGROUP, pgroup=9999) is Errno.EPERM
    for pid in (grouped, member, alone, masked):
        rig.ok("proc_kill", pid, Signal.SIGKILL)
        assert _wait(rig, pid) == (pid, 9)


def test_lists_that_are_too_long_or_cut_off_are_refused(boot_host: Boot) -> None:
    limits = Limits(max_argv_bytes=64, max_env_bytes=64, max_spawn_actions=2, max_spawn_action_bytes=96)
    rig = boot_host(setup=_install, vm={"limits": limits})
    assert _refused(rig, "/bin/exits", b"x" * 63 + b"\0y\0") is Errno.E2BIG
    assert _refused(rig, "/bin/exits", env=b"x" * 64 + b"\0") is Errno.E2BIG
    assert _refused(rig, "/bin/exits", b"no end") is Errno.EINVAL
    assert _refused(rig, "/bin/exits", None, *[_action(CLOSE, 0)] * 3) is Errno.E2BIG
    assert _refused(rig, "/bin/exits", None, _action(CHDIR, path=b"/" * 90)) is Errno.E2BIG


def test_the_table_is_full_and_zombies_count(boot_host: Boot) -> None:
    rig = boot_host(setup=_install, vm={"limits": Limits(max_processes=3)})
    first, second = _spawn(rig, "/bin/exits"), _spawn(rig, "/bin/exits")
    assert _refused(rig, "/bin/exits") is Errno.EAGAIN
    assert _wait(rig, first)[0] == first
    _spawn(rig, "/bin/exits")
    assert {_wait(rig)[0] for _ in range(2)} >= {second}


def test_wild_pointers_are_efault_before_anything_happens(rig: Rig) -> None:
    good = _arguments(rig, "/bin/exits", None, _action(CLOSE, 0), cwd="/", search="/bin", env=_strings("A=1"))
    for index in range(0, 12, 2):
        wild = (*good[:index], WILD, 16, *good[index + 2 :])
        assert rig.call("proc_spawn_v4", *wild, 64) is Errno.EFAULT
    assert rig.call("proc_spawn_v4", *good, MEMORY_BYTES - 3) is Errno.EFAULT
    assert rig.vm.usage()["max_processes"].peak == 1


def test_older_spawns_give_three_streams_and_nothing_else(rig: Rig) -> None:
    reader, writer = rig.space(4), rig.space(4)
    rig.ok("fd_pipe", reader, writer)
    out = rig.number(writer)
    path, argv = _strings("/bin/says")[:-1], _strings("/opt/says")
    pid = rig.made("proc_spawn_v2", rig.put(path), len(path), rig.put(argv), len(argv), 0, 0, ANY, out, ANY, 0, 0)
    assert rig.read_fd(rig.number(reader), 9) == b"/opt"
    assert _wait(rig) == (pid, 7 << 8)
    pid = rig.made("proc_spawn", rig.put(argv), len(argv), 0, 0, ANY, out, ANY, 0, 0)
    assert rig.read_fd(rig.number(reader), 9) == b"/opt"
    assert _wait(rig) == (pid, 7 << 8)


# -- exec -------------------------------------------------------------------------------------------------------------
def _exec(rig: Rig, path: str, argv: bytes = b"a\0") -> Errno:
    return rig.call("proc_exec", *rig.text(path), rig.put(argv), len(argv), 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("path", "errno"),
    [("/bin/nothing", Errno.ENOENT), ("/bin/plain", Errno.EACCES), ("/bin/text", Errno.ENOEXEC)],
)
def test_an_exec_that_fails_leaves_the_caller_as_it_was(rig: Rig, path: str, errno: Errno) -> None:
    assert _exec(rig, path) is errno
    fd = rig.create("/file", b"text")
    assert rig.read_fd(fd, 9) == b"text"


def test_a_reactor_cannot_become_a_program(rig: Rig) -> None:
    assert _exec(rig, "/bin/exits") is Errno.ENOTSUP


# -- wait -------------------------------------------------------------------------------------------------------------
def test_wait_without_children_is_echild(rig: Rig) -> None:
    for pid in (ANY, 0, 77, 0xFFFF_FF00):
        assert rig.call("proc_waitpid_v3", pid, 0, 64, 68) is Errno.ECHILD


def test_wait_that_may_not_wait_says_that_nobody_is_there(rig: Rig) -> None:
    pid = _spawn(rig, "/bin/spins")
    assert _wait(rig, ANY, NO_HANG) == (0, 0)
    rig.ok("proc_kill", pid, Signal.SIGTERM)
    assert _wait(rig) == (pid, 15)


def test_wait_tells_of_stops_and_continues_once_each(rig: Rig) -> None:
    pid = _spawn(rig, "/bin/spins")
    rig.ok("proc_kill", pid, Signal.SIGSTOP)
    assert _wait(rig, pid, UNTRACED) == (pid, 19 << 8 | 0x7F)
    assert _wait(rig, pid, UNTRACED | NO_HANG) == (0, 0)
    rig.ok("proc_kill", pid, Signal.SIGCONT)
    assert _wait(rig, pid, CONTINUED) == (pid, 0xFFFF)
    assert _wait(rig, pid, CONTINUED | UNTRACED | NO_HANG) == (0, 0)
    rig.ok("proc_kill", pid, Signal.SIGKILL)
    assert _wait(rig, pid, CONTINUED | UNTRACED) == (pid, 9)


@pytest.mark.parametrize("name", ["proc_waitpid", "proc_waitpid_v2", "proc_waitpid_v3"])
def test_unknown_options_are_einval(rig: Rig, name: str) -> None:
    results = {"proc_waitpid_v2": 4}.get(name, 2)
    for options in (4, 16, 1 << 31):
        assert rig.call(name, ANY, options, *range(64, 64 + 4 * results, 4)) is Errno.EINVAL


def test_older_waits_report_code_and_signal(rig: Rig) -> None:
    pid = _spawn(rig, "/bin/exits")
    rig.ok("proc_waitpid_v2", ANY, 0, 64, 68, 72, 76, writes=[(64, 16)])
    assert [rig.number(place) for place in (64, 68, 72, 76)] == [7, 0, pid, 0]
    pid = _spawn(rig, "/bin/spins")
    rig.ok("proc_kill", pid, Signal.SIGTERM)
    rig.ok("proc_waitpid", pid, 0, 64, 68, writes=[(64, 8)])
    assert (rig.number(64), rig.number(68)) == (128 + 15, pid)


# -- ids and groups ---------------------------------------------------------------------------------------------------
def test_ids_are_those_of_the_table(rig: Rig) -> None:
    pid = rig.made("proc_getpid")
    assert pid == rig.instance.pid
    assert rig.made("proc_getppid") == 1
    assert rig.made("proc_getpgid", 0) == rig.made("proc_getpgid", pid) == pid
    assert rig.call("proc_getpgid", 99, 64) is Errno.ESRCH


def test_setpgid_moves_children_until_they_have_become_others(rig: Rig) -> None:
    first, second = _spawn(rig, "/bin/spins"), _spawn(rig, "/bin/spins")
    rig.ok("proc_setpgid", first, 0)
    rig.ok("proc_setpgid", second, first)
    assert rig.made("proc_getpgid", second) == first
    assert rig.call("proc_setpgid", second, 9999) is Errno.EPERM
    assert rig.call("proc_setpgid", second, 0xFFFF_FFFF) is Errno.EINVAL
    assert rig.call("proc_setpgid", 9999, 0) is Errno.ESRCH
    assert rig.call("proc_setpgid", 0, 0) is Errno.EPERM, "it leads its session"
    rig.ok("proc_kill", -first & 0xFFFF_FFFF, Signal.SIGKILL)
    assert {_wait(rig, -first & 0xFFFF_FFFF)[0] for _ in range(2)} == {first, second}


def test_umask_is_changed_and_told(rig: Rig) -> None:
    assert rig.made("proc_umask", 0o7077) == 0o022
    assert rig.made("umask", 0, 0) == 0o077
    assert rig.made("umask", 0o027, 1) == 0o077
    rig.open("made", 1)
    assert rig.vm.fs.stat("/made").mode & 0o777 == 0o640


# -- kill -------------------------------------------------------------------------------------------------------------
def test_kill_of_nobody_and_with_nothing(rig: Rig) -> None:
    own = rig.made("proc_getpid")
    rig.ok("proc_kill", own, 0)
    assert rig.call("proc_kill", 9999, 0) is Errno.ESRCH
    assert rig.call("proc_kill", -9999 & 0xFFFF_FFFF, 0) is Errno.ESRCH
    assert rig.call("proc_kill", 0x8000_0000, 0) is Errno.ESRCH
    assert rig.call("proc_kill", 1, Signal.SIGTERM) is Errno.EPERM
    for number in (65, 0xFFFF_FFFF):
        assert rig.call("proc_kill", own, number) is Errno.EINVAL


def test_a_zombie_can_be_signalled_to_no_effect(rig: Rig) -> None:
    pid = _spawn(rig, "/bin/exits")
    _wait_until_zombie(rig, pid)
    rig.ok("proc_kill", pid, Signal.SIGKILL)
    assert _wait(rig) == (pid, 7 << 8)


def _wait_until_zombie(rig: Rig, pid: int) -> None:
    record = rig.vm._kernel.processes.get(pid)
    assert record.ended.wait(60)


# -- dispositions and masks -------------------------------------------------------------------------------------------
def test_dispositions_that_cannot_be(rig: Rig) -> None:
    for number in (0, 9, 19, 65):
        assert rig.call("proc_sigaction", number, 1, 0, 0, 0) is Errno.EINVAL
    assert rig.call("proc_sigaction", 10, 3, 0, 0, 0) is Errno.EINVAL
    rig.ok("proc_sigaction", 10, 2, 0, 0, 0)


def test_the_mask_blocks_unblocks_sets_and_tells(rig: Rig) -> None:
    def change(how: int, mask: int) -> int:
        rig.ok("proc_signal_mask_v2", how, mask & 0xFFFF_FFFF, mask >> 32, 64, 68, writes=[(64, 8)])
        return rig.number(64) | rig.number(68) << 32

    assert change(0, 1 << 9 | 1 << 63) == 0
    assert change(0, 1 << 10) == 1 << 9 | 1 << 63
    assert change(1, 1 << 9) == 1 << 9 | 1 << 10 | 1 << 63
    assert change(2, 1 << 8 | 1 << 18 | 1 << 11) == 1 << 10 | 1 << 63, "SIGKILL and SIGSTOP cannot be blocked"
    assert change(3, 0) == 1 << 11
    assert change(3, 0) == 1 << 11
    assert rig.call("proc_signal_mask_v2", 4, 0, 0, 64, 68) is Errno.EINVAL
