"""One OpenVINO core a process: two that end in the order they began leave signals without a stack."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from personsearch.core.openvino_core import openvino_core

REPO = Path(__file__).parents[2]
TWO_THEN_A_SIGNAL = """
import gc, os, signal
import numpy as np, openvino
from openvino import opset13
from personsearch.core.openvino_core import openvino_core

def compiled():
    frame = opset13.parameter([1, 3, 8, 8], np.float32)
    core = openvino_core()
    return core, core.compile_model(openvino.Model([opset13.relu(frame)], [frame], "relu"), "CPU")

signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
first, second = compiled(), compiled()
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
print("alive", flush=True)
"""

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@needs_openvino
def test_a_signal_after_networks_were_closed_in_the_order_they_were_opened() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_THEN_A_SIGNAL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["handled", "alive"]), done.stderr[-2000:]


@needs_openvino
def test_it_is_one() -> None:
    assert openvino_core() is openvino_core()


def test_nobody_makes_another() -> None:
    folders = ("src", "train", "distill", "export", "runtime", "benchmarks", "tests")
    files = {path.resolve() for folder in folders for path in (REPO / folder).rglob("*.py")}
    makers = {path.name for path in files if "openvino.Core(" in path.read_text(encoding="utf-8")}
    assert makers - {Path(__file__).name} == {"openvino_core.py"}
