"""Still images: one, a folder, or a numbered pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.runtime.frames import VideoFrame

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_NUMBER = re.compile(r"%0?\d*d")
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}


def read_image(path: Path) -> Frame:
    """An image as uint8 BGR ``(H, W, 3)``, turned upright as its EXIF orientation says.

    Raises:
        InputError: missing, cut short or not an image.
    """
    if not path.is_file():
        raise InputError("does not exist", where=str(path), expected="an image file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("cannot be read", where=str(path), remedy=error.strerror or "check its permissions") from None
    end = _ENDS.get(content[:2])
    if end is not None and end not in content:
        # Decoders fill what is missing with grey and only grumble on standard error.
        raise InputError("is cut short", where=str(path), expected="a whole image file", remedy="copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError("is not an image that OpenCV can read", where=str(path), expected="JPEG, PNG or the like")
    return np.asarray(image, dtype=np.uint8)


def numbered_files(pattern: str) -> list[tuple[int, Path]]:
    """Files of a ``printf`` pattern as ``dir/%06d.jpg``, with their numbers, ascending; gaps are allowed.

    Raises:
        InputError: the pattern has no or several number fields, or no file fits it.
    """
    folder, name = Path(pattern).parent, Path(pattern).name
    fields = _NUMBER.findall(name)
    if len(fields) != 1 or "%" in str(folder):
        raise InputError("is not a pattern", where=pattern, expected="one number field in the file name, as `%06d.jpg`")
    if not folder.is_dir():
        raise InputError("folder does not exist", where=str(folder), expected=f"images named `{name}`")
    before, after = name.split(fields[0])
    shape = re.compile(re.escape(before.replace("%%", "%")) + r"(\d+)" + re.escape(after.replace("%%", "%")))
    found = []
    for path in folder.iterdir():
        match = shape.fullmatch(path.name)
        # Printing the number back refuses `7.jpg` where `%06d.jpg` was asked for.
        if match and name % int(match[1]) == path.name and path.is_file():
            found.append((int(match[1]), path))
    if not found:
        raise InputError(f"no file is named `{name}`", where=str(folder), expected="a pattern that fits its images")
    return sorted(found)


def folder_images(folder: Path) -> list[tuple[int, Path]]:
    """Images of a folder numbered from 0, in natural order of their names (``2.jpg`` before ``10.jpg``).

    Raises:
        InputError: no image is in it.
    """

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError("holds no image", where=str(folder), expected=f"files ending in {endings}")
    return list(enumerate(sorted(images, key=natural)))


class ImageSource:
    """Images as a source; the number of an image divided by the rate is its time.

    Args:
        label: what was asked for.
        files: numbers and paths, ascending.
        rate_hz: images a second, for times.
        keep_going: pass over an image that cannot be read instead of stopping there.
    """

    live = False

    def __init__(self, label: str, files: Sequence[tuple[int, Path]], *, rate_hz: float, keep_going: bool) -> None:
        self.label = label
        self.frame_count: int | None = len(files)
        self.broken_count = 0
        self.notes: list[str] = []
        self._files, self._keep_going, self._next = files, keep_going, 0
        self._number_rate_hz = rate_hz
        steps = np.diff([number for number, _ in files])
        # Every second number at 25 a second plays at 12.5.
        self.rate_hz = rate_hz / float(np.median(steps)) if len(steps) else rate_hz

    def read(self) -> VideoFrame | None:
        """The next image, or none after the last."""
        while self._next < len(self._files):
            index = self._next
            number, path = self._files[index]
            self._next += 1
            try:
                image = read_image(path)
            except InputError as error:
                if not self._keep_going:
                    raise InputError(str(error), remedy="`--keep-going` passes over it") from None
                self.broken_count += 1
                self.notes.append(f"passed over: {error}")
                continue
            return VideoFrame(index, (number - self._files[0][0]) / self._number_rate_hz, image, path.name)
        return None

    def interrupt(self) -> None:
        """An image is read at once, or not at all."""

    def close(self) -> None:
        """Nothing is held open."""
