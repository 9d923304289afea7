"""A camera that is lost and found again: one live source that outlives its connections."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from personsearch.core.errors import InputError
from personsearch.runtime.frames import Source, VideoFrame

# A camera that restarts needs seconds; one that answers and gives nothing must not be asked without a pause.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


class ReconnectingSource:
    """A live source that is opened again when it ends or stalls.

    Frames are counted on and times go on by the clock, so that a pause in the stream is a pause in its times. What
    the source was lost for is in `notes`, in one line however often it was.

    Args:
        opened: the source, open; is closed when it is lost.
        reopen: opens it anew; may take as long as the address's own time-out.
        patience_s: after so many seconds without a frame it is given up, above 0.
        tell: called with one line when it is lost and when it is back, from the thread that reads.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        opened: Source,
        reopen: Callable[[], Source],
        *,
        patience_s: float,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not (math.isfinite(patience_s) and patience_s > 0):
            raise ValueError(f"patience is {patience_s} s, expected more than 0")
        self.label, self.rate_hz = opened.label, opened.rate_hz
        self._source: Source | None = opened
        self._reopen, self._patience_s, self._tell = reopen, patience_s, tell
        self._ended = threading.Event()
        self._started: float | None = None
        self._read = self._broken_before = 0
        self._pauses_s: list[float] = []
        self._given_up = False

    @property
    def broken_count(self) -> int:
        """Frames of all connections that could not be decoded."""
        return self._broken_before + (0 if self._source is None else self._source.broken_count)

    @property
    def notes(self) -> list[str]:
        """How often and how long it was away, and whether it stayed away."""
        lines = []
        if self._pauses_s:
            times = "once" if len(self._pauses_s) == 1 else f"{len(self._pauses_s)} times"
            lines.append(f"the connection was lost {times}, without a frame for {sum(self._pauses_s):.1f} s in all")
        if self._given_up:
            lines.append(f"the live source ended or stalled, and did not come back within {self._patience_s:g} s")
        return lines

    def read(self) -> VideoFrame | None:
        """The next frame, of this connection or of a later one; none once it has been away for too long."""
        frame = None if self._source is None else self._source.read()
        if frame is None and not self._ended.is_set():
            frame = self._found_again()
        if frame is None:
            return None
        now = time.monotonic()
        if self._started is None:
            self._started = now
        self._read += 1
        return VideoFrame(self._read - 1, now - self._started, frame.image, frame.name)

    def _found_again(self) -> VideoFrame | None:
        """The first frame of a new connection."""
        lost = time.monotonic()
        self._tell(f"{self.label}: no frames any more, trying again for {self._patience_s:g} s")
        pause_s = _FIRST_PAUSE_S
        while True:
            self._drop()
            left_s = self._patience_s - (time.monotonic() - lost)
            if left_s <= 0:
                self._given_up = True
                return None
            if self._ended.wait(min(pause_s, left_s)):
                return None
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                self._source = self._reopen()
            except InputError:
                continue
            frame = self._source.read()
            if frame is not None:
                self._pauses_s.append(time.monotonic() - lost)
                self._tell(f"{self.label}: back after {self._pauses_s[-1]:.1f} s")
                return frame

    def _drop(self) -> None:
        if self._source is not None:
            self._broken_before += self._source.broken_count
            self._source.close()
            self._source = None

    def interrupt(self) -> None:
        """Ends the wait for a camera, from any thread."""
        self._ended.set()

    def close(self) -> None:
        """Frees the decoder."""
        self._ended.set()
        self._drop()
