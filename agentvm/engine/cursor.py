"""Reads numbers, names and types of the binary format, never past the end of the section that holds them.

Source: WebAssembly Core Specification 3.0, sections 5.2 (values) and 5.3 (types).
"""

from typing import NoReturn

from agentvm.errors import FeatureDisabled, MalformedModule

__all__ = ["SIMPLE_VALUE_TYPES", "Cursor", "disabled", "value_type"]

_VALUE_TYPES = {
    0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128",
    0x70: "funcref", 0x6F: "externref", 0x69: "exnref", 0x74: "nullexnref",
}  # fmt: skip
#: The value types that are one byte each.
SIMPLE_VALUE_TYPES = bytes(_VALUE_TYPES)
_HEAP_TYPES = {0x70: "func", 0x6F: "extern", 0x69: "exn", 0x74: "noexn"}
_GC_BYTES = frozenset({0x6E, 0x6D, 0x6C, 0x6B, 0x6A, 0x71, 0x72, 0x73})
#: The engine takes no longer names (wasmparser, MAX_WASM_STRING_SIZE).
MAX_NAME_BYTES = 100_000


class Cursor:
    """Reads one section. Every read is checked against the section's end and raises `MalformedModule` past it."""

    __slots__ = ("at", "data", "end", "what")

    def __init__(self, data: bytes, at: int, end: int, what: str) -> None:
        self.data = data
        self.at = at
        self.end = end
        self.what = what

    def fail(self, why: str) -> NoReturn:
        raise MalformedModule(
            f"the module is not valid: {why} in the {self.what} section at offset {self.at}", offset=self.at
        )

    def byte(self) -> int:
        at = self.at
        if at >= self.end:
            self.fail("the contents end too early")
        self.at = at + 1
        return self.data[at]

    def u32(self) -> int:
        at = self.at
        if at < self.end:
            byte = self.data[at]
            if byte < 0x80:
                self.at = at + 1
                return byte
        return self._long(32)

    def u64(self) -> int:
        return self._long(64)

    def _long(self, bits: int) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= bits:
                self.fail("a number is too long")
        if value >> bits:
            self.fail("a number is too large")
        return value

    def s32(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 35:
                self.fail("a number is too long")
        if byte & 0x40:
            value -= 1 << shift
        if not -(1 << 31) <= value < 1 << 31:
            self.fail("a number is too large")
        return value

    def skip(self, count: int) -> None:
        if count > self.end - self.at:
            self.fail(f"{count:,} bytes are announced, {self.end - self.at:,} are left")
        self.at += count

    def name(self) -> str:
        length = self.u32()
        if length > MAX_NAME_BYTES:
            self.fail(f"a name of {length:,} bytes")
        start = self.at
        self.skip(length)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            self.at = start
            self.fail("a name is not UTF-8")

    def finish(self) -> None:
        if self.at != self.end:
            self.fail(f"{self.end - self.at:,} bytes are left over")


def value_type(cursor: Cursor) -> str:
    byte = cursor.byte()
    name = _VALUE_TYPES.get(byte)
    if name is not None:
        return name
    if byte in {0x63, 0x64}:
        heap = cursor.byte()
        if heap in _HEAP_TYPES:
            return f"(ref {'null ' if byte == 0x63 else ''}{_HEAP_TYPES[heap]})"
        raise disabled("gc" if heap in _GC_BYTES else "typed function references")
    if byte in _GC_BYTES:
        raise disabled("gc")
    if byte in {0x68, 0x75}:
        raise disabled("stack switching")
    cursor.at -= 1
    return cursor.fail(f"an unknown value type, {byte:#04x},")


def disabled(feature: str) -> FeatureDisabled:
    """Make the refusal of a module that uses `feature`."""
    return FeatureDisabled(
        f"the module uses a WebAssembly feature that is off here: {feature}; build it without", feature=feature
    )
