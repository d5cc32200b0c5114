"""Starts the compiler process when it is first needed, hands it jobs, and ends it with the program."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from agentvm.engine.compile_worker import Options
from agentvm.errors import CompileLimit, EngineUnsupported, HostLimit

__all__ = ["Zygote"]

#: `-I -S`: nothing from the environment, the working directory or site files; the path is the parent's own.
_BOOT = """import sys, json
sys.path[:] = json.loads(sys.argv[1])
from agentvm.engine.compile_worker import main
main({}, {})"""
#: The rest of the environment is none of the compiler's business.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "TMPDIR", "LANG", "LC_ALL")
_SEND_SECONDS = 10.0
_EXIT_SECONDS = 1.0


class Zygote:
    """The compiler process. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by the lock
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._words = -1

    def send(self, fds: Sequence[int], options: Options) -> None:
        """Hand over a job, starting the process if there is none.

        Raises `EngineUnsupported` if it cannot be started, `HostLimit` if it does not answer.
        """
        text = [json.dumps(options).encode()]
        with self._lock:
            for is_last in (False, True):
                control = self._running()
                try:
                    socket.send_fds(control, text, list(fds))
                    return
                except OSError as error:  # it died since, or stands still
                    self._drop()
                    if is_last:
                        raise HostLimit(f"the compiler process takes no jobs: {error}") from error

    def explain_death(self) -> NoReturn:
        """Raise the error for a job whose connection closed without a report."""
        with self._lock:
            process, words = self._process, self._read_words()
            # The connection closes a moment before the process can be waited for.
            is_dead = process is not None and self._has_ended(process)
            if is_dead:
                self._drop()
        if is_dead and words:
            raise EngineUnsupported(f"the compiler process does not run: {words.splitlines()[-1][:300]}")
        raise CompileLimit("the compiler process was ended from outside; try again", limit=None, cpu_seconds=0.0)

    def close(self) -> None:
        """End the process, and with it every job. Waits at most a second."""
        with self._lock:
            self._drop()

    @staticmethod
    def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
        try:
            process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _running(self) -> socket.socket:
        if self._control is not None and self._owner == os.getpid():
            return self._control
        if self._control is not None:  # we are a fork of the program that started it: that one keeps it
            self._control.close()
            self._process = self._control = None
        self._start()
        assert self._control is not None
        return self._control

    def _start(self) -> None:
        try:
            self._words = os.memfd_create("agentvm-compiler", os.MFD_CLOEXEC)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self._drop()
            raise HostLimit(f"the host refused what the compiler needs: {error.strerror}", errno=error.errno) from error
        ours.settimeout(_SEND_SECONDS)
        fd = theirs.fileno()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [_interpreter(), "-I", "-S", "-c", _BOOT.format(fd, os.getpid()), json.dumps(_import_path())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                pass_fds=(fd,),
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            )
        except OSError as error:
            ours.close()
            self._drop()
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}:
                raise HostLimit(f"the host refused a process: {error.strerror}", errno=error.errno) from error
            raise EngineUnsupported(f"the compiler process cannot be started: {error}") from error
        finally:
            theirs.close()
        self._control = ours
        self._owner = os.getpid()

    def _drop(self) -> None:
        process, control = self._process, self._control
        self._process = self._control = None
        if self._words >= 0:
            os.close(self._words)
            self._words = -1
        if control is not None:
            control.close()  # the process sees that, kills its children and ends
        if process is None or self._owner != os.getpid():
            return
        if not self._has_ended(process):
            process.kill()
            process.wait()

    def _read_words(self) -> str:
        if self._words < 0:
            return ""
        size = os.fstat(self._words).st_size
        return os.pread(self._words, 4096, max(0, size - 4096)).decode(errors="replace").strip()


def _interpreter() -> str:
    """Python's own path, also where a program that embeds Python left `sys.executable` empty."""
    if sys.executable and os.path.basename(sys.executable).startswith("python"):
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        path = os.path.join(prefix, "bin", name)
        if os.access(path, os.X_OK):
            return path
    return sys.executable or name


def _import_path() -> list[str]:
    """The parent's import path, and the places of what the compiler needs, however the parent found them."""
    paths = [os.path.abspath(entry) for entry in sys.path]
    for package in ("agentvm", "wasmtime"):
        for place in sys.modules[package].__path__:
            parent = os.path.dirname(os.path.abspath(place))
            if parent not in paths:
                paths.append(parent)
    return paths
