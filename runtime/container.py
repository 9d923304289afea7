"""Whether a video file is all there, by its container's own sizes, before a frame is decoded."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# Top-level boxes of ISO/IEC 14496-12; anything else ends the walk, as trailing rubbish is not a sign of truncation.
_ISO_BOXES = frozenset(
    (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"uuid", b"meta", b"sidx")
)


def missing_bytes(path: Path) -> int:
    """Bytes that the container announces and the file does not have.

    Knows MP4, MOV and their kin (top-level boxes, ISO/IEC 14496-12) and AVI (the RIFF size). 0 for a whole file
    and for every format that does not say: there only the number of decoded frames can tell.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"AVI ":
            announced = struct.unpack("<I", head[4:8])[0] + 8
            # A recorder that was switched off leaves the size unset.
            return 0 if announced in (8, 0xFFFFFFFF + 8) else max(0, announced - size)
        return _missing_iso(file, size)


def _missing_iso(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind not in _ISO_BOXES or length == 0:  # 0: to the end of the file, whatever that is
            return 0
        if length == 1:
            wide = file.read(8)
            if len(wide) < 8:
                return 8 - len(wide)
            length = struct.unpack(">Q", wide)[0]
        if length < 8:
            return 0
        position += length
    return max(0, position - size)
