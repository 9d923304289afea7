"""MATLAB files: plain arrays through SciPy, nested records through a reader that holds one record at a time.

``scipy.io.loadmat`` makes four Python objects of every row of a nested struct array: about 1.2 kB a row, so that the
11.6 million gallery rows of CUHK-SYSU's TestG4000 would take 14 GB. `iter_records` walks the same file as it is
inflated and hands out each field of a record as the bytes it is stored in; a caller that meets the same few thousand
image names again and again decodes each of them once.

The format is "MAT-File Format", The MathWorks, version 5: elements of an 8-byte tag (type, bytes) and data padded to 8
bytes; a matrix is an element of elements: flags with its class, dimensions, name, then numbers, characters or fields.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError

T = TypeVar("T")
_Read = Callable[[int], bytes]

_MATRIX, _COMPRESSED = 14, 15
_CELLS, _STRUCTURES, _CHARACTERS = 1, 2, 4
_COMPLEX = 0x0800
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_LARGEST_NAME = 1 << 16


def load_array(path: Path, names: Sequence[str]) -> NDArray[Any]:
    """The first of the variables ``names`` that a .mat file holds, as SciPy reads it.

    Args:
        path: a file of any version that SciPy knows.
        names: variables in the order of preference.

    Raises:
        InputError: the file is missing, is no .mat file, or holds none of the variables.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    # SciPy's words for a damaged file are many; NotImplementedError is for MATLAB 7.3's, which are HDF5.
    except (MatReadError, ValueError, TypeError, NotImplementedError, struct.error, zlib.error) as error:
        raise InputError(
            f"is no .mat file that can be read: {error}", where=str(path), remedy="unpack the set again"
        ) from None
    for name in names:
        if name in content:
            return np.asarray(content[name])
    raise _lacks(path, names, [name for name in content if not name.startswith("__")])


