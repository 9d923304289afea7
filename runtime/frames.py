"""One frame of a source, and what every source can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from personsearch.core.preprocess import Frame


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame.

    Attributes:
        index: position in the source, from 0.
        timestamp_s: seconds since the source's first frame.
        image: uint8 BGR ``(H, W, 3)``.
        name: file name of an image, empty for video.
    """

    index: int
    timestamp_s: float
    image: Frame
    name: str = ""


class Source(Protocol):
    """Where frames come from. Read and closed by one thread.

    Attributes:
        label: what to call it in messages and files; holds no credentials.
        live: whether frames are lost when nobody reads them.
        frame_count: number of frames as far as it is known beforehand.
        rate_hz: nominal frames a second.
        broken_count: frames so far that were there but could not be decoded.
        notes: what a user should know about the frames that were read, one line each.
    """

    label: str
    live: bool
    frame_count: int | None
    rate_hz: float
    broken_count: int
    notes: list[str]

    def read(self) -> VideoFrame | None:
        """The next frame, or none at the end.

        Raises:
            InputError: what follows cannot be read, and the source was not opened with ``keep_going``.
        """

    def close(self) -> None:
        """Frees the decoder."""
