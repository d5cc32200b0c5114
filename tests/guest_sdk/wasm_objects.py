"""Read the symbols of WebAssembly object files and archives of them, as the linker sees them.

Source: the "linking" section, https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md; ar(5).
"""

from collections.abc import Iterator

__all__ = ["defined_symbols", "members"]

_FUNCTION, _DATA, _GLOBAL, _SECTION, _TAG, _TABLE = range(6)
_LOCAL, _UNDEFINED, _EXPLICIT_NAME = 0x02, 0x10, 0x40
_SYMBOL_TABLE = 8


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of an archive in GNU's format, with their names."""
    assert archive.startswith(b"!<arch>\n")
    position, long_names = 8, b""
    while position + 60 <= len(archive):
        header = archive[position : position + 60]
        name, size = header[:16].rstrip(), int(header[48:58])
        data = archive[position + 60 : position + 60 + size]
        position += 60 + size + size % 2
        if name == b"//":
            long_names = data
        elif name.startswith(b"/") and name[1:].isdigit():
            start = int(name[1:])
            yield long_names[start : long_names.index(b"\n", start)].rstrip(b"/").decode(), data
        elif name not in (b"/", b"/SYM64/"):
            yield name.rstrip(b"/").decode(), data


class _Reader:
    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data, self.position = data, position

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def text(self) -> str:
        length = self.number()
        self.position += length
        return self.data[self.position - length : self.position].decode()


def defined_symbols(module: bytes) -> set[str]:
    """The names of the functions and data that an object defines for others."""
    reader = _Reader(module, 8)
    while reader.position < len(module):
        section, size = reader.number(), reader.number()
        end = reader.position + size
        if section == 0 and reader.text() == "linking":
            return _linking(_Reader(module[:end], reader.position))
        reader.position = end
    return set()


def _linking(reader: _Reader) -> set[str]:
    reader.number()  # the version
    while reader.position < len(reader.data):
        kind, size = reader.number(), reader.number()
        end = reader.position + size
        if kind == _SYMBOL_TABLE:
            names = (_symbol(reader) for _ in range(reader.number()))
            return {name for name in names if name}
        reader.position = end
    return set()


def _symbol(reader: _Reader) -> str:
    """The name of the next symbol if it is defined for others, else ""."""
    kind, flags = reader.number(), reader.number()
    name = ""
    if kind == _DATA:
        name = reader.text()
        if not flags & _UNDEFINED:
            reader.number(), reader.number(), reader.number()
    else:
        reader.number()
        if kind != _SECTION and (not flags & _UNDEFINED or flags & _EXPLICIT_NAME):
            name = reader.text()
    return "" if flags & (_LOCAL | _UNDEFINED) or kind not in (_FUNCTION, _DATA) else name
