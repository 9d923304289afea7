"""Bounded queues between the threads of the stream."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

ItemT = TypeVar("ItemT")
Mode = Literal["every", "latest"]
# Signals reach a waiting main thread on every platform only if it wakes up now and then.
_POLL_S = 0.1


class Closed(Exception):
    """The channel was closed by its reader; there is no point in going on producing."""


class Channel(Generic[ItemT]):
    """A queue that either holds its producer back or forgets what is stale.

    ``every``: at most ``capacity`` items, `put` waits for room. ``latest``: one item, `put` replaces the one that
    nobody took, counts it as dropped and never waits.
    """

    def __init__(self, mode: Mode, capacity: int) -> None:
        self._mode, self._capacity = mode, 1 if mode == "latest" else capacity
        self._items: deque[ItemT] = deque()
        self._changed = threading.Condition()
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self.dropped = 0

    def put(self, item: ItemT) -> None:
        """Hands an item over.

        Raises:
            Closed: the reader has cancelled.
        """
        with self._changed:
            if self._mode == "latest":
                if self._items:
                    self._items.clear()
                    self.dropped += 1
            else:
                while len(self._items) >= self._capacity and not self._cancelled:
                    self._changed.wait(_POLL_S)
            if self._cancelled:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """The producer has finished; the reader gets what is left, then the error if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """The reader wants no more: what is left is forgotten and `put` raises `Closed`."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def get(self, stop: threading.Event | None = None) -> ItemT | None:
        """The next item; none when the producer has ended or ``stop`` is set.

        Raises:
            BaseException: the one the producer ended with, once everything before it was taken.
        """
        with self._changed:
            while not self._items:
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
                if stop is not None and stop.is_set():
                    return None
                self._changed.wait(_POLL_S)
            if stop is not None and stop.is_set():
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
