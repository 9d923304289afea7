"""A module's steps, recorded while it runs on the meta device: shapes only, nothing is computed."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from personsearch.benchmarks.flops_trace import Layer, Phase, Step, Trace, pooling_layer

PRODUCTS = {"convolution", "mm", "addmm", "bmm", "baddbmm"}
ROI_ALIGN = "roi_align"
COPIES = {"clone", "contiguous", "_unsafe_view", "_reshape_copy"}
ELEMENTWISE = {
    "_to_copy", "add", "sub", "mul", "div", "relu", "clamp", "clamp_min", "clamp_max", "sigmoid", "exp", "abs",
    "hardswish", "hardsigmoid", "hardtanh", "silu", "where", "minimum", "maximum", "gt", "ge", "lt", "le",
    "bitwise_and", "bitwise_not", "neg", "sqrt", "rsqrt", "pow", "tanh", "rsub", "leaky_relu", "gelu",
    "reciprocal", "log",
}  # fmt: skip


def trace_module(module: nn.Module, *inputs: Tensor) -> Trace:
    """The steps of one forward pass of a copy of ``module`` in evaluation mode; ``inputs`` lie on the meta device."""
    shadow = copy.deepcopy(module).to("meta").eval()
    recorder = _Recorder(shadow, inputs)
    with torch.no_grad(), recorder:
        outputs = shadow(*inputs)
    found = [outputs] if isinstance(outputs, Tensor) else [one for one in outputs if isinstance(one, Tensor)]
    return recorder.trace(found)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Notes every operator on tensors that depend on the inputs."""

    def __init__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._held: list[Tensor] = []  # keeps storages alive: a freed one's address could come again
        self._weights = {_key(tensor): name for name, tensor in module.named_parameters()}
        self._weights |= {_key(tensor): name for name, tensor in module.named_buffers()}
        self._memory: dict[int, int] = {}  # of a storage that depends on the inputs
        self._sizes: dict[int, int] = {}
        self._late: set[int] = set()  # memory that depends on a top-k
        self._used: dict[str, int] = {}
        self._steps: list[Step] = []
        self._inputs = tuple(self._new(tensor) for tensor in inputs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.removesuffix("_")  # add_ is add, in place
        read = _tensors((args, kwargs or {}))
        made = _tensors(result)
        self._held += made
        self._note(name, read, made)
        return result

    def trace(self, outputs: list[Tensor]) -> Trace:
        """What was recorded; ``outputs`` are those of the module."""
        kept = tuple(dict.fromkeys(self._memory[_key(tensor)] for tensor in outputs if _key(tensor) in self._memory))
        return Trace(tuple(self._steps), self._sizes, self._inputs, kept, self._used)

    def _new(self, tensor: Tensor) -> int:
        memory = len(self._sizes)
        self._held.append(tensor)
        self._memory[_key(tensor)] = memory
        self._sizes[memory] = _bytes(tensor)
        return memory

    def _note(self, name: str, read: list[Tensor], made: list[Tensor]) -> None:
        reads = tuple(dict.fromkeys(self._memory[_key(tensor)] for tensor in read if _key(tensor) in self._memory))
        if not reads:
            return  # of weights and constants alone
        if name in COPIES:
            for tensor in made:
                self._memory[_key(tensor)] = reads[0]
            return
        fresh = [tensor for tensor in made if _key(tensor) not in self._memory]
        if not fresh and name not in ELEMENTWISE:
            return  # a view
        late = name == "topk" or any(memory in self._late for memory in reads)
        layer = self._layer(name, read, made[0]) if name in PRODUCTS else None
        if name == ROI_ALIGN:
            layer = pooling_layer(_bytes(read[0]), _bytes(made[0]), made[0].shape[0])
        writes = tuple(self._new(tensor) for tensor in fresh)
        if late:
            self._late.update(writes)
        phase: Phase = "person" if late else "scene"
        self._steps.append(Step(reads, writes, phase, elementwise=name in ELEMENTWISE, layer=layer))

    def _layer(self, name: str, read: list[Tensor], output: Tensor) -> Layer:
        operands = [tensor for tensor in read if tensor is not None]
        factors = operands[1:3] if name in ("addmm", "baddbmm") else operands[:2]
        if name == "convolution":
            macs = output.numel() * math.prod(factors[1].shape[1:])
        else:
            macs = output.numel() * factors[0].shape[-1]
        activations, weights, weighted = _bytes(output), 0, False
        for tensor in operands:
            size = _bytes(tensor)
            if _key(tensor) in self._memory:
                activations += min(size, self._sizes[self._memory[_key(tensor)]])
            else:
                weights += size
                weighted |= any(tensor is factor for factor in factors)
                self._used[self._weights.get(_key(tensor), f"constant {_key(tensor)}")] = tensor.numel()
        rows = output.shape[0]
        return Layer(macs, rows, weighted, activations, weights)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []
