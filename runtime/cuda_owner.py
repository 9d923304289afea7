"""The one thread that owns the CUDA context, the engines, their buffers and their stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from personsearch.runtime.cuda_memory import CudaMemory, open_memory

Result = TypeVar("Result")
_Job = tuple["Future[Any]", Callable[[], Any]]


class CudaOwner:
    """Does in its own thread what other threads ask for, one call after the other.

    A CUDA context is current in one thread. With one owner an engine may be opened in one thread and used in another,
    and torch in the same process keeps its own current context, whatever happens here.

    Raises:
        CudaError: the driver refuses.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon: at the end of the process `close` is still to be called, and Python waits for no daemon.
        self._thread = threading.Thread(target=_serve, args=(self._jobs,), name="cuda-owner", daemon=True)
        self._thread.start()
        self._release: list[Callable[[], None]] = []
        self._closed = False
        try:
            self.memory: CudaMemory = self.call(open_memory)
        except BaseException:
            self._jobs.put(None)
            raise

    def call(self, work: Callable[[], Result]) -> Result:
        """Does ``work`` in the owner's thread; gives its result or raises what it raised."""
        if threading.current_thread() is self._thread:
            return work()
        future: Future[Result] = Future()
        self._jobs.put((future, work))
        return future.result()

    def before_close(self, release: Callable[[], None]) -> None:
        """Has ``release`` called in the owner's thread before the memory goes."""
        self._release.append(release)

    def close(self) -> None:
        """Frees what was made here and ends the thread; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            for release in self._release:
                self.call(release)
            self.call(self.memory.close)
        finally:
            self._release = []
            self._jobs.put(None)


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, work = job
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        # Nothing of a finished job may live on in this frame until the next one comes.
        del job, future, work
