"""An object that lives in a process of its own, called from this one.

What is measured gets a fresh process: its memory is its own, a library's threads do not spin in another's time, and
what varies from process to process (where memory lies, which core a thread begins on) can be seen.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from personsearch.core.errors import InputError

_CLOSE_S = 10.0


class OwnProcess:
    """Makes ``make(*arguments)`` in a new Python process and calls its methods; use as a context manager.

    Everything that goes over is pickled: ``make`` is a class or function of a module, arguments and answers are
    values. Nothing is inherited from this process but its environment.

    Args:
        name: in messages.
        make: called in the other process.
        arguments: of ``make``.

    Raises:
        InputError: ``make`` raised it there, or the process died.
        RuntimeError: anything else was raised there, with its traceback.
    """

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """The answer of a method of the object; raises as the constructor does."""
        try:
            self._connection.send((method, arguments))
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None
        return self._answer()

    def close(self) -> None:
        """Ends the process; it gets ten seconds to leave by itself."""
        with suppress(OSError):
            self._connection.close()
        self._process.join(_CLOSE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> OwnProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        try:
            outcome, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if outcome == "input":
            what, where, expected, remedy = value
            raise InputError(what, where=where, expected=expected, remedy=remedy)
        if outcome == "failed":
            raise RuntimeError(f"in the process of {self._name}:\n{value}")
        return value

    def _died(self) -> InputError:
        self._process.join(_CLOSE_S)
        code = self._process.exitcode
        why = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return InputError(
            f"its process ended with {why}",
            where=self._name,
            remedy="signal 9 is what a machine without memory left sends; messages of its libraries stand above",
        )


def peak_memory_mib() -> float | None:
    """Most memory that this process held at a time, MiB; none where the system does not tell."""
    return _status_mib("VmHWM:")


def memory_mib() -> float | None:
    """Memory that this process holds, MiB; none where the system does not tell."""
    return _status_mib("VmRSS:")


def _status_mib(field: str) -> float | None:
    # Not `getrusage`: its peak survives the start of a new program, so a child would report its parent's.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith(field):
                    return int(line.split()[1]) / 1024
    except OSError:
        return None
    return None


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # What libraries print belongs to standard error: standard output is the caller's table or JSON.
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), 1)
    made: list[Any] = []  # stays on this side: of the object only the news that it is there is sent
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        _reply(connection, lambda: made.append(make(*arguments)))
        while made:
            method, values = connection.recv()
            _reply(connection, partial(getattr(made[0], method), *values))


def _reply(connection: Connection, work: Callable[[], Any]) -> None:
    answer: tuple[str, Any]
    try:
        answer = ("value", work())
    except InputError as error:
        answer = ("input", (error.what, error.where, error.expected, error.remedy))
    except Exception:
        answer = ("failed", traceback.format_exc())
    connection.send(answer)
