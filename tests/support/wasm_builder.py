"""Builds binary modules byte by byte: small ones, broken ones, and bombs that are small to send and dear to compile."""

from collections.abc import Iterable

__all__ = [
    "code",
    "exports",
    "functions",
    "leb",
    "memory_bomb",
    "module",
    "name",
    "nested_blocks",
    "plain_functions",
    "section",
    "sleb",
    "time_bomb",
    "vec",
]

HEADER = b"\0asm\x01\0\0\0"
I32, I64 = b"\x7f", b"\x7e"
#: The type () -> ().
NO_TYPE = b"\x60\x00\x00"


def leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def vec(items: Iterable[bytes]) -> bytes:
    items = list(items)
    return leb(len(items)) + b"".join(items)


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def module(*sections: bytes) -> bytes:
    return HEADER + b"".join(sections)


def functions(count: int) -> bytes:
    """A function section: `count` functions of type 0."""
    return section(3, leb(count) + b"\x00" * count)


def code(*bodies: bytes, locals_count: int = 0) -> bytes:
    """A code section. Each body is without its `end`; each function has `locals_count` locals of type i32."""
    locals_ = vec([leb(locals_count) + I32] if locals_count else [])
    return section(10, vec(leb(len(locals_) + len(body) + 1) + locals_ + body + b"\x0b" for body in bodies))


def exports(*named: tuple[str, int]) -> bytes:
    """An export section of functions."""
    return section(7, vec(name(text) + b"\x00" + leb(number) for text, number in named))


def plain_functions(count: int, body: bytes = b"") -> bytes:
    """A module of `count` functions () -> () with the same body."""
    one = leb(len(body) + 2) + b"\x00" + body + b"\x0b"
    return module(section(1, vec([NO_TYPE])), functions(count), section(10, leb(count) + one * count))


def nested_blocks(depth: int) -> bytes:
    """A function of `depth` blocks, each inside the one before."""
    return module(section(1, vec([NO_TYPE])), functions(1), code(b"\x02\x40" * depth + b"\x0b" * depth))


def time_bomb() -> bytes:
    """18 KB that take wasmtime more than ten seconds: 1,000 locals that change inside 3,000 nested loops."""
    return _loop_bomb(loops=3_000, locals_count=1_000)


def memory_bomb() -> bytes:
    """105 KB that take the compiler more than 2 GiB within seconds: 5,000 locals inside 20,000 nested loops."""
    return _loop_bomb(loops=20_000, locals_count=5_000)


def _loop_bomb(*, loops: int, locals_count: int) -> bytes:
    bump = b"".join(b"\x20" + leb(n) + b"\x41\x01\x6a\x21" + leb(n) for n in range(locals_count))
    body = b"\x03\x40" * loops + bump + b"\x0b" * loops
    parts = section(1, vec([NO_TYPE])), functions(1), exports(("_start", 0)), code(body, locals_count=locals_count)
    return module(*parts)
