"""TensorRT and TensorRT for RTX behind the engine protocol; engines come from the local cache alone."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.engine_builder import build_engine
from personsearch.core.engine_builds import build_command, engine_key, require_buildable
from personsearch.core.engine_cache import EngineCache, EngineKey, EngineRecord, TensorRtName
from personsearch.core.engine_tensorrt import TensorRt, load_tensorrt, numpy_dtype, require_gpu
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.runtime.artifact_engine import ArtifactEngine
from personsearch.runtime.cuda_memory import CudaGraph, cuda_errors
from personsearch.runtime.cuda_owner import CudaOwner
from personsearch.runtime.graph import Array, Graph, TensorSpec


class TensorRtEngine(ArtifactEngine):
    """An artifact run by TensorRT on the first GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` chooses it).

    Args:
        artifact: the folder.
        library: ``tensorrt`` or ``tensorrt-rtx``.
        score_threshold: in place of the manifest's; ``spec`` then says so.
        rebuild: builds from the artifact's graphs what the cache lacks or what cannot run here.
        cache: none for the user's.

    Raises:
        InputError: see `personsearch.runtime.open_engine`.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        library: TensorRtName,
        score_threshold: float | None = None,
        rebuild: bool = False,
        cache: EngineCache | None = None,
    ) -> None:
        require_buildable(read_manifest(artifact), artifact)
        api = load_tensorrt(library)
        driver = require_gpu(library, "run")
        place = cache or EngineCache()
        self._notes: list[str] = []

        def open_graph(name: str, path: Path, content: bytes) -> Graph:
            key = engine_key(api, driver.compute_capabilities[0], driver, hashlib.sha256(content).hexdigest())
            try:
                record, engine = find_engine(place, key)
            except InputError as refusal:
                if not rebuild:
                    command = build_command(artifact, library)
                    raise InputError(
                        f"no engine of {path.name} can run here: {refusal}",
                        where=str(artifact),
                        remedy=f"build it with `{command}`, or add --rebuild",
                    ) from None
                near, _ = place.nearest(key)
                flags = near.key.flags if near is not None else None
                wanted = engine_key(api, key.compute_capability, driver, key.graph_sha256, flags)
                record = build_engine(api, content, wanted, place, graph=path.name)
                engine = place.load(place.place(wanted), record)
            graph = TensorRtGraph(self._owner, api, engine, record)
            self._notes += [note for note in graph.notes if note not in self._notes]
            return graph

        try:
            self._owner = CudaOwner()
        except cuda_errors() as error:
            raise InputError(
                f"the GPU cannot be used: {error}", remedy="`personsearch doctor` says what is here"
            ) from None
        # Also for an engine that nobody closes: a context left behind at the end of the process aborts it.
        weakref.finalize(self, self._owner.close)
        label = f"{library} {api.version}, {driver.devices[0]}, {self._owner.memory.name}"
        try:
            super().__init__(artifact, open_graph, label=label, score_threshold=score_threshold)
        except BaseException:
            self._owner.close()
            raise

    @property
    def label(self) -> str:
        """Library, its version, the GPU, and how the graphs are run, for records."""
        return ", ".join([self._label, *self._notes])

    def close(self) -> None:
        """Frees the graphs, the buffers and the context, in the thread that owns them."""
        super().close()
        self._owner.close()


def find_engine(cache: EngineCache, key: EngineKey) -> tuple[EngineRecord, bytes]:
    """The engine in the cache that can run as ``key``.

    Raises:
        InputError: there is none, and why; or what is there is not what was built.
    """
    found = cache.find(key)
    if found is None:
        raise InputError(cache.nearest(key)[1])
    return found[1], cache.load(*found)


class TensorRtGraph:
    """A `Graph` as an engine with its context and buffers, all of them the owner thread's.

    A graph of fixed shapes is run once and then replayed as one CUDA graph, copies included. TensorRT for RTX records
    by itself, since it still compiles kernels while the first frames run.

    Args:
        owner: the CUDA thread.
        api: the library.
        engine: serialised.
        record: its sidecar.

    Raises:
        InputError: TensorRT does not load the engine, or cannot run it once.
    """

    def __init__(self, owner: CudaOwner, api: TensorRt, engine: bytes, record: EngineRecord) -> None:
        self._owner, self._api, self._record = owner, api, record
        self.notes: tuple[str, ...] = ()
        self._replay: CudaGraph | None = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._hosts: dict[str, Array] = {}
        self._addresses: dict[str, int] = {}
        owner.before_close(self._free)
        owner.call(lambda: self._load(engine))

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._owner.call(lambda: self._run(feeds))

    def close(self) -> None:
        self._owner.call(self._free)

    def _load(self, engine: bytes) -> None:
        api, flags = self._api, self._record.key.flags
        self._runtime = api.module.Runtime(api.log)
        self._runtime.engine_host_code_allowed = flags.version_compatible
        if flags.dla_core is not None:
            self._runtime.DLA_core = flags.dla_core
        api.take_messages()
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise self._failure("does not load the engine")
        self._context = self._make_context()
        loaded = self._engine
        names = [loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)]
        mode = api.member("TensorIOMode", "INPUT")
        specs = {
            name: TensorSpec(numpy_dtype(loaded.get_tensor_dtype(name)), _sides(loaded.get_tensor_shape(name)))
            for name in names
        }
        self.inputs = {name: specs[name] for name in names if loaded.get_tensor_mode(name) == mode}
        self.outputs = {name: specs[name] for name in names if name not in self.inputs}
        free = [name for name, spec in self.inputs.items() if None in spec.shape]
        self.max_batch = int(loaded.get_tensor_profile_shape(free[0], 0)[2][0]) if free else None
        self._allocate()
        if not free:
            self._record_replay()

    def _make_context(self) -> Any:
        if self._api.is_rtx:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._api.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE")
            context = self._engine.create_execution_context(config)
            self.notes = ("CUDA graph by the library",)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise self._failure("makes no execution context")
        return context

    def _allocate(self) -> None:
        """Buffers of the largest batch; their addresses stay, which a recorded graph relies on."""
        memory = self._owner.memory
        for name, spec in {**self.inputs, **self.outputs}.items():
            shape = tuple(side if side is not None else self.max_batch or 1 for side in spec.shape)
            self._hosts[name] = memory.host(shape, spec.dtype)
            self._hosts[name].fill(0)
            self._addresses[name] = memory.device(self._hosts[name].nbytes)
            if not self._context.set_tensor_address(name, self._addresses[name]):
                raise self._failure(f"refuses the address of `{name}`")

    def _record_replay(self) -> None:
        # TensorRT sets itself up in the first run, with calls that cannot be recorded.
        self._enqueue()
        self._owner.memory.synchronise()
        if self._api.is_rtx:
            return
        if self._record.key.flags.dla_core is not None:
            self.notes = (f"DLA core {self._record.key.flags.dla_core}", "no CUDA graph: DLA cannot be recorded")
            return
        failures: tuple[type[Exception], ...] = (*cuda_errors(), InputError)
        try:
            self._replay = CudaGraph(self._owner.memory.stream, self._enqueue)
            self.notes = ("CUDA graph",)
        except failures as error:
            # The engine runs all the same, only slower; the label says so wherever its times are written down.
            self.notes = (f"no CUDA graph: {error}",)

    def _run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        batch = len(next(iter(feeds.values())))
        for name in self.inputs:
            np.copyto(self._hosts[name][:batch], feeds[name])
        if self.max_batch is not None:
            self._set_batch(batch)
        try:
            if self._replay is not None:
                self._replay.launch()
            else:
                self._enqueue()
            self._owner.memory.synchronise()
        except cuda_errors() as error:
            raise InputError(
                f"{self._api.title} failed on the GPU: {error}", remedy="start again: a failed context does not recover"
            ) from None
        # Copies: the buffers are filled again by the next run.
        return {name: self._hosts[name][:batch].copy() for name in self.outputs}

    def _set_batch(self, batch: int) -> None:
        for name, spec in self.inputs.items():
            if not self._context.set_input_shape(name, (batch, *self._hosts[name].shape[1:])):
                raise self._failure(f"does not take a batch of {batch} for `{name}` {spec}")
        if missing := self._context.infer_shapes():
            raise self._failure(f"lacks the shape of {', '.join(missing)}")

    def _enqueue(self) -> None:
        memory = self._owner.memory
        for name in self.inputs:
            memory.upload(self._addresses[name], self._hosts[name])
        if not self._context.execute_async_v3(memory.stream):
            raise self._failure("does not run the engine")
        for name in self.outputs:
            memory.download(self._hosts[name], self._addresses[name])

    def _failure(self, what: str) -> InputError:
        said = self._api.take_messages()[0] or ("no reason given",)
        return InputError(f"{self._api.title} {what}", where=self._record.graph, remedy=said[-1])

    def _free(self) -> None:
        if self._replay is not None:
            self._replay.close()
        # What refers to another object goes before it.
        self._replay = self._context = self._engine = self._runtime = None
        self._hosts, self._addresses = {}, {}


def _sides(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if side < 0 else int(side) for side in shape)
