"""The configuration file: `agentvm.toml`, or the same as JSON."""

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentvm.errors import InvalidConfig
from agentvm.host.directory import HostDirectory
from agentvm.limits.layers import Accepts, Layer

if TYPE_CHECKING:
    from agentvm.config.schema import Document

__all__ = ["FileSettings", "LogSettings", "read_file"]

#: How the TOML parser says where it stopped.
_POSITION, _END = re.compile(r" \(at line (\d+), column (\d+)\)$"), " (at end of document)"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how; None leaves it as it is."""

    level: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a file says."""

    layer: Layer = field(default_factory=Layer)
    mounts: Mapping[str, HostDirectory] = field(default_factory=dict)
    log: LogSettings = LogSettings()
    cgroup: str | None = None


def read_file(path: str, *, was_named: bool = True) -> FileSettings:
    """Read a file. One that was only found, not named, may mount nothing outside its own directory.

    Raises `InvalidConfig` for a file that cannot be read or parsed, and for a section, key or mount that cannot be;
    `InvalidLimit` for a limit that cannot be.
    """
    from agentvm.config.schema import validate
    from agentvm.limits.parse import parse_object

    document = validate(path, _parse(path, _read(path)))
    layer = Layer()

    def place(groups: tuple[str, ...], key: str) -> str:
        return f"{path}: [{'.'.join(groups)}] {key}"

    parse_object(layer, document.resources, place=place, groups=("resources",))
    parse_object(layer, document.limits, place=place, groups=("limits",))
    parse_object(layer, document.host, place=place, groups=("host",), accepts=Accepts.HOST)
    log = LogSettings(document.log.level, document.log.format)
    return FileSettings(layer, _mounts(path, document, was_named=was_named), log, document.cgroup)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}", path=path) from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unparsable(path, data.count(b"\n", 0, error.start) + 1, None, "it is no UTF-8 text") from None


def _parse(path: str, text: str) -> Any:
    if path.endswith(".json"):
        return _parse_json(path, text)
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _POSITION.search(message)
        line, column = map(int, position.groups()) if position else (text.count("\n") + 1, None)
        raise _unparsable(path, line, column, _POSITION.sub("", message).removesuffix(_END)) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise _unparsable(path, None, None, str(error)) from None


def _parse_json(path: str, text: str) -> Any:
    from json import JSONDecodeError

    from agentvm.limits.parse import parse_json

    try:
        return parse_json(text)
    except JSONDecodeError as error:
        raise _unparsable(path, error.lineno, error.colno, error.msg) from None
    except ValueError as error:
        raise _unparsable(path, None, None, str(error)) from None


def _unparsable(path: str, line: int | None, column: int | None, why: str) -> InvalidConfig:
    where = "".join(f", {name} {number}" for name, number in (("line", line), ("column", column)) if number is not None)
    return InvalidConfig(f"{path}{where}: {why}", path=path, line=line, column=column)


# -- mounts -----------------------------------------------------------------------------------------------------------
def _mounts(path: str, document: "Document", *, was_named: bool) -> dict[str, HostDirectory]:
    directory = os.path.dirname(os.path.abspath(path))
    mounts: dict[str, HostDirectory] = {}
    for guest, mount in document.mounts.items():
        where = f"{path}: [mounts] {guest}"
        point = posixpath.normpath(guest)
        if not guest.startswith("/") or "\0" in guest + mount.host:
            raise InvalidConfig(f"{where}: it must be an absolute path in the VM, such as /work", path=path, key=guest)
        if point in mounts:
            raise InvalidConfig(f"{where}: {point} is mounted twice: leave one out", path=path, key=guest)
        host = os.path.join(directory, mount.host)
        if not was_named and not _lies_in(host, directory):
            raise InvalidConfig(
                f"{where}: {mount.host} lies outside {directory}, and this file was only found in the working "
                f"directory: name it, with --config or AGENTVM_CONFIG, to let it mount that",
                path=path,
                key=guest,
            )
        mounts[point] = HostDirectory(host, read_only=mount.read_only)
    return dict(sorted(mounts.items()))  # a mount point comes before those that lie in it


def _lies_in(path: str, directory: str) -> bool:
    real = os.path.realpath(directory)
    return os.path.commonpath([os.path.realpath(path), real]) == real