def iter_records(path: Path, variable: str) -> Iterator[Structures]:
    """The records of a struct array, or of a cell array of them, one after the other as the file is inflated.

    Args:
        path: a MATLAB 5 file (what MATLAB writes unless told ``-v7.3``), compressed or not.
        variable: name of the struct array, or of a cell array with a struct in each cell.

    Yields:
        One record each; `text`, `numbers` and `structures` decode its fields.

    Raises:
        InputError: the file is missing, is not of that format, is cut short, or holds no such array.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        if file.read(128)[124:] != b"\x00\x01IM":
            raise InputError(
                "is no MATLAB 5 file",
                where=str(path),
                expected="a .mat file as published",
                remedy="unpack the set again, or save it with `save -v7`",
            )
        try:
            yield from _variable_records(file, path, variable)
        except (ValueError, zlib.error, struct.error) as error:
            raise InputError(f"is damaged: {error}", where=str(path), remedy="unpack the set again") from None


def _variable_records(file: BinaryIO, path: Path, variable: str) -> Iterator[Structures]:
    seen = []
    while tag := file.read(8):
        kind, size = struct.unpack("<II", tag)
        following = file.tell() + size
        read, inflated = _exactly(file.read), None
        if kind == _COMPRESSED:
            inflated = _Inflated(file, size)
            read = _exactly(inflated.read)
            kind, _ = struct.unpack("<II", read(8))
        if kind != _MATRIX:
            raise ValueError(f"element of type {kind} where a variable should be")
        array_class, shape, name = _matrix_head(read)
        seen.append(name)
        if name == variable and array_class in (_CELLS, _STRUCTURES):
            fields = _field_names(read) if array_class == _STRUCTURES else None
            for _ in range(_product(shape)):
                if fields is None:
                    yield structures(_whole_matrix(read))
                else:
                    yield Structures(fields, [_whole_matrix(read) for _ in fields])
            if inflated is not None:
                inflated.check_end()
            return
        file.seek(following)
    raise _lacks(path, [variable], seen)


@dataclass(frozen=True, eq=False)
class Structures:
    """A struct array whose fields are still as stored.

    Attributes:
        fields: names.
        values: all values, field by field within record by record.
    """

    fields: tuple[str, ...]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values) // len(self.fields) if self.fields else 0

    def each(self, field: str, decode: Callable[[bytes], T]) -> list[T]:
        """One value of every record.

        Raises:
            ValueError: the records have no such field, or ``decode`` raises one.
        """
        if not self.values:
            return []  # an empty array may state no fields
        if field not in self.fields:
            raise ValueError(f"has no field `{field}`, only {', '.join(self.fields)}")
        try:
            return list(map(decode, self.values[self.fields.index(field) :: len(self.fields)]))
        except ValueError as error:
            raise ValueError(f"`{field}`: {error}") from None

    def one(self, field: str, decode: Callable[[bytes], T]) -> T:
        """The value of the only record.

        Raises:
            ValueError: there is not one record, or as `each`.
        """
        if len(self) != 1:
            raise ValueError(f"{len(self)} records where one should be")
        return self.each(field, decode)[0]


def structures(value: bytes) -> Structures:
    """Decodes a struct array, one level deep.

    Raises:
        ValueError: the value is something else.
    """
    body = _body(value)
    if not value[8:]:
        return Structures((), [])
    kind, shape, _ = _matrix_head(_exactly(body.read))
    if kind != _STRUCTURES:
        # MATLAB writes [] for an array of no records.
        if _product(shape) == 0:
            return Structures((), [])
        raise ValueError(f"array of class {kind} where records should be")
    fields = _field_names(_exactly(body.read))
    values = []
    start, words = body.tell(), memoryview(value).cast("I")
    try:
        for _ in range(_product(shape) * len(fields)):
            end = start + 8 + words[start // 4 + 1]
            values.append(value[start:end])
            start = end
    except IndexError:
        raise ValueError("records are cut short") from None
    if start != len(value):
        raise ValueError("records do not end where their array ends")
    return Structures(fields, values)


def text(value: bytes) -> str:
    """Decodes a character array.

    Raises:
        ValueError: the value is something else, or empty.
    """
    body = _body(value)
    read = _exactly(body.read)
    if not value[8:]:
        raise ValueError("empty array where text should be")
    kind, _, _ = _matrix_head(read)
    if kind != _CHARACTERS:
        raise ValueError(f"array of class {kind} where text should be")
    stored, data = _element(read)
    if stored not in _ENCODINGS or not data:
        raise ValueError("empty array where text should be" if not data else f"text stored as type {stored}")
    return data.decode(_ENCODINGS[stored])


def numbers(value: bytes) -> NDArray[Any]:
    """Decodes a numeric array to the type that it has in MATLAB.

    MATLAB stores a matrix of doubles as bytes where its values fit, and SciPy then returns ``uint8``, in which
    ``x + w`` overflows; here it is ``float64`` again. An array that is ``uint8`` in MATLAB stays one.

    Raises:
        ValueError: the value is something else.
    """
    body = _body(value)
    read = _exactly(body.read)
    if not value[8:]:
        return np.zeros((0, 0))
    kind, shape, _ = _matrix_head(read)
    if kind not in _CLASSES:
        raise ValueError(f"array of class {kind} where numbers should be")
    if _product(shape) == 0:
        return np.zeros(shape, _CLASSES[kind])
    stored, data = _element(read)
    if stored not in _STORED:
        raise ValueError(f"numbers stored as type {stored}")
    return np.frombuffer(data, "<" + _STORED[stored]).astype(_CLASSES[kind]).reshape(shape, order="F")


def _body(value: bytes) -> io.BytesIO:
    if len(value) < 8 or len(value) % 8 or struct.unpack("<II", value[:8]) != (_MATRIX, len(value) - 8):
        raise ValueError("element that is no array")
    body = io.BytesIO(value)
    body.seek(8)
    return body


def _whole_matrix(read: _Read) -> bytes:
    tag = read(8)
    kind, size = struct.unpack("<II", tag)
    if kind != _MATRIX:
        raise ValueError(f"element of type {kind} where an array should be")
    return tag + read(size)


def _matrix_head(read: _Read) -> tuple[int, tuple[int, ...], str]:
    """Class, shape and name."""
    _, flags = _element(read)
    _, shape = _element(read)
    _, name = _element(read)
    if len(flags) != 8 or len(shape) % 4 or len(name) > _LARGEST_NAME:
        raise ValueError("array without flags, shape and name")
    (word,) = struct.unpack("<I4x", flags)
    if word & _COMPLEX:
        raise ValueError("complex numbers")
    sides = struct.unpack(f"<{len(shape) // 4}i", shape)
    if min(sides, default=-1) < 0:
        raise ValueError(f"array of shape {sides}")
    return word & 0xFF, sides, name.decode("latin-1")


def _field_names(read: _Read) -> tuple[str, ...]:
    _, length = _element(read)
    _, names = _element(read)
    if len(length) != 4 or not (width := struct.unpack("<i", length)[0]) > 0:
        raise ValueError("struct array without field names")
    return tuple(
        names[first : first + width].split(b"\0", 1)[0].decode("latin-1") for first in range(0, len(names), width)
    )


def _element(read: _Read) -> tuple[int, bytes]:
    """Type and data of an element that holds no others; up to 4 bytes are stored inside the tag."""
    tag = read(8)
    kind, size = struct.unpack("<II", tag)
    if kind >> 16:
        return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)]
    return kind, read((size + 7) // 8 * 8)[:size]


def _product(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


class _Inflated:
    """What ``size`` bytes of a compressed element inflate to, from where ``file`` stands."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._machine = zlib.decompressobj()
        self._ready = bytearray()

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, or fewer at the end."""
        while len(self._ready) < count:
            # What the last call's limit left over comes first.
            compressed = self._machine.unconsumed_tail
            if not compressed:
                compressed = self._file.read(min(self._left, 1 << 16))
                self._left -= len(compressed)
            if not compressed or self._machine.eof:
                break
            self._ready.extend(self._machine.decompress(compressed, 1 << 20))
        found = bytes(self._ready[:count])
        del self._ready[:count]
        return found

    def check_end(self) -> None:
        """Whether all was there: only at its end is a compressed element compared with its checksum."""
        if self.read(1) or not self._machine.eof:
            raise ValueError("does not end where its array ends")


def _exactly(read: _Read) -> _Read:
    def checked(count: int) -> bytes:
        found = read(count)
        if len(found) != count:
            raise ValueError("ends too early")
        return found

    return checked


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        "cannot be read", where=str(path), expected="a .mat file as published", remedy=error.strerror or ""
    )


def _lacks(path: Path, names: Sequence[str], seen: Sequence[str]) -> InputError:
    wanted = " or ".join(f"`{name}`" for name in names)
    return InputError(
        f"holds no {wanted}, only {', '.join(f'`{name}`' for name in seen) or 'nothing'}",
        where=str(path),
        expected="the file as published",
        remedy="unpack the set again",
    )
