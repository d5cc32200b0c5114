"""`agentvm run`: one program in a VM of its own, its streams tied to ours."""

import argparse
import gc
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace

from agentvm import log
from agentvm.api.launch import StartOptions
from agentvm.api.process import Process
from agentvm.api.result import Result
from agentvm.api.vm import AgentVM
from agentvm.cli import cgroup
from agentvm.cli.interrupts import Interrupts
from agentvm.cli.settings import add_flags, configure_process, read_config_if_any
from agentvm.errors import InvalidArgument, InvalidLimit
from agentvm.host.directory import HostDirectory
from agentvm.kernel.outcome import CauseKind, Signal
from agentvm.limits.caps import DEFAULT_LIMITS, Caps
from agentvm.limits.outlet import Collector
from agentvm.limits.spec import UNBOUNDED

__all__ = ["add_verbs"]

_EPILOG = """\
exit status:
  the program's own; 128 + N when signal N ended it (SIGXCPU 24: fuel and CPU time; SIGKILL 9: wall time;
  SIGSEGV 11: stack overflow); 125 agentvm itself failed; 126 the module cannot be run; 127 no such file.

examples:
  agentvm run hello.wasm
  agentvm run --dir .::/work:ro --cwd /work --timeout 5 --max-memory-bytes 64MiB tool.wasm -- -v in.txt
  agentvm run --stats --limit max_fuel=1e9 untrusted.wasm
  agentvm run --preset tiny --memory 32m --cpus 0.5 untrusted.wasm
"""


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `agentvm run`."""
    parser = verbs.add_parser(
        "run",
        help="run a program",
        usage="agentvm run [FLAGS] GUEST.wasm [--] [ARGS...]",
        description="Run a WASI preview1 program in a VM, with hard caps on all that it can use.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dir",
        action="append",
        default=[],
        metavar="HOST[::GUEST[:ro]]",
        help='show a host directory to the program, at GUEST or under its own name; ":ro" forbids changes',
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="set or pass on a variable")
    parser.add_argument("--cwd", default="/", metavar="DIR", help="the program's working directory in the VM")
    parser.add_argument(
        "--user", metavar="NAME|UID[:GROUP]", help="as whom the program runs in the VM (default 1000:1000)"
    )
    parser.add_argument("--stdin", metavar="FILE", help="read standard input from a file")
    parser.add_argument("--argv0", metavar="NAME", help="argv[0] of the program, instead of the file's name")
    parser.add_argument("--timeout", metavar="SECONDS", help="kill the program after that long")
    parser.add_argument("--deterministic", action="store_true", help="a virtual clock, and randomness from --seed")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of --deterministic (default 0)")
    parser.add_argument("--stats", action="store_true", help="show at the end what was used, on standard error")
    parser.add_argument("--json", action="store_true", help="capture the output, and print one JSON result instead")
    cgroup.add_flags(parser)
    add_flags(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="GUEST.wasm [--] [ARGS...]")
    parser.set_defaults(action=_run)


def _run(options: argparse.Namespace) -> int:
    if not options.command:
        raise InvalidArgument("which program? usage: agentvm run [FLAGS] GUEST.wasm [--] [ARGS...]")
    program, *args = options.command
    args = args[1:] if args[:1] == ["--"] else args
    # Everything is read and checked before anything is opened.
    config = read_config_if_any(options)
    limits = config.limits if config is not None else DEFAULT_LIMITS
    mounts = _mounts(config.mounts if config is not None else {}, options.dir)
    start = StartOptions(
        args=args,
        env=_environment(options.env),
        stdin=_read_file(options.stdin) if options.stdin else b"" if options.json else None,
        cwd=options.cwd,
        timeout=_seconds(options.timeout),
        argv0=options.argv0 or program,
        capture=options.json,
        user=options.user,
        terminals=(False,) * 3 if options.json else (os.isatty(0), os.isatty(1), os.isatty(2)),
    )
    caps, wall = {**Caps(limits)}, options.cgroup or "off"
    if config is not None:
        configure_process(config)
        caps |= dict(config.host.given())
        wall = options.cgroup or config.cgroup
    shown = [os.fsdecode(directory.path) for _, directory in mounts]
    with (
        Interrupts() as interrupts,
        cgroup.confined(wall, caps, shown, log.warn),
        AgentVM(limits, deterministic=options.deterministic, seed=options.seed) as vm,
    ):
        for guest, directory in mounts:
            vm.mount(guest, directory)
        if not options.json:
            start = replace(start, limits=_output_limits(vm))
        events = vm.collect_events() if options.json else Collector()
        process = vm.start(program, start, _Progress(program, interrupts))
        gc.freeze()  # all is loaded
        gc.enable()
        result = _wait(process, interrupts) if options.json else _stream(process, interrupts)
    _report(program, result, options, events)
    return result.shell_code


def _stream(process: Process, interrupts: Interrupts) -> Result:
    """Tie the program's streams to ours until it ends and all its output is out.

    Once it has ended, and its last output waits for a reader that may never come, Ctrl-C or SIGTERM ends us.
    """
    from agentvm.host.streams import pump_in, pump_out

    outputs = [
        pump_out(reader.end, fd, interrupts.wake) for reader, fd in ((process.stdout, 1), (process.stderr, 2)) if reader
    ]
    source = pump_in(0, process.stdin.end) if process.stdin else None
    try:
        result = _wait(process, interrupts)
        while not all(output.is_over for output in outputs):
            if number := interrupts.wait():
                raise SystemExit(128 + number)
    finally:
        for pump in (source, *outputs):
            if pump is not None:
                pump.stop()
    return result


def _wait(process: Process, interrupts: Interrupts) -> Result:
    """Wait for the program's end. The first signal reaches it, and a second one, as an impatient Ctrl-C, ends it."""
    process.add_done_callback(interrupts.wake)
    first = True
    while process.running:
        if number := interrupts.wait():
            # As from a terminal, the first Ctrl-C is for all that the program has started in its group.
            process.send_signal(Signal(number) if first else Signal.SIGKILL, group=first and number == Signal.SIGINT)
            first = False
    return process.wait()


