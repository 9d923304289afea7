"""From what a user types to a source of frames."""

from __future__ import annotations

import math
import re
from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.runtime.address import is_url, redact, resolve_address
from personsearch.runtime.frames import Source
from personsearch.runtime.image_source import IMAGE_SUFFIXES, ImageSource, folder_images, numbered_files
from personsearch.runtime.video_source import FileSource, LiveSource

_IMAGE_RATE_HZ = 25.0


def open_source(text: str, *, rate_hz: float | None = None, keep_going: bool = False) -> Source:
    """Opens a video file, an image, a folder or numbered pattern of images, a camera or an address.

    Args:
        text: a path; a pattern as ``dir/%06d.jpg``; digits for a camera; an address as ``rtsp://...``; or
            ``env:NAME`` for any of these in an environment variable.
        rate_hz: frames a second where the source does not say (images: 25) or says wrongly.
        keep_going: use what can be read of a video that is cut short, pass over images that cannot be read.

    Raises:
        InputError: nothing there, nothing readable, or cut short. No message holds credentials.
    """
    if rate_hz is not None and not (math.isfinite(rate_hz) and rate_hz > 0):
        raise InputError(f"rate is {rate_hz:g}", expected="frames a second above 0")
    address = resolve_address(text)
    if address.lower().startswith("file://"):
        address = address[len("file://") :]
    if is_url(address):
        return LiveSource(address, rate_hz=rate_hz)
    if re.fullmatch(r"\d{1,4}", address):
        return LiveSource(int(address), rate_hz=rate_hz)
    image_rate_hz = rate_hz or _IMAGE_RATE_HZ
    path = Path(address)
    if address and path.is_dir():
        return ImageSource(address, folder_images(path), rate_hz=image_rate_hz, keep_going=keep_going)
    if not path.is_file():
        if re.search(r"%\d*d", path.name):
            return ImageSource(address, numbered_files(address), rate_hz=image_rate_hz, keep_going=keep_going)
        raise InputError(
            "does not exist",
            where=redact(address) or "source",
            expected="a video, an image, a folder, a pattern as `dir/%06d.jpg`, a camera's number or an address",
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(address, [(0, path)], rate_hz=image_rate_hz, keep_going=keep_going)
    return FileSource(path, rate_hz=rate_hz, keep_going=keep_going)
