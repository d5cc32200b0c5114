"""The one list of errors: `Errno` carries the preview1 numbers, `KernelError` carries an errno to the guest.

Source: WASI preview1 witx, `typenames.witx`, `$errno`. Names are POSIX's (`EBADF` where the witx says `badf`).
"""

from enum import IntEnum

__all__ = ["Errno", "KernelError", "describe"]


class Errno(IntEnum):
    """Error numbers as preview1 guests see them; the member's name is the POSIX name."""

    SUCCESS = 0
    E2BIG = 1
    EACCES = 2
    EADDRINUSE = 3
    EADDRNOTAVAIL = 4
    EAFNOSUPPORT = 5
    EAGAIN = 6
    EALREADY = 7
    EBADF = 8
    EBADMSG = 9
    EBUSY = 10
    ECANCELED = 11
    ECHILD = 12
    ECONNABORTED = 13
    ECONNREFUSED = 14
    ECONNRESET = 15
    EDEADLK = 16
    EDESTADDRREQ = 17
    EDOM = 18
    EDQUOT = 19
    EEXIST = 20
    EFAULT = 21
    EFBIG = 22
    EHOSTUNREACH = 23
    EIDRM = 24
    EILSEQ = 25
    EINPROGRESS = 26
    EINTR = 27
    EINVAL = 28
    EIO = 29
    EISCONN = 30
    EISDIR = 31
    ELOOP = 32
    EMFILE = 33
    EMLINK = 34
    EMSGSIZE = 35
    EMULTIHOP = 36
    ENAMETOOLONG = 37
    ENETDOWN = 38
    ENETRESET = 39
    ENETUNREACH = 40
    ENFILE = 41
    ENOBUFS = 42
    ENODEV = 43
    ENOENT = 44
    ENOEXEC = 45
    ENOLCK = 46
    ENOLINK = 47
    ENOMEM = 48
    ENOMSG = 49
    ENOPROTOOPT = 50
    ENOSPC = 51
    ENOSYS = 52
    ENOTCONN = 53
    ENOTDIR = 54
    ENOTEMPTY = 55
    ENOTRECOVERABLE = 56
    ENOTSOCK = 57
    ENOTSUP = 58
    ENOTTY = 59
    ENXIO = 60
    EOVERFLOW = 61
    EOWNERDEAD = 62
    EPERM = 63
    EPIPE = 64
    EPROTO = 65
    EPROTONOSUPPORT = 66
    EPROTOTYPE = 67
    ERANGE = 68
    EROFS = 69
    ESPIPE = 70
    ESRCH = 71
    ESTALE = 72
    ETIMEDOUT = 73
    ETXTBSY = 74
    EXDEV = 75
    ENOTCAPABLE = 76


_TEXT = {
    Errno.SUCCESS: "success",
    Errno.E2BIG: "argument list too long",
    Errno.EACCES: "permission denied",
    Errno.EADDRINUSE: "address in use",
    Errno.EADDRNOTAVAIL: "address not available",
    Errno.EAFNOSUPPORT: "address family not supported",
    Errno.EAGAIN: "resource unavailable, or operation would block",
    Errno.EALREADY: "connection already in progress",
    Errno.EBADF: "bad file descriptor",
    Errno.EBADMSG: "bad message",
    Errno.EBUSY: "device or resource busy",
    Errno.ECANCELED: "operation canceled",
    Errno.ECHILD: "no child processes",
    Errno.ECONNABORTED: "connection aborted",
    Errno.ECONNREFUSED: "connection refused",
    Errno.ECONNRESET: "connection reset",
    Errno.EDEADLK: "resource deadlock would occur",
    Errno.EDESTADDRREQ: "destination address required",
    Errno.EDOM: "mathematics argument out of domain of function",
    Errno.EDQUOT: "disk quota exceeded",
    Errno.EEXIST: "file exists",
    Errno.EFAULT: "bad address",
    Errno.EFBIG: "file too large",
    Errno.EHOSTUNREACH: "host is unreachable",
    Errno.EIDRM: "identifier removed",
    Errno.EILSEQ: "illegal byte sequence",
    Errno.EINPROGRESS: "operation in progress",
    Errno.EINTR: "interrupted function",
    Errno.EINVAL: "invalid argument",
    Errno.EIO: "I/O error",
    Errno.EISCONN: "socket is connected",
    Errno.EISDIR: "is a directory",
    Errno.ELOOP: "too many levels of symbolic links",
    Errno.EMFILE: "too many open files in the process",
    Errno.EMLINK: "too many links",
    Errno.EMSGSIZE: "message too large",
    Errno.EMULTIHOP: "multihop attempted",
    Errno.ENAMETOOLONG: "file name too long",
    Errno.ENETDOWN: "network is down",
    Errno.ENETRESET: "connection aborted by network",
    Errno.ENETUNREACH: "network unreachable",
    Errno.ENFILE: "too many files open in the VM",
    Errno.ENOBUFS: "no buffer space available",
    Errno.ENODEV: "no such device",
    Errno.ENOENT: "no such file or directory",
    Errno.ENOEXEC: "executable file format error",
    Errno.ENOLCK: "no locks available",
    Errno.ENOLINK: "link has been severed",
    Errno.ENOMEM: "not enough space",
    Errno.ENOMSG: "no message of the desired type",
    Errno.ENOPROTOOPT: "protocol not available",
    Errno.ENOSPC: "no space left on device",
    Errno.ENOSYS: "function not supported",
    Errno.ENOTCONN: "the socket is not connected",
    Errno.ENOTDIR: "not a directory",
    Errno.ENOTEMPTY: "directory not empty",
    Errno.ENOTRECOVERABLE: "state not recoverable",
    Errno.ENOTSOCK: "not a socket",
    Errno.ENOTSUP: "not supported",
    Errno.ENOTTY: "inappropriate I/O control operation",
    Errno.ENXIO: "no such device or address",
    Errno.EOVERFLOW: "value too large to be stored in data type",
    Errno.EOWNERDEAD: "previous owner died",
    Errno.EPERM: "operation not permitted",
    Errno.EPIPE: "broken pipe",
    Errno.EPROTO: "protocol error",
    Errno.EPROTONOSUPPORT: "protocol not supported",
    Errno.EPROTOTYPE: "protocol wrong type for socket",
    Errno.ERANGE: "result too large",
    Errno.EROFS: "read-only file system",
    Errno.ESPIPE: "invalid seek",
    Errno.ESRCH: "no such process",
    Errno.ESTALE: "stale file handle",
    Errno.ETIMEDOUT: "connection timed out",
    Errno.ETXTBSY: "text file busy",
    Errno.EXDEV: "cross-device link",
    Errno.ENOTCAPABLE: "capabilities insufficient",
}


def describe(errno: Errno) -> str:
    """Return the POSIX meaning of `errno` in a few words."""
    return _TEXT[errno]


class KernelError(Exception):
    """A call failed with an errno that the guest sees. Not an `OSError`: see docs/rationale.md,
    "Why KernelError is not an OSError".

    `errno` is what the guest gets, `detail` is for the host's log, `limit` names the cap that was hit, if one was.
    """

    __slots__ = ("detail", "errno", "limit")

    def __init__(self, errno: Errno, detail: str = "", *, limit: str | None = None) -> None:
        super().__init__(errno, detail)
        self.errno = errno
        self.detail = detail
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.errno.name}: {self.detail or describe(self.errno)}"