def _report(program: str, result: Result, options: argparse.Namespace, events: Collector) -> None:
    if options.json:
        from agentvm.cli.report import to_json

        print(to_json(result, events.events()))
    elif result.cause.kind not in (CauseKind.EXIT, CauseKind.SIGNAL):
        print(f"agentvm: {program} {result.describe()}", file=sys.stderr)
        for frame in result.cause.backtrace:
            print(f"  {frame}", file=sys.stderr)
    if options.stats:
        from agentvm.cli.report import stats_table

        print(stats_table(result.usage, color=os.isatty(2)), file=sys.stderr)


def _mounts(configured: Mapping[str, HostDirectory], flags: list[str]) -> list[tuple[str, HostDirectory]]:
    """Return what to mount where: what the file says, but for the places that flags give to something else."""
    given = [_read_mount(text) for text in flags]
    taken = {os.path.normpath(guest) for guest, _ in given}
    return [(guest, directory) for guest, directory in configured.items() if guest not in taken] + given


def _read_mount(text: str) -> tuple[str, HostDirectory]:
    host, separator, guest = text.partition("::")
    read_only = guest.endswith(":ro") if separator else host.endswith(":ro")
    if separator:
        guest = guest.removesuffix(":ro") if read_only else guest
    else:
        host = host.removesuffix(":ro") if read_only else host
        guest = os.path.normpath("/" + host)
    if not host or not guest.startswith("/"):
        raise InvalidArgument(f"--dir {text}: it takes HOST, or HOST::GUEST with an absolute GUEST")
    return guest, HostDirectory(host, read_only=read_only)


def _environment(settings: list[str]) -> dict[str, str]:
    environment = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            if name not in os.environ:
                raise InvalidArgument(f"--env {name}: there is no such variable here to pass on; give NAME=VALUE")
            value = os.environ[name]
        environment[name] = value
    return environment


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from agentvm.limits.amount import parse_amount, refusal
    from agentvm.limits.catalogue import SPECS

    spec = SPECS["max_wall_time_seconds"]
    try:
        return float(parse_amount(spec, text))
    except InvalidLimit:
        raise refusal(spec, text, called="--timeout") from None


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidArgument(f"--stdin {path}: {error.strerror}") from None


def _output_limits(vm: AgentVM) -> dict[str, int] | None:
    """Output into a regular file of the host is capped by max_log_bytes unless max_output_bytes was set."""
    for fd in (1, 2):
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and vm.usage()["max_output_bytes"].cap == float("inf"):
                return {"max_output_bytes": int(min(vm.usage()["max_log_bytes"].cap, UNBOUNDED))}
        except OSError:
            continue
    return None


class _Progress:
    """Tells on standard error that a large module is being compiled, and that it will not be the next time.

    A compile that a signal interrupts is given up.
    """

    def __init__(self, program: str, interrupts: Interrupts) -> None:
        self._program = program
        self._interrupts = interrupts
        self._told = False

    def __call__(self, seconds: float) -> None:
        self._interrupts.exit_if_any()
        if not self._told and seconds >= 1:
            self._told = True
            print(f"agentvm: compiling {self._program}; the result is cached", file=sys.stderr)
        elif self._told and os.isatty(2):
            print(f"agentvm: compiling for {seconds:.0f} s", end="\r", file=sys.stderr)
