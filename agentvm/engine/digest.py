"""One digest for modules and cache files: BLAKE2b over a tree of pieces, so that big files are hashed on several cores.

BLAKE2b because it is fast on every processor; SHA-256 is only where the CPU has instructions for it.
"""

import os
import threading
from collections.abc import Callable

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL first, which takes longer than most digests
except ImportError:
    from hashlib import blake2b

__all__ = ["DIGEST_BYTES", "digest", "digest_file"]

DIGEST_BYTES = 32
_LEAF_BYTES = 1 << 20
#: From this size on, threads pay.
_PARALLEL_BYTES = 4 << 20
_MAX_THREADS = 4


def digest(data: bytes) -> bytes:
    """Return the digest of `data`. Releases the GIL for all but small data."""
    view = memoryview(data)
    return _tree(len(data), lambda at, size: view[at : at + size])


def digest_file(fd: int, size: int) -> bytes:
    """Return the digest of the first `size` bytes of an open file; the same as that of the bytes.

    It reads, and does not map: a file that another process cuts short gives another digest, not SIGBUS.
    Raises OSError.
    """
    return _tree(size, lambda at, length: _read(fd, at, length))


def _read(fd: int, at: int, size: int) -> bytes:
    data = os.pread(fd, size, at)
    while len(data) < size:
        more = os.pread(fd, size - len(data), at + len(data))
        if not more:
            break
        data += more
    return data


def _tree(size: int, read: Callable[[int, int], bytes | memoryview]) -> bytes:
    starts = range(0, size, _LEAF_BYTES)
    leaves = [b""] * len(starts)
    threads = min(_MAX_THREADS, os.cpu_count() or 1) if size >= _PARALLEL_BYTES else 1
    errors: list[OSError] = []

    def hash_every(first: int) -> None:
        try:
            for number in range(first, len(leaves), threads):
                at = starts[number]
                leaves[number] = blake2b(read(at, min(_LEAF_BYTES, size - at)), digest_size=DIGEST_BYTES).digest()
        except OSError as error:
            errors.append(error)

    others = [threading.Thread(target=hash_every, args=(n,), name="agentvm-digest") for n in range(1, threads)]
    started = []
    for number, thread in enumerate(others, 1):
        try:
            thread.start()
            started.append(thread)
        except RuntimeError:  # the host refused a thread
            hash_every(number)
    hash_every(0)
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]
    root = blake2b(size.to_bytes(8, "little"), digest_size=DIGEST_BYTES, person=b"agentvm tree")
    for leaf in leaves:
        root.update(leaf)
    return root.digest()
