"""`AgentVM.run`: arguments, streams, files, endings, and what is refused before anything runs."""

import threading
from pathlib import Path

import pytest

from agentvm import AgentVM, AgentVMError, CauseKind, Limits, Signal
from agentvm.errors import (
    GuestFailed,
    InvalidArgument,
    InvalidLimit,
    MissingExport,
    NotRunnable,
    NotWasm,
    ProgramNotFound,
    VMClosed,
)

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"


def guest(name: str) -> Path:
    return GUESTS / f"{name}.wasm"


def test_hello_prints_and_exits_with_zero() -> None:
    with AgentVM() as vm:
        result = vm.run(guest("hello"))
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == (b"hello from a VM\n", b"", 0, None)
    assert result.ok
    assert not result.truncated
    assert result.cause.kind is CauseKind.EXIT
    assert result.check() is result


def test_a_module_can_be_given_as_bytes() -> None:
    with AgentVM() as vm:
        assert vm.run(guest("hello").read_bytes()).check().stdout_text == "hello from a VM\n"


def test_args_and_env_reach_the_guest_exactly() -> None:
    with AgentVM() as vm:
        env = {"A": "1", "EMPTY": "", "X": "a=b"}
        result = vm.run(guest("argv"), args=["first", 'with "quotes"', "", "ünï"], env=env)
    assert result.check().stdout_text.splitlines()[:8] == [
        "argc 5",
        'argv[1] "first"',
        'argv[2] "with \\"quotes\\""',
        'argv[3] ""',
        'argv[4] "\\xc3\\xbcn\\xc3\\xaf"',
        'env "A=1"',
        'env "EMPTY="',
        'env "X=a=b"',
    ]


def test_argv0_can_be_chosen() -> None:
    with AgentVM() as vm:
        path = "/proc/self/cmdline"
        assert vm.run(guest("cat"), args=[path], argv0="busybox").stdout == b"busybox\0/proc/self/cmdline\0"
        assert vm.run(guest("cat"), args=[path]).stdout == b"cat.wasm\0/proc/self/cmdline\0"


def test_stdin_is_read_to_its_end() -> None:
    data = bytes(range(256)) * 1000
    with AgentVM() as vm:
        assert vm.run(guest("cat"), stdin=data).check().stdout == data


def test_files_go_in_and_come_out() -> None:
    with AgentVM() as vm:
        vm.fs.write("/home/in.txt", b"hello")
        assert vm.run(guest("cat"), args=["/home/in.txt"]).check().stdout == b"hello"


def test_relative_paths_start_at_cwd() -> None:
    with AgentVM() as vm:
        vm.fs.write("/home/in.txt", b"here")
        vm.fs.write("/in.txt", b"not here")
        assert vm.run(guest("cat"), args=["in.txt"], cwd="/home").check().stdout == b"here"
        assert vm.run(guest("cat"), args=["/home/in.txt"], cwd="/tmp").check().stdout == b"here"
        assert vm.run(guest("cat"), args=["in.txt"]).check().stdout == b"not here"


def test_preopens_are_all_that_a_program_can_reach() -> None:
    with AgentVM() as vm:
        vm.fs.write("/home/in.txt", b"yes")
        vm.fs.write("/secret", b"no")
        assert vm.run(guest("cat"), args=["/home/in.txt"], preopens=["/home"]).check().stdout == b"yes"
        denied = vm.run(guest("cat"), args=["/secret"], preopens=["/home"])
        assert not denied.ok
        assert b"no" not in denied.stdout


def test_devices_are_there() -> None:
    with AgentVM() as vm:
        assert vm.run(guest("cat"), args=["/dev/null"]).check().stdout == b""
        assert b"MemTotal" in vm.run(guest("cat"), args=["/proc/meminfo"]).check().stdout


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 255])
def test_exit_codes_come_through(code: int) -> None:
    with AgentVM() as vm:
        result = vm.run(guest("exits"), args=["exit", str(code)])
    assert (result.exit_code, result.shell_code) == (code, code)


def test_a_trap_is_a_signal_with_a_backtrace() -> None:
    with AgentVM() as vm:
        result = vm.run(guest("exits"), args=["unreachable"])
    assert result.signal is Signal.SIGILL
    assert result.cause.kind is CauseKind.TRAP
    assert result.cause.backtrace
    with pytest.raises(GuestFailed, match="SIGILL") as caught:
        result.check()
    assert caught.value.values["result"] is result


