"""The types of call parameters and results: what they are in wasm, how they are decoded, what they can fail with.

A handler annotates its parameters with these; the decoder, the wasm type, the trace line and the docs row of a call all
come from them (see abi/syscall.py and engine/dispatch.py).
"""

from dataclasses import dataclass
from typing import Annotated

from agentvm.abi.records import FdStat
from agentvm.errno import Errno
from agentvm.kernel.stat import FileStat

__all__ = [
    "Advice",
    "Block",
    "ClockId",
    "Cookie",
    "Direct",
    "ExitCode",
    "Fd",
    "FdFlagsBits",
    "FileDelta",
    "FileSize",
    "FstFlags",
    "LookupFlags",
    "NewFd",
    "NewPid",
    "Number",
    "Number64",
    "OFlags",
    "OutBuffer",
    "Param",
    "Path",
    "Pointer",
    "Prestat",
    "ReadBuffers",
    "Record",
    "RightsBits",
    "RoFlags",
    "SdFlags",
    "SignalNumber",
    "Signed",
    "Signed64",
    "Size",
    "SocketFlags",
    "Stat",
    "StatFd",
    "Timestamp",
    "WhenceNumber",
    "WriteBuffers",
]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. `wasm` are its raw values, `suffixes` name them in traces after the parameter's own name, `decode`
    is the Python expression that makes the handler's argument from them ({0}, {1}: raw unsigned values)."""

    wasm: tuple[str, ...]
    decode: str
    suffixes: tuple[str, ...] = ("",)
    errnos: tuple[Errno, ...] = ()
    #: Whether the specification has signed numbers here, so that traces write them so.
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A result, written to guest memory through a pointer parameter. `pack` names a function of abi/records.py."""

    size: int
    pack: str
    #: Whether it says how many bytes were moved.
    is_count: bool = False


@dataclass(frozen=True, slots=True)
class Direct:
    """A result that the call returns itself, where others return their errno; `on_error` says that it failed."""

    wasm: str
    on_error: int


_U32 = Param(("i32",), "{0}")
_U64 = Param(("i64",), "{0}")
_S64 = Param(("i64",), "(({0} ^ 0x8000000000000000) - 0x8000000000000000)", signed=True)

_S32 = Param(("i32",), "(({0} ^ 0x80000000) - 0x80000000)", signed=True)

Number = Annotated[int, _U32, Record(4, "pack_u32")]
Number64 = Annotated[int, _U64, Record(8, "pack_u64")]
Signed = Annotated[int, _S32]
Signed64 = Annotated[int, _S64]
Fd = Annotated[int, Param(("i32",), "{0}", errnos=(Errno.EBADF,))]
Size = Annotated[int, _U32, Record(4, "pack_u32", is_count=True)]
NewFd = Annotated[int, Record(4, "pack_u32")]
NewPid = Annotated[int, Record(4, "pack_u32")]
RoFlags = Annotated[int, Record(2, "pack_u16")]
FileSize = Annotated[int, _U64, Record(8, "pack_u64")]
Timestamp = Annotated[int, _U64, Record(8, "pack_u64")]
FileDelta = Annotated[int, _S64]
Cookie = Annotated[int, _U64]
RightsBits = Annotated[int, _U64]
Advice = Annotated[int, _U32]
ClockId = Annotated[int, _U32]
ExitCode = Annotated[int, _U32]
FdFlagsBits = Annotated[int, _U32]
FstFlags = Annotated[int, _U32]
LookupFlags = Annotated[int, _U32]
OFlags = Annotated[int, _U32]
SdFlags = Annotated[int, _U32]
SignalNumber = Annotated[int, _U32]
SocketFlags = Annotated[int, _U32]
WhenceNumber = Annotated[int, _U32]

Pointer = Annotated[int, Param(("i32",), "{0}", errnos=(Errno.EFAULT,))]
Path = Annotated[bytes, Param(("i32", "i32"), "memory.path({0}, {1})", ("", "_len"), (Errno.EFAULT, Errno.EILSEQ))]
ReadBuffers = Annotated[
    tuple[memoryview, ...],
    Param(("i32", "i32"), "memory.buffers({0}, {1})", ("", "_len"), (Errno.EFAULT, Errno.EINVAL)),
]
WriteBuffers = ReadBuffers
#: Bytes of the guest as they are, to be read: they are not copied.
Block = Annotated[memoryview, Param(("i32", "i32"), "memory.span({0}, {1})", ("", "_len"), (Errno.EFAULT,))]
OutBuffer = Annotated[memoryview, Param(("i32", "i32"), "memory.span({0}, {1})", ("", "_len"), (Errno.EFAULT,))]

Stat = Annotated[FileStat, Record(64, "pack_filestat")]
StatFd = Annotated[FdStat, Record(24, "pack_fdstat")]
Prestat = Annotated[int, Record(8, "pack_prestat")]
