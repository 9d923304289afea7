"""A stand-in for a version of TensorRT that has exactly the names its real binding has.

`module` makes a Python module of a recorded surface (``tests/golden/tensorrt_api``). A name that the version lacks
raises `AttributeError`, a call must fit one of the recorded signatures in number, names and kinds of arguments, and a
property that is read-only cannot be set. Behaviour is a few lines: the parser takes any ONNX graph, an "engine" is that
graph, and running it runs ONNX Runtime on the memory whose addresses were set.
"""

from __future__ import annotations

import ctypes
import enum
import json
import re
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

SURFACES = Path(__file__).parent / "golden" / "tensorrt_api"
MAGIC = b"engine of "
_NUMPY = {"UINT8": np.uint8, "FLOAT": np.float32}


class Surface:
    """One recorded version.

    Attributes:
        module: to be put into ``sys.modules``.
        calls: what was called or set, as ``("IBuilderConfig.set_flag", ("VERSION_COMPATIBLE",))``.
    """

    def __init__(self, name: str, driver: Path | None = None) -> None:
        content = json.loads((SURFACES / f"{name}.json").read_text(encoding="utf-8"))
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.version, self._classes = content["version"], content["classes"]
        self._driver = ctypes.CDLL(str(driver)) if driver is not None else None
        self._kept: list[Any] = []
        self.dla_cores = 0
        title = name.partition("-")[0]
        self.module = types.ModuleType(title)
        self.module.__spec__ = ModuleSpec(title, None)
        self.module.__version__ = content["version"]  # type: ignore[attr-defined]  # as the real package has it
        self.enums = {
            # Not an IntEnum: the bindings' members are no numbers either.
            key: enum.Enum(key.rpartition(".")[2], {n: Number(v) for n, v in members.items()})  # type: ignore[misc]  # made at run time
            for key, members in content["enums"].items()
        }
        for key, kind in self.enums.items():
            kind.__int__ = lambda member: member.value.number  # type: ignore[attr-defined]  # as pybind11's enums
            if "." not in key:
                setattr(self.module, key, kind)
        for key, members in self._classes.items():
            setattr(self.module, key, self._make_class(key, members))
        self.module.ILogger.Severity = self.enums["ILogger.Severity"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def _make_class(self, title: str, members: dict[str, Any]) -> type:
        surface = self

        def initialise(self: Any, *arguments: Any) -> None:
            surface._check(title, "__init__", members.get("__init__", []), arguments)
            self.__dict__.update(values={}, made_with=arguments)
            _start(surface, title, self, arguments)

        def set_attribute(self: Any, name: str, value: Any) -> None:
            if type(self).__name__ == title and members.get(name) != "read and write":
                raise AttributeError(f"{title}.{name} cannot be set in {surface.version}")
            if name in members:
                surface.calls.append((f"{title}.{name}", (_plain(value),)))
                self.__dict__["values"][name] = value
            else:
                self.__dict__[name] = value  # of a Python class derived from it

        body: dict[str, Any] = {"__init__": initialise, "__setattr__": set_attribute}
        for name, recorded in members.items():
            if name == "__init__":
                continue
            body[name] = (
                self._property(title, name) if isinstance(recorded, str) else self._method(title, name, recorded)
            )
        bases: tuple[type, ...] = {"Dims": (list,), "IHostMemory": (bytes,)}.get(title, ())
        if bases:
            del body["__init__"], body["__setattr__"]
        return type(title, bases, body)

    def _property(self, title: str, name: str) -> property:
        def get(owner: Any) -> Any:
            behaviour = BEHAVIOUR.get(f"{title}.{name}")
            return behaviour(self, owner) if behaviour is not None else owner.__dict__["values"].get(name, 0)

        return property(get)

    def _method(self, title: str, name: str, signatures: list[str]) -> Callable[..., Any]:
        surface = self

        def call(owner: Any, *arguments: Any) -> Any:
            given = surface._check(title, name, signatures, arguments)
            surface.calls.append((f"{title}.{name}", tuple(_plain(value) for value in arguments)))
            behaviour = BEHAVIOUR.get(f"{title}.{name}")
            if behaviour is not None:
                return behaviour(surface, owner, *arguments)
            returns = given.rpartition("-> ")[2]
            if returns in surface._classes:
                made = surface.module.__dict__[returns]
                return made.__new__(made) if returns in ("IHostMemory", "Dims") else _bare(made)
            return {"bool": True, "int": 0, "str": "", "None": None}[returns]

        return call

    def _check(self, title: str, name: str, signatures: list[str], arguments: tuple[Any, ...]) -> str:
        for signature in signatures:
            if self._fits(signature, arguments):
                return signature
        if name == "__init__" and not signatures:
            return ""
        raise TypeError(f"{title}.{name}{arguments} fits none of {signatures} in {self.version}")

    def _fits(self, signature: str, arguments: tuple[Any, ...]) -> bool:
        inside = re.sub(r"<.*?>", "", signature.partition("(")[2].rpartition(") ->")[0])
        wanted = [part.strip() for part in inside.split(", ")][1:]
        needed = [part for part in wanted if "=" not in part]
        if not len(needed) <= len(arguments) <= len(wanted):
            return False
        return all(
            self._is(part.partition(":")[2].partition("=")[0].strip(), value)
            for part, value in zip(wanted, arguments, strict=False)
        )

    def _is(self, kind: str, value: Any) -> bool:
        if kind in self.enums:
            return isinstance(value, self.enums[kind])
        if kind in self._classes:
            return isinstance(value, self.module.__dict__[kind])
        if kind.endswith("Buffer") or kind == "buffer":
            return isinstance(value, bytes)
        plain = {"str": str, "bool": bool, "tuple": tuple, "list": list}
        if kind in plain:
            return isinstance(value, plain[kind])
        if kind in ("int", "typing.SupportsInt", "capsule"):
            return hasattr(value, "__int__")
        raise AssertionError(f"the stand-in does not know the kind `{kind}`")


class Number:
    """A number of an enum; several members may share one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, enum.Enum) else value


def _bare(kind: type) -> Any:
    """An object that only the library makes."""
    made = object.__new__(kind)
    made.__dict__["values"] = {}
    return made


def _start(surface: Surface, title: str, made: Any, arguments: tuple[Any, ...]) -> None:
    if title == "OnnxParser":
        made.__dict__["network"] = arguments[0]


def _parse(surface: Surface, parser: Any, content: bytes) -> bool:
    parser.network.__dict__["content"] = content
    parser.network.__dict__["graph"] = onnx.ModelProto.FromString(content).graph
    return "NoSuchOperator" not in {node.op_type for node in parser.network.graph.node}


def _tensor(surface: Surface, value: onnx.ValueInfoProto) -> Any:
    tensor = _bare(surface.ITensor)
    kind = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.FLOAT: "FLOAT"}[value.type.tensor_type.elem_type]
    sides = [side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim]
    tensor.__dict__["values"].update(
        name=value.name, dtype=surface.enums["DataType"][kind], shape=surface.module.Dims(sides)
    )
    return tensor


def _build(surface: Surface, builder: Any, network: Any, config: Any) -> Any:
    monitor = config.values.get("progress_monitor")
    if monitor is not None:
        monitor.phase_start("Building engine", None, 2)
        monitor.phase_start("Tactics", "Building engine", 3)
        going = True
        for step in range(3):
            going = monitor.step_complete("Tactics", step) and going
        monitor.phase_finish("Tactics")
        going = monitor.step_complete("Building engine", 1) and going
        monitor.phase_finish("Building engine")
        if not going:
            return None
    return surface.module.IHostMemory(MAGIC + surface.version.encode() + b":" + network.content)


def _load(surface: Surface, runtime: Any, content: bytes) -> Any:
    head = MAGIC + surface.version.encode() + b":"
    if not content.startswith(head):
        return None
    engine = _bare(surface.ICudaEngine)
    graph = onnx.ModelProto.FromString(content[len(head) :]).graph
    engine.__dict__["session"] = ort.InferenceSession(content[len(head) :], providers=["CPUExecutionProvider"])
    engine.__dict__["tensors"] = {v.name: _tensor(surface, v) for v in [*graph.input, *graph.output]}
    engine.__dict__["inputs"] = [value.name for value in graph.input]
    return engine


def _context(surface: Surface, engine: Any, *arguments: Any) -> Any:
    context = _bare(surface.IExecutionContext)
    context.__dict__.update(owner=engine, addresses={}, shapes={})
    return context


def _set_shape(surface: Surface, context: Any, name: str, shape: tuple[int, ...]) -> bool:
    context.shapes[name] = tuple(shape)
    return 1 <= shape[0] <= 4


def _execute(surface: Surface, context: Any, stream: int) -> bool:
    engine = context.owner

    def array(name: str, shape: tuple[int, ...]) -> Any:
        kind = _NUMPY[engine.tensors[name].dtype.name]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(context.addresses[name]), kind).reshape(shape)

    def work() -> None:
        shapes = {name: context.shapes.get(name, tuple(engine.tensors[name].shape)) for name in engine.inputs}
        results = engine.session.run(None, {name: array(name, shape) for name, shape in shapes.items()})
        for node, values in zip(engine.session.get_outputs(), results, strict=True):
            array(node.name, values.shape)[...] = values

    assert surface._driver is not None
    callback = ctypes.CFUNCTYPE(None)(work)
    surface._kept.append(callback)  # a recorded graph calls it again
    return bool(surface._driver.fake_enqueue(callback, ctypes.c_uint64(stream)) == 0)


BEHAVIOUR: dict[str, Callable[..., Any]] = {
    "Builder.build_serialized_network": _build,
    "Builder.num_DLA_cores": lambda surface, builder: surface.dla_cores,
    "IBuilderConfig.create_timing_cache": lambda surface, config, content: _bare(surface.ITimingCache),
    "IBuilderConfig.get_timing_cache": lambda surface, config: _bare(surface.ITimingCache),
    "IBuilderConfig.can_run_on_DLA": lambda surface, config, layer: True,
    "ITimingCache.serialize": lambda surface, cache: surface.module.IHostMemory(b"times"),
    "OnnxParser.parse": _parse,
    "OnnxParser.num_errors": lambda surface, parser: 1,
    "OnnxParser.get_error": lambda surface, parser, index: "In node 0: NoSuchOperator is not supported",
    "INetworkDefinition.num_layers": lambda surface, network: len(network.graph.node),
    "INetworkDefinition.num_inputs": lambda surface, network: len(network.graph.input),
    "INetworkDefinition.num_outputs": lambda surface, network: len(network.graph.output),
    "INetworkDefinition.get_input": lambda surface, network, index: _tensor(surface, network.graph.input[index]),
    "INetworkDefinition.get_output": lambda surface, network, index: _tensor(surface, network.graph.output[index]),
    "INetworkDefinition.get_layer": lambda surface, network, index: _bare(surface.ILayer),
    "Runtime.deserialize_cuda_engine": _load,
    "EngineInspector.get_engine_information": lambda surface, inspector, kind: '{"Layers": []}',
    "ICudaEngine.num_io_tensors": lambda surface, engine: len(engine.tensors),
    "ICudaEngine.get_tensor_name": lambda surface, engine, index: list(engine.tensors)[index],
    "ICudaEngine.get_tensor_dtype": lambda surface, engine, name: engine.tensors[name].dtype,
    "ICudaEngine.get_tensor_shape": lambda surface, engine, name: engine.tensors[name].shape,
    "ICudaEngine.get_tensor_mode": lambda surface, engine, name: surface.enums["TensorIOMode"][
        "INPUT" if name in engine.inputs else "OUTPUT"
    ],
    "ICudaEngine.get_tensor_profile_shape": lambda surface, engine, name, index: [
        surface.module.Dims([size, *list(engine.tensors[name].shape)[1:]]) for size in (1, 2, 4)
    ],
    "ICudaEngine.create_execution_context": _context,
    "IExecutionContext.set_tensor_address": lambda surface, context, name, address: (
        context.addresses.__setitem__(name, address) or True
    ),
    "IExecutionContext.set_input_shape": _set_shape,
    "IExecutionContext.infer_shapes": lambda surface, context: [],
    "IExecutionContext.execute_async_v3": _execute,
}
