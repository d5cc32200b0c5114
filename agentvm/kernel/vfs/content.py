"""The data of one file: 64 KiB chunks, made when first written, charged for what they hold, shared until written.

A chunk is a `bytearray` no longer than what was asked for: its length is what is charged. Bytes between the file's size
and the end of a chunk are zero, so that growing a file costs nothing. Chunks that another content shares are copied
before they change; each sharer is charged in full, so that what one does never makes another fail. A chunk of `bytes`
belongs to all VMs (`kernel/vfs/base_files.py`): nobody is charged for it, and it is copied before it changes.
"""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers
from agentvm.kernel.vfs.space import CHUNK_BYTES, MAX_OFFSET, PAGE_BYTES, SpaceAccount

__all__ = ["Content"]

_ZEROS = memoryview(bytes(CHUNK_BYTES))
_PIECE_BYTES = 1 << 20
#: The first chunk of a small file comes in powers of two from here on; where space is short, in steps of this.
_INLINE_BYTES = 128


class Content:
    """Data of a file, as a part of its inode. The window is the chunk used last, for `open_inode`'s short way.

    `window` covers the offsets from `window_start` to `window_end`; up to `writable_end` it may be written in place.
    Guarded by the kernel lock.
    """

    __slots__ = ("account", "chunks", "shared", "size", "window", "window_end", "window_start", "writable_end")

    def __init__(self, account: SpaceAccount) -> None:
        self.account = account
        self.size = 0
        #: A file of one chunk holds it directly: a dict for each tiny file would cost more than its data.
        self.chunks: bytearray | bytes | dict[int, bytearray] | None = None
        self.shared: set[int] | None = None
        self.window: memoryview | None = None
        self.window_start = 0
        self.window_end = 0
        self.writable_end = 0

    # -- accounting ---------------------------------------------------------------------------------------------------
    def held_bytes(self) -> int:
        """Count what is charged for this content now."""
        chunks = self.chunks
        if chunks is None or isinstance(chunks, bytes):
            return 0
        return sum(map(len, chunks.values())) if isinstance(chunks, dict) else len(chunks)

    def hold_shared(self, text: bytes) -> None:
        """Hold `text`, which all VMs share, at no charge. Only for a content that is empty."""
        self.chunks = text.ljust(self._capacity(0, len(text)), b"\0")
        self.size = len(text)

    def _own(self) -> None:
        """Have a copy of what all VMs share, charged like any other data. ENOSPC."""
        if isinstance(self.chunks, bytes):
            self.account.acquire(len(self.chunks))
            self.close_window()
            self.chunks = bytearray(self.chunks)

    def discard(self) -> None:
        """Drop all data and give its charge back."""
        self.close_window()
        held = self.held_bytes()
        self.chunks = self.shared = None
        self.size = 0
        self.account.release(held)

    def close_window(self) -> None:
        """Forget the chunk used last: an idle file holds only its data."""
        if self.window is not None:
            self.window.release()
            self.window = None
            self.window_start = self.window_end = self.writable_end = 0

    def share_with(self, other: "Content") -> None:
        """Make `other`, which is empty, a copy of this content that shares its chunks. ENOSPC.

        The cost is one dict, whatever the size; a chunk is copied when either side first writes to it.
        """
        assert other.chunks is None
        other.account.acquire(self.held_bytes())
        self.close_window()
        if isinstance(self.chunks, bytes):
            other.chunks, other.size = self.chunks, self.size
            return
        indices = self._indices()
        other.chunks = dict(self.chunks) if isinstance(self.chunks, dict) else self.chunks
        other.size = self.size
        other.shared = set(indices)
        self.shared = set(indices)

    # -- reading ------------------------------------------------------------------------------------------------------
    def read_into(self, buffers: Buffers, offset: int) -> int:
        """Fill `buffers` from `offset`; return the count, 0 at or past the end. EINVAL for an impossible range."""
        _check_range(offset, sum(map(len, buffers)))
        left = self.size - offset
        position = offset
        for buffer in buffers:
            count = min(len(buffer), left)
            if count <= 0:
                continue
            self._read_one(buffer, count, position)
            position += count
            left -= count
        return position - offset

    def _read_one(self, buffer: memoryview, count: int, offset: int) -> None:
        done = 0
        while done < count:
            index, start = divmod(offset + done, CHUNK_BYTES)
            step = min(count - done, CHUNK_BYTES - start)
            chunk = self._chunk(index)
            there = 0 if chunk is None else min(step, len(chunk) - start)
            if chunk is not None and there > 0:
                self._look_at(index, chunk)
                assert self.window is not None
                buffer[done : done + there] = self.window[start : start + there]
            there = max(there, 0)
            if there < step:
                buffer[done + there : done + step] = _ZEROS[: step - there]
            done += step
            if done % _PIECE_BYTES < step and done < count:
                self.account.between()

    # -- writing ------------------------------------------------------------------------------------------------------
    def write_from(self, buffers: Buffers, offset: int) -> int:
        """Write `buffers` at `offset`; return how much fitted. ENOSPC or EFBIG if nothing did, EINVAL."""
        total = sum(map(len, buffers))
        _check_range(offset, total)
        if total == 0:
            return 0
        room = self._room(offset, total)
        position = offset
        try:
            for buffer in buffers:
                left = room - (position - offset)
                piece = buffer if len(buffer) <= left else buffer[:left]
                written = self._write_one(piece, position)
                position += written
                if written < len(buffer):
                    break
        except KernelError:
            if position == offset:
                raise
        return position - offset

    def _room(self, offset: int, total: int) -> int:
        """Return how much of a write max_file_bytes lets through; EFBIG if nothing."""
        ceiling = self.account.ceiling
        end = offset + total
        if end <= ceiling.cap:
            if end > ceiling.top:
                ceiling.check(end)
            return total
        if offset >= ceiling.cap:
            ceiling.check(end)
        return int(ceiling.cap) - offset

    def _write_one(self, buffer: memoryview, offset: int) -> int:
        done = 0
        count = len(buffer)
        while done < count:
            index, start = divmod(offset + done, CHUNK_BYTES)
            step = min(count - done, CHUNK_BYTES - start)
            try:
                there = self._prepare(index, start, start + step) - start
            except KernelError:
                if done:
                    break
                raise
            assert self.window is not None
            if there >= step:
                self.window[start : start + step] = buffer[done : done + step]
                done += step
            else:
                self.window[start : start + there] = buffer[done : done + there]
                done += there
            if offset + done > self.size:
                self.size = offset + done
            if there < step:
                break
            if done % _PIECE_BYTES < step and done < count:
                self.account.between()
        return done

    def _prepare(self, index: int, start: int, end: int) -> int:
        """Make a chunk writable, through the window, from `start` on; return where that ends. ENOSPC if at `start`."""
        if isinstance(self.chunks, bytes):
            self._own()
        chunk = self._chunk(index)
        assert not isinstance(chunk, bytes)
        if chunk is not None and self.shared is not None and index in self.shared:
            self.close_window()
            chunk = chunk[:]
            self._put(index, chunk)
            self.shared.discard(index)
            if not self.shared:
                self.shared = None
        held = 0 if chunk is None else len(chunk)
        if held < end:
            chunk = self._grow(index, chunk, start, end)
            held = len(chunk)
        assert chunk is not None
        self._look_at(index, chunk)
        return held

    def _grow(self, index: int, chunk: bytearray | None, start: int, end: int) -> bytearray:
        held = 0 if chunk is None else len(chunk)
        wanted = self._capacity(index, end)
        step = _INLINE_BYTES if wanted <= PAGE_BYTES and index == 0 else PAGE_BYTES
        if held % PAGE_BYTES and wanted > PAGE_BYTES:
            step = _INLINE_BYTES  # a first page that space was short for: fill it up in small steps
        granted = self.account.acquire_some(wanted - held, step)
        if held + granted <= start:
            self.account.release(granted)
            self.account.acquire(wanted - held)  # raises, with the values
        if chunk is None:
            chunk = bytearray(granted)
            self._put(index, chunk)
        else:
            self.close_window()  # its export would forbid the resizing
            chunk.extend(_ZEROS[:granted])
        return chunk

    def _capacity(self, index: int, needed: int) -> int:
        """Return the length for a chunk that must hold `needed` bytes: whole pages, or less for a tiny file."""
        if index == 0 and needed < PAGE_BYTES and not isinstance(self.chunks, dict):
            return max(_INLINE_BYTES, 1 << (needed - 1).bit_length())
        return -(-needed // PAGE_BYTES) * PAGE_BYTES

    # -- size ---------------------------------------------------------------------------------------------------------
    def truncate(self, size: int) -> None:
        """Set the size; growing leaves a hole. EINVAL if it is no size, EFBIG past max_file_bytes."""
        if not 0 <= size <= MAX_OFFSET:
            raise KernelError(Errno.EINVAL, f"size {size} is out of range")
        if size > self.size:
            self.account.ceiling.check(size)
        elif size < self.size:
            self._cut(size)
        self.size = size

    def _cut(self, size: int) -> None:
        self.close_window()
        if isinstance(self.chunks, bytes):
            if not size:
                self.chunks = None
                return
            self._own()
        last, end = divmod(size, CHUNK_BYTES)
        freed = 0
        for index in [i for i in self._indices() if i >= last]:
            chunk = self._chunk(index)
            assert isinstance(chunk, bytearray)
            if index == last and end:
                kept = chunk[: min(len(chunk), self._capacity(index, end))]
                kept[end:] = _ZEROS[: max(0, len(kept) - end)]
                self._put(index, kept)
                freed += len(chunk) - len(kept)
            else:
                self._drop(index)
                freed += len(chunk)
            if self.shared is not None:
                self.shared.discard(index)
        self.account.release(freed)

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that the range can be written later. ENOSPC (then nothing changes), EFBIG, EINVAL.

        Source: fallocate(2) with mode 0.
        """
        if offset < 0 or length <= 0 or offset > MAX_OFFSET:
            raise KernelError(Errno.EINVAL, f"no range: {length} bytes at {offset}")
        end = offset + length
        if end > MAX_OFFSET:
            raise KernelError(Errno.EFBIG, f"{length} bytes at {offset} end past the largest size")
        self.account.ceiling.check(end)
        self._own()
        first, last = offset // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
        # Before walking over the chunks, which may be 2^47, see that they can fit at all.
        self.account.require(max(0, (last - first - 1 - self._count())) * CHUNK_BYTES)
        plan = []
        for index in range(first, last + 1):
            needed = min(CHUNK_BYTES, end - index * CHUNK_BYTES)
            chunk = self._chunk(index)
            held = 0 if chunk is None else len(chunk)
            if held < needed:
                plan.append((index, needed, self._capacity(index, needed) - held))
        self.account.require(sum(missing for _, _, missing in plan))
        for done, (index, needed, _) in enumerate(plan, 1):
            self._prepare(index, 0, needed)
            if done % (_PIECE_BYTES // CHUNK_BYTES) == 0:
                self.account.between()
        self.size = max(self.size, end)

    # -- chunks -------------------------------------------------------------------------------------------------------
    def _chunk(self, index: int) -> bytearray | bytes | None:
        chunks = self.chunks
        if isinstance(chunks, dict):
            return chunks.get(index)
        return chunks if index == 0 else None

    def _put(self, index: int, chunk: bytearray) -> None:
        if isinstance(self.chunks, dict):
            self.chunks[index] = chunk
        elif index == 0:
            self.chunks = chunk
        elif self.chunks is None:
            self.chunks = {index: chunk}
        else:
            assert isinstance(self.chunks, bytearray), "what all VMs share is copied first"
            self.chunks = {0: self.chunks, index: chunk}

    def _drop(self, index: int) -> None:
        if isinstance(self.chunks, dict):
            del self.chunks[index]
            if not self.chunks:
                self.chunks = None
        else:
            self.chunks = None

    def _indices(self) -> list[int]:
        chunks = self.chunks
        if isinstance(chunks, dict):
            return list(chunks)
        return [] if chunks is None else [0]

    def _count(self) -> int:
        chunks = self.chunks
        if isinstance(chunks, dict):
            return len(chunks)
        return 0 if chunks is None else 1

    def _look_at(self, index: int, chunk: bytearray | bytes) -> None:
        start = index * CHUNK_BYTES
        if self.window is not None:
            if self.window_start == start and self.window_end == start + len(chunk):
                return
            self.window.release()
        self.window = memoryview(chunk)
        self.window_start = start
        self.window_end = start + len(chunk)
        if isinstance(chunk, bytes) or (self.shared is not None and index in self.shared):
            self.writable_end = 0
        else:
            self.writable_end = min(self.window_end, int(min(self.account.ceiling.cap, MAX_OFFSET)))


def _check_range(offset: int, count: int) -> None:
    if offset < 0 or offset + count > MAX_OFFSET:
        raise KernelError(Errno.EINVAL, f"{count} bytes at {offset} are out of range")
