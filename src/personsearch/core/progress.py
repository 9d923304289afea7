"""Progress for people and for logs: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StageProgress:
    """Counts the steps of one stage; use as a context manager.

    On a terminal a bar with the time left; in a log a line at most every ``log_seconds``. Writes to standard
    error, so that ``--json`` on standard output stays clean.

    Args:
        title: what is being done, three words.
        total: number of steps, or none when it is not known.
        log_seconds: pause between two lines where there is no terminal.
    """

    def __init__(self, title: str, total: int | None, *, log_seconds: float = 10.0) -> None:
        self._title, self._total, self._log_seconds = title, total, log_seconds
        self._done, self._note = 0, ""
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def __enter__(self) -> StageProgress:
        self._started = self._logged = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, note="")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Counts ``steps`` more as done; ``note`` is a few figures shown beside the bar."""
        self._done += steps
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, note=self._note)
        elif time.monotonic() - self._logged >= self._log_seconds:
            self._logged = time.monotonic()
            self._line()

    def advance_to(self, done: int, note: str = "") -> None:
        """Counts up to ``done`` steps in all."""
        self.advance(done - self._done, note)

    def _line(self) -> None:
        elapsed = time.monotonic() - self._started
        text = f"{self._title}: {self._done}"
        if self._total:
            text += f"/{self._total}"
            if 0 < self._done < self._total:
                text += f", {elapsed / self._done * (self._total - self._done):.0f} s left"
        print(f"{text}, {elapsed:.0f} s" + (f", {self._note}" if self._note else ""), file=sys.stderr, flush=True)  # noqa: T201

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._line()
