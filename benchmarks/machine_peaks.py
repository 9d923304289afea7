"""What a machine can do at best: bytes a second through memory, operations a second by each library.

Measured with as many threads as the systems use, in a process of its own. The best of several repetitions counts, as
in McCalpin's STREAM: a bound is what could be reached, and other work on the machine only takes away from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from personsearch.core.errors import InputError
from personsearch.core.openvino_core import openvino_core
from personsearch.core.recipe import StrictModel

Library = Literal["onnxruntime", "openvino", "torch"]
LIBRARIES: tuple[Library, ...] = ("onnxruntime", "openvino", "torch")
SIDE = 1024
_LEAST_REPEATS = 3
_LEAST_BYTES = 64 << 20
_MOST_BYTES = 512 << 20


class MachinePeaks(StrictModel):
    """Bounds of one library with one number of threads."""

    library: Library
    threads: int
    bytes_per_s: float = Field(description="the better of copying and adding large arrays, reads and writes counted")
    fp32_flops_per_s: float = Field(description="of a matrix product, 1 MAC = 2 FLOP")
    int8_ops_per_s: float | None = Field(description="of the same product of uint8 and int8; none: not offered")
    array_mib: int
    side: int = SIDE


class PeakMeter:
    """Measures again and keeps the best.

    Args:
        library: whose matrix products are timed.
        threads: of a product; none for as many as there are cores.

    Raises:
        InputError: what the library needs for its product is not installed.
    """

    def __init__(self, library: Library, threads: int | None = None) -> None:
        from personsearch.runtime.machine import usable_cores

        self._library, self._threads = library, threads or usable_cores()
        self._bytes = _array_bytes()
        self._arrays = [np.full(self._bytes // 4, value, np.float32) for value in (1.0, 2.0, 0.0)]
        self._products = {number: _product(library, number, self._threads) for number in ("fp32", "int8")}
        self._best: dict[str, float] = {}

    def measure(self, seconds: float = 0.4) -> MachinePeaks:
        """The best of these and all earlier repetitions; each kind is repeated for ``seconds``, thrice at least."""
        pieces = [[part.view() for part in np.array_split(array, self._threads)] for array in self._arrays]
        with ThreadPoolExecutor(self._threads) as pool:  # NumPy lets go of the interpreter inside one operation
            self._keep("copy", 2 * self._bytes, lambda: list(pool.map(np.copyto, pieces[2], pieces[0])), seconds)
            self._keep("add", 3 * self._bytes, lambda: list(pool.map(_add, *pieces)), seconds)
        for number, product in self._products.items():
            if product is not None:
                self._keep(number, 2 * SIDE**3, product, seconds)
        return MachinePeaks(
            library=self._library,
            threads=self._threads,
            bytes_per_s=max(self._best["copy"], self._best["add"]),
            fp32_flops_per_s=self._best["fp32"],
            int8_ops_per_s=self._best.get("int8"),
            array_mib=self._bytes >> 20,
        )

    def _keep(self, name: str, amount: int, work: Callable[[], object], seconds: float) -> None:
        ended = time.perf_counter() + seconds
        repeats = 0
        while repeats < _LEAST_REPEATS or time.perf_counter() < ended:
            started = time.perf_counter()
            work()
            self._best[name] = max(self._best.get(name, 0.0), amount / (time.perf_counter() - started))
            repeats += 1


def library_of(runner: str) -> Library | None:
    """The library that a system's runner names first, if its peak can be measured here."""
    return next((library for library in LIBRARIES if runner.split(" ")[0] == library), None)


def _add(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    np.add(first, second, out=out)


def _array_bytes() -> int:
    """Four times the last cache, so that nothing stays in it, within reason."""
    largest = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text.endswith("K") and text[:-1].isdecimal():
            largest = max(largest, int(text[:-1]) << 10)
    return min(max(4 * largest, _LEAST_BYTES), _MOST_BYTES)


def _product(library: Library, number: str, threads: int) -> Callable[[], object] | None:
    if library == "torch":
        return _torch_product(threads) if number == "fp32" else None
    graph = _graph(quantised=number == "int8")
    feed = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    if library == "openvino":
        core = openvino_core()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda: request.infer({0: feed}, share_inputs=True, share_outputs=True)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": feed})


def _torch_product(threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    first, second = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    return lambda: torch.mm(first, second, out=out)


def _graph(*, quantised: bool) -> bytes:
    """``x`` times a constant matrix; quantised with uint8 activations and int8 weights as explicit Q and DQ nodes."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise InputError(
            "the machine's peak is measured with a graph, which needs `onnx`",
            remedy="pip install 'edge-person-search[train]', or `--no-roofline`",
        ) from None
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {}
    nodes = []
    if quantised:
        constants = {
            "scale": np.array(0.03, np.float32),
            "zero": np.array(128, np.uint8),
            "weight_scale": np.array(0.01, np.float32),
            "weight_zero": np.array(0, np.int8),
            "weight": rng.integers(-127, 128, (SIDE, SIDE)).astype(np.int8),
        }
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
            helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["left"]),
            helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["right"]),
        ]
    else:
        constants = {"right": rng.normal(size=(SIDE, SIDE)).astype(np.float32)}
    nodes.append(helper.make_node("MatMul", ["left" if quantised else "x", "right"], ["y"]))
    shape = [SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())
