"""From an ONNX graph's bytes to an engine of TensorRT or TensorRT for RTX in the local cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from personsearch.core.cuda_driver import CudaDriver, probe_cuda
from personsearch.core.engine_cache import BuildFlags, EngineCache, EngineKey, EngineRecord, EngineTensor
from personsearch.core.engine_tensorrt import TensorRt, numpy_dtype, require_gpu
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress

_HARDWARE_LEVELS = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
_PARTS = 100


@dataclass(frozen=True)
class CompiledGraph:
    """What parser and builder made of a graph.

    Attributes:
        engine: as it is serialised.
        inputs, outputs: of the network.
        layers: of the parsed network, before fusion.
        dla_layers: of these, how many can run on the DLA core that was asked for.
        timings: times of tactics to build with next time, or nothing.
        warnings: of parser and builder.
        seconds: that it took.
    """

    engine: bytes
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    layers: int
    dla_layers: int
    timings: bytes
    warnings: tuple[str, ...]
    seconds: float


def build_engine(api: TensorRt, content: bytes, key: EngineKey, cache: EngineCache, *, graph: str) -> EngineRecord:
    """Builds a graph's engine and stores it, with its sidecar, in the local cache.

    Args:
        api: the library.
        content: the ONNX file's bytes, without external data.
        key: what to build; its library and version are ``api``'s.
        cache: takes the engine.
        graph: the ONNX file's name, for messages and the sidecar.

    Raises:
        InputError: as `compile_graph`, or the cache cannot be written.
    """
    path = cache.timing_file(key)
    timings = path.read_bytes() if path.is_file() else b""
    compiled = compile_graph(
        api, content, graph=graph, targets=(key.compute_capability,), flags=key.flags, timings=timings
    )
    driver = probe_cuda()
    record = EngineRecord(
        key=key,
        graph=graph,
        built=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        build_seconds=round(compiled.seconds, 3),
        gpu=driver.devices[0] if driver.devices else "",
        driver=driver.version,
        inputs=compiled.inputs,
        outputs=compiled.outputs,
        layers=compiled.layers,
        dla_layers=compiled.dla_layers,
        warnings=compiled.warnings,
    )
    # The inspector looks at a loaded engine, and one for another GPU does not load.
    loads_here = key.compute_capability in driver.compute_capabilities[:1]
    report = _layer_report(api, compiled.engine, key.flags) if loads_here else ""
    stored = cache.store(record, compiled.engine, report)
    if compiled.timings:
        cache.keep_timings(key, compiled.timings)
    return stored


def compile_graph(
    api: TensorRt,
    content: bytes,
    *,
    graph: str,
    targets: Sequence[str],
    flags: BuildFlags | None = None,
    timings: bytes = b"",
) -> CompiledGraph:
    """Parses a graph and builds its engine, with a progress bar; runs nothing.

    Args:
        api: the library.
        content: the ONNX file's bytes, without external data.
        graph: the ONNX file's name, for messages.
        targets: compute capabilities, as ``8.6``; TensorRT builds for the GPU that is here, whatever is asked for.
        flags: none for the defaults.
        timings: of an earlier build.

    Raises:
        InputError: the library needs a GPU that is not here, the parser or the builder refuses the graph (in its
            words), or the version or the GPU has no such option.
    """
    flags = flags or BuildFlags()
    driver = probe_cuda()
    if not api.is_rtx:
        # Its builder without a driver aborts, or is a null pointer.
        require_gpu(api.library, "build engines")
    started = time.monotonic()
    api.take_messages()
    parsed = parse_graph(api, content, graph)
    config = _config(api, parsed, flags)
    if api.is_rtx:
        _target(api, config, targets, driver)
    else:
        _use_timings(config, timings)
    engine = _build(api, parsed, config, graph)
    network = parsed.network
    return CompiledGraph(
        engine=engine,
        inputs=_tensors(network, "input"),
        outputs=_tensors(network, "output"),
        layers=network.num_layers,
        dla_layers=_dla_layers(network, config) if flags.dla_core is not None else 0,
        # TensorRT for RTX times nothing when it builds; its calls for it are there and do nothing.
        timings=b"" if api.is_rtx else bytes(memoryview(config.get_timing_cache().serialize())),
        warnings=tuple(" ".join(line.split()) for line in api.take_messages()[1]),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class ParsedNetwork:
    """A network that the parser took.

    Attributes:
        builder: that made it; kept, since the network refers to it.
        network: strongly typed.
    """

    builder: Any
    network: Any


def parse_graph(api: TensorRt, content: bytes, graph: str) -> ParsedNetwork:
    """The graph as a strongly typed network: precision is what the graph says, for every version.

    Raises:
        InputError: the parser refuses it, in its words.
    """
    builder = api.module.Builder(api.log)
    # 10.x has to be asked for strong typing; in 11 the flag remains and changes nothing.
    network = builder.create_network(1 << int(api.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")))
    parser = api.module.OnnxParser(network, api.log)
    if not parser.parse(content):
        said = [str(parser.get_error(index)) for index in range(parser.num_errors)] or ["no reason given"]
        raise InputError(f"{api.title} cannot read the graph", where=graph, remedy=said[0])
    return ParsedNetwork(builder, network)


def _config(api: TensorRt, parsed: ParsedNetwork, flags: BuildFlags) -> Any:
    if api.is_rtx:
        _refuse_on_rtx(api, flags)
    config = parsed.builder.create_builder_config()
    config.set_memory_pool_limit(api.member("MemoryPoolType", "WORKSPACE"), flags.workspace_mib << 20)
    config.profiling_verbosity = api.member("ProfilingVerbosity", "DETAILED")
    if not flags.tf32:
        config.clear_flag(api.member("BuilderFlag", "TF32"))
    if flags.optimisation_level is not None:
        config.builder_optimization_level = flags.optimisation_level
    if flags.version_compatible:
        config.set_flag(api.member("BuilderFlag", "VERSION_COMPATIBLE"))
    if flags.hardware_compatible != "none":
        level = api.member("HardwareCompatibilityLevel", _HARDWARE_LEVELS[flags.hardware_compatible])
        config.hardware_compatibility_level = level
    if flags.dla_core is not None:
        cores = parsed.builder.num_DLA_cores
        if flags.dla_core >= cores:
            raise InputError(
                f"there is no DLA core {flags.dla_core}: {api.title} sees {cores} here", remedy="leave --dla out"
            )
        config.default_device_type = api.member("DeviceType", "DLA")
        config.DLA_core = flags.dla_core
        config.set_flag(api.member("BuilderFlag", "GPU_FALLBACK"))
    _add_profile(api, parsed, config, flags)
    return config


def _refuse_on_rtx(api: TensorRt, flags: BuildFlags) -> None:
    """What TensorRT for RTX takes with a warning or without, and does not do."""
    for asked, name in (
        (flags.version_compatible, "version-compatible engines"),
        (flags.hardware_compatible != "none", "hardware-compatible engines"),
        (flags.dla_core is not None, "DLA"),
    ):
        if asked:
            raise InputError(f"{api.title} has no {name}", remedy="leave the option out, or use --engine tensorrt")


def _add_profile(api: TensorRt, parsed: ParsedNetwork, config: Any, flags: BuildFlags) -> None:
    """The batches of a graph that leaves them free; graphs of fixed shapes need none."""
    free = [tensor for tensor in _each(parsed.network, "input") if -1 in tuple(tensor.shape)]
    if not free:
        return
    if flags.batch is None or not 1 <= flags.batch[0] <= flags.batch[1] <= flags.batch[2]:
        raise InputError(
            f"input `{free[0].name}` takes any batch, and the batch is {flags.batch or 'not given'}",
            expected="fewest, usual and most frames, each at least 1, such as 1,4,8",
        )
    profile = parsed.builder.create_optimization_profile()
    for tensor in free:
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *(api.module.Dims((size, *rest)) for size in flags.batch))
    if config.add_optimization_profile(profile) < 0:
        raise InputError(f"{api.title} refuses the batch {flags.batch}", remedy="; ".join(api.take_messages()[0]))


def _target(api: TensorRt, config: Any, targets: Sequence[str], driver: CudaDriver) -> None:
    names = []
    for target in targets:
        names.append("SM" + target.replace(".", ""))
        if not api.has("ComputeCapability", names[-1]):
            if len(targets) > 1 or target not in driver.compute_capabilities:
                raise InputError(
                    f"{api.title} does not build for compute capability {target}",
                    expected=f"one of {', '.join(api.compute_capabilities())}, or that of the GPU here",
                )
            names = ["CURRENT"]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(api.member("ComputeCapability", name), index):
            raise InputError(f"{api.title} refuses compute capability {targets[index]}")


def _use_timings(config: Any, content: bytes) -> None:
    """Tactics' times of earlier builds, where they fit; a build adds to them."""
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _build(api: TensorRt, parsed: ParsedNetwork, config: Any, graph: str) -> bytes:
    with StageProgress(f"Building {graph}", _PARTS) as progress:
        monitor = _progress_monitor(api, progress)
        config.progress_monitor = monitor
        engine = parsed.builder.build_serialized_network(parsed.network, config)
        if monitor.stopped:
            raise KeyboardInterrupt
        if engine is None:
            said = api.take_messages()[0] or ("no reason given",)
            raise InputError(f"{api.title} cannot build the graph", where=graph, remedy=said[0])
        progress.advance_to(_PARTS)
    return bytes(memoryview(engine))


