"""The flags of open(2) with the numbers of wasi-libc, as the host ABI carries them in spawn's file actions."""

from typing import Final

__all__ = ["APPEND", "CREAT", "DIRECTORY", "EXCL", "NOFOLLOW", "NONBLOCK", "RDONLY", "SYNCS", "TRUNC", "WRONLY"]

APPEND: Final = 1
NONBLOCK: Final = 4
SYNCS: Final = 2 | 8 | 16
CREAT: Final = 1 << 12
DIRECTORY: Final = 2 << 12
EXCL: Final = 4 << 12
TRUNC: Final = 8 << 12
NOFOLLOW: Final = 0x0100_0000
RDONLY: Final = 0x0400_0000
WRONLY: Final = 0x1000_0000
