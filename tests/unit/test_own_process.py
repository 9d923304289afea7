"""An object in a process of its own: answers, errors of every kind, death."""

from __future__ import annotations

import os
import signal

import pytest

from personsearch.benchmarks.own_process import OwnProcess, memory_mib, peak_memory_mib
from personsearch.core.errors import InputError


class Counter:
    """Counts in its own process."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise InputError(f"start is {start}", where="counter", expected="0 or more", remedy="count up")
        self._value = start

    def add(self, amount: int) -> int:
        self._value += amount
        return self._value

    def pid(self) -> int:
        os.write(1, b"libraries print")
        return os.getpid()

    def hold(self, mib: int) -> tuple[float | None, float | None]:
        block = bytearray(mib << 20)
        block[::4096] = b"x" * len(block[::4096])
        del block
        return memory_mib(), peak_memory_mib()

    def fail(self) -> None:
        raise KeyError("inside")

    def refuse(self) -> None:
        raise InputError("no", where="here")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_object_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    with OwnProcess("counter", Counter, 3) as counter:
        assert [counter.call("add", 2), counter.call("add", 5)] == [5, 10]
        assert counter.call("pid") != os.getpid()
        with pytest.raises(RuntimeError, match=r"(?s)in the process of counter.*KeyError: 'inside'"):
            counter.call("fail")
        with pytest.raises(InputError, match=r"^here: no$"):
            counter.call("refuse")
        assert counter.call("add", 0) == 10  # it goes on after an error
        now, peak = counter.call("hold", 64)
        if now is not None and peak is not None:
            assert peak >= now
            assert peak >= 64
        with pytest.raises(InputError, match="counter: its process ended with signal 9"):
            counter.call("die")
    assert "libraries print" not in capfd.readouterr().out


def test_what_cannot_be_made_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^counter: start is -1; expected 0 or more; count up$"):
        OwnProcess("counter", Counter, -1)