def _progress_monitor(api: TensorRt, progress: StageProgress) -> Any:
    """The library's progress as parts of a hundred: a phase counts for one step of the phase it is in."""

    class Monitor(api.module.IProgressMonitor):  # type: ignore[name-defined,misc]  # the package has no types
        def __init__(self) -> None:
            super().__init__()
            self.stopped = False
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # phase: parent, steps, steps done
            self._most = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase, num_steps, 0)

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                parent, steps, _ = self._phases.get(phase_name, (None, 1, 0))
                self._phases[phase_name] = (parent, steps, step + 1)
                self._most = max(self._most, min(_PARTS - 1, int(_PARTS * self._share(phase_name))))
                progress.advance_to(self._most, note=phase_name)
            except KeyboardInterrupt:
                # Must not pass through the library's frames; it stops at the next step when told so.
                self.stopped = True
            return not self.stopped

        def _share(self, phase: str) -> float:
            parent, steps, done = self._phases[phase]
            share = min(done / max(steps, 1), 1.0)
            while parent is not None and parent in self._phases:
                above, steps, done = self._phases[parent]
                share = min((done + share) / max(steps, 1), 1.0)
                parent = above
            return share

    return Monitor()


def _dla_layers(network: Any, config: Any) -> int:
    """TensorRT moves what the DLA cannot do to the GPU without a word; this says how much is left there."""
    return sum(bool(config.can_run_on_DLA(network.get_layer(index))) for index in range(network.num_layers))


def _layer_report(api: TensorRt, engine: bytes, flags: BuildFlags) -> str:
    runtime = api.module.Runtime(api.log)
    runtime.engine_host_code_allowed = flags.version_compatible
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        said = api.take_messages()[0] or ("no reason given",)
        raise InputError(f"{api.title} does not load what it has built", remedy=said[0])
    inspector = loaded.create_engine_inspector()
    return str(inspector.get_engine_information(api.member("LayerInformationFormat", "JSON")))


def _tensors(network: Any, kind: str) -> tuple[EngineTensor, ...]:
    return tuple(
        EngineTensor(name=tensor.name, dtype=numpy_dtype(tensor.dtype), shape=tuple(tensor.shape))
        for tensor in _each(network, kind)
    )


def _each(network: Any, kind: str) -> list[Any]:
    count, get = getattr(network, f"num_{kind}s"), getattr(network, f"get_{kind}")
    return [get(index) for index in range(count)]