def test_a_timeout_kills_and_says_so() -> None:
    with AgentVM() as vm:
        vm.run(guest("spin"), args=["no such mode"])  # compiled and cached
        result = vm.run(guest("spin"), timeout=0.2)
    assert result.signal is Signal.SIGKILL
    assert (result.cause.kind, result.cause.limit) == (CauseKind.LIMIT, "max_wall_time_seconds")
    assert result.cause.cap == 0.2
    assert "max_wall_time_seconds" in (result.cause.setting or "")


def test_output_past_max_log_bytes_is_marked_truncated() -> None:
    with AgentVM(Limits(max_log_bytes="10k")) as vm:
        result = vm.run(guest("cat"), stdin=b"x" * 20_000)
    assert len(result.stdout) + len(result.stderr) <= 10 * 1024
    assert result.truncated


def test_deterministic_vms_repeat_themselves() -> None:
    def once(seed: int) -> tuple[int, bytes]:
        with AgentVM(deterministic=True, seed=seed) as vm:
            vm.fs.write("/a", b"")
            return vm.fs.stat("/a").mtime_ns, vm.run(guest("postcard")).stdout

    assert once(3) == once(3)


def test_the_host_can_look_at_usage() -> None:
    with AgentVM() as vm:
        result = vm.run(guest("postcard"))
        assert result.usage.fuel > 1000
        assert result.usage.cpu_seconds > 0
        assert result.usage.peak_memory_bytes >= 65536
        assert result.usage["max_open_fds"].peak >= 4
        assert vm.usage()["max_open_fds"].used == 0
        assert vm.usage()["max_processes"].used == 0
        assert vm.usage()["max_memory_bytes"].used == 0


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"cwd": "relative"}, "cwd"),
        ({"cwd": "/missing"}, "ENOENT"),
        ({"args": ["nul\0"]}, "EINVAL"),
        ({"env": {"": "x"}}, "variable"),
        ({"env": {"A=B": "x"}}, "variable"),
        ({"args": ["x" * (2 << 20)]}, "E2BIG"),
        ({"env": {"A": "x" * (2 << 20)}}, "E2BIG"),
        ({"preopens": ["/missing"]}, "ENOENT"),
    ],
)
def test_bad_arguments_are_refused(kwargs: dict[str, object], error: str) -> None:
    with AgentVM() as vm:
        with pytest.raises(InvalidArgument, match=error):
            vm.run(guest("cat"), **kwargs)  # type: ignore[arg-type]
        assert vm.usage()["max_processes"].used == 0
        assert vm.usage()["max_open_fds"].used == 0


def test_a_missing_program_is_not_found() -> None:
    with AgentVM() as vm, pytest.raises(ProgramNotFound):
        vm.run("/no/such/file.wasm")


def test_what_is_not_wasm_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho hi\n")
    with AgentVM() as vm, pytest.raises(NotWasm):
        vm.run(script)


def test_a_reactor_cannot_be_run() -> None:
    with AgentVM() as vm, pytest.raises(MissingExport, match="_start"):
        vm.run(guest("reactor"))


def test_errors_share_one_base_and_an_exit_status() -> None:
    assert issubclass(NotRunnable, AgentVMError)
    assert (NotRunnable.exit_status, ProgramNotFound.exit_status, InvalidArgument.exit_status) == (126, 127, 125)


def test_unknown_limits_name_the_nearest() -> None:
    with AgentVM() as vm, pytest.raises(InvalidLimit, match="max_open_fds"):
        vm.raise_limit(max_open_fd=3)


def test_a_cap_can_only_be_raised() -> None:
    with AgentVM(Limits(max_open_fds=100)) as vm:
        vm.raise_limit(max_open_fds=200)
        assert vm.usage()["max_open_fds"].cap == 200
        with pytest.raises(InvalidLimit, match="only be raised"):
            vm.raise_limit(max_open_fds=50)


def test_a_closed_vm_refuses() -> None:
    vm = AgentVM()
    vm.close()
    vm.close()
    with pytest.raises(VMClosed):
        vm.run(guest("hello"))


def test_many_threads_share_one_vm() -> None:
    with AgentVM() as vm:
        outputs: list[bytes] = []

        def work() -> None:
            for _ in range(5):
                outputs.append(vm.run(guest("hello")).check().stdout)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outputs == [b"hello from a VM\n"] * 40
        assert vm.usage()["max_processes"].used == 0
