"""One frame of a source, and what every source can do."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Where frames come from. Read and closed by one thread, interrupted by any.

    Attributes:
        label: what to call it in messages and files; holds no credentials.
        live: whether frames are lost when nobody reads them.
        frame_count: number of frames as far as it is known beforehand.
        rate_hz: nominal frames a second.
    """

    label: str
    live: bool
    frame_count: int | None
    rate_hz: float

    @property
    def broken_count(self) -> int:
        """Frames so far that were there but could not be decoded."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know about the frames that were read, one line each."""

    def read(self) -> VideoFrame | None:
        """The next frame, or none at the end.

        Raises:
            InputError: what follows cannot be read, and the source was not opened with ``keep_going``.
        """

    def interrupt(self) -> None:
        """Says, from any thread, that no more frames are wanted: who waits for a lost source gives it up."""

    def close(self) -> None:
        """Frees the decoder."""
