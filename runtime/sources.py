"""From what a user types to a source of frames."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.runtime.address import is_url, redact, resolve_address
from personsearch.runtime.frames import Source
from personsearch.runtime.image_source import IMAGE_SUFFIXES, ImageSource, folder_images, numbered_files
from personsearch.runtime.reconnecting import ReconnectingSource
from personsearch.runtime.video_source import FileSource, LiveSource

_IMAGE_RATE_HZ = 25.0


def open_source(
    text: str,
    *,
    rate_hz: float | None = None,
    keep_going: bool = False,
    reconnect_s: float = 0.0,
    tell: Callable[[str], None] = lambda line: None,
) -> Source:
    """Opens a video file, an image, a folder or numbered pattern of images, a camera or an address.

    Args:
        text: a path; a pattern as ``dir/%06d.jpg``; digits for a camera; an address as ``rtsp://...``; or
            ``env:NAME`` for any of these in an environment variable.
        rate_hz: frames a second where the source does not say (images: 25) or says wrongly.
        keep_going: use what can be read of a video that is cut short, pass over images that cannot be read.
        reconnect_s: a camera or live stream that is lost is opened again for so many seconds; 0: it ends there.
        tell: called with a line when that happens, from the thread that reads.

    Raises:
        InputError: nothing there, nothing readable, or cut short. No message holds credentials.
    """
    if rate_hz is not None and not (math.isfinite(rate_hz) and rate_hz > 0):
        raise InputError(f"rate is {rate_hz:g}", expected="frames a second above 0")
    address = resolve_address(text)
    if address.lower().startswith("file://"):
        address = address[len("file://") :]
    if not (math.isfinite(reconnect_s) and reconnect_s >= 0):
        raise InputError(f"reconnect is {reconnect_s:g}", expected="seconds, 0 or more")
    camera = int(address) if re.fullmatch(r"\d{1,4}", address) else address
    if isinstance(camera, int) or is_url(camera):
        source = LiveSource(camera, rate_hz=rate_hz)
        if not source.live or reconnect_s == 0:
            return source
        return ReconnectingSource(
            source, lambda: LiveSource(camera, rate_hz=rate_hz), patience_s=reconnect_s, tell=tell
        )
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
