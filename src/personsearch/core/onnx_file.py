"""What must be known of an ONNX file before a library reads it, found without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from personsearch.core.errors import InputError

# Fields of onnx.proto that lead to tensors: message -> field number -> message. Other fields are skipped unread.
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


def has_external_data(content: bytes) -> bool:
    """Whether a tensor of an ONNX model lies in another file.

    A hash covers the graph's file alone, while libraries look for such files beside it or, where they were given bytes,
    in the working folder (OpenVINO does): what they find there nobody has checked.

    Args:
        content: a serialised ``ModelProto``.

    Raises:
        ValueError: it is none. What this cannot read must not be taken for harmless.
    """
    try:
        return _leads_outside(memoryview(content), "model")
    except (IndexError, RecursionError):
        raise ValueError("not an ONNX file") from None


def require_self_contained(content: bytes, path: Path) -> None:
    """Refuses a graph part of which lies in another file.

    Args:
        content: the ONNX file's bytes.
        path: for the message.

    Raises:
        InputError: it does, or the bytes are no ONNX file.
    """
    try:
        outside = has_external_data(content)
    except ValueError as error:
        raise InputError(f"is {error}", where=str(path), remedy="export the artifact again") from None
    if outside:
        raise InputError(
            "weights lie in another file, which no hash covers", where=str(path), remedy="export the artifact again"
        )


def _leads_outside(message: memoryview, kind: str) -> bool:
    for field, value in _fields(message):
        if kind == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == _EXTERNAL):
                return True
        elif field in _WAYS[kind] and isinstance(value, memoryview) and _leads_outside(value, _WAYS[kind][field]):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; the wire format of protocol buffers."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == 2:
            size, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind, len(message) + 1)
        if place + size > len(message):
            raise IndexError("a field is longer than its message")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, place
