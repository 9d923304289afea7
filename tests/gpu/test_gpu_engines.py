"""TensorRT on a GPU: built, loaded, run, replayed, and in agreement with ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from gpu_record import note
from numpy.typing import NDArray
from tiny_graphs import convolutions

from personsearch.core.cuda_driver import probe_cuda
from personsearch.core.engine_builder import build_engine, compile_graph
from personsearch.core.engine_builds import engine_key
from personsearch.core.engine_cache import EngineCache
from personsearch.core.engine_tensorrt import load_tensorrt
from personsearch.core.errors import InputError
from personsearch.runtime import Engine, default_artifact, open_engine
from personsearch.runtime.cuda_memory import CudaGraph, DriverMemory
from personsearch.runtime.cuda_owner import CudaOwner
from personsearch.runtime.tensorrt_engine import TensorRtGraph

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 2e-2}


def frames(count: int, frame_wh: tuple[int, int] = (768, 576)) -> list[NDArray[np.uint8]]:
    """Upright rectangles of many colours on a grey ramp."""
    width, height = frame_wh
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        frame = np.repeat(np.linspace(60, 200, height, dtype=np.uint8)[:, None, None], width, axis=1).repeat(3, axis=2)
        for _ in range(8):
            tall = int(rng.uniform(0.2, 0.6) * height)
            x, y = int(rng.integers(0, width - tall // 3)), int(rng.integers(0, height - tall))
            frame[y : y + tall, x : x + tall // 3] = rng.integers(0, 256, 3)
        made.append(frame)
    return made


def assert_agree(reference: Engine, engine: Engine) -> int:
    """Same people, boxes within a pixel, embeddings of cosine 0.999; gives how many were compared."""
    compared = 0
    for frame in [*frames(4), *frames(2, (1280, 720)), *frames(2, (320, 240))]:
        one, other = reference.infer([frame])[0], engine.infer([frame])[0]
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1.0)
        np.testing.assert_allclose(one.scores, other.scores, atol=5e-3)
        cosines = (one.embeddings * other.embeddings).sum(axis=1)
        assert (cosines > 0.999).all()
        compared += len(one)
    return compared


def test_the_shipped_artifact_built_here_agrees_with_onnx_runtime(library: str) -> None:
    artifact = default_artifact()
    with pytest.raises(InputError, match="none was built here"):
        open_engine(artifact, engine=library, score_threshold=0.02)
    engine = open_engine(artifact, engine=library, score_threshold=0.02, rebuild=True)
    reference = open_engine(artifact, engine="onnxruntime", score_threshold=0.02)
    compared = assert_agree(reference, engine)
    frame = frames(1)[0]
    boxes = np.array([[100, 100, 180, 340], [400, 50, 520, 400]], np.float32)
    cosines = (reference.embed(frame, boxes) * engine.embed(frame, boxes)).sum(axis=1)
    note(f"{library} label", engine.label)
    note(f"{library} detections compared", compared)
    engine.close()
    assert compared > 0
    assert (cosines > 0.999).all()


def test_the_second_opening_builds_nothing_and_has_a_layer_report(library: str, tmp_path: Path) -> None:
    artifact = default_artifact()
    open_engine(artifact, engine=library, rebuild=True).close()
    cache = EngineCache()
    before = {folder: record.built for folder, record in cache.records()}
    open_engine(artifact, engine=library).close()
    assert {folder: record.built for folder, record in cache.records()} == before
    for folder, record in cache.records():
        report = json.loads((folder / record.layer_report).read_text())
        assert report["Layers"]
        assert record.gpu == probe_cuda().devices[0]
        note(f"{library} {record.graph} build seconds", record.build_seconds)
        note(f"{library} {record.graph} layers after fusion", len(report["Layers"]))


def test_stage_times_and_a_replayed_graph(library: str) -> None:
    engine = open_engine(default_artifact(), engine=library, rebuild=True)
    assert "CUDA graph" in engine.label
    assert "no CUDA graph" not in engine.label
    shown = frames(8)
    first = [engine.infer([frame])[0] for frame in shown]
    times = []
    for turn in range(100):
        again = engine.infer([shown[turn % 8]])[0]
        # A replay that read an old frame, or wrote where nobody looks, would give another frame's people.
        np.testing.assert_allclose(again.scores, first[turn % 8].scores, atol=1e-5)
        np.testing.assert_allclose(again.boxes_xyxy, first[turn % 8].boxes_xyxy, atol=1e-2)
        times.append(engine.last_times.infer_ms)
    assert min(times) > 0
    note(f"{library} graph with transfers, ms", {"p50": float(np.median(times)), "p90": float(np.quantile(times, 0.9))})
    engine.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_runs_and_agrees(library: str, precision: str, tmp_path: Path) -> None:
    content = convolutions(precision)
    api, driver = load_tensorrt(library), probe_cuda()  # type: ignore[arg-type]  # a fixture's parameter
    key = engine_key(api, driver.compute_capabilities[0], driver, hashlib.sha256(content).hexdigest())
    cache = EngineCache()
    record = build_engine(api, content, key, cache, graph=f"{precision}.onnx")
    owner = CudaOwner()
    graph = TensorRtGraph(owner, api, cache.load(cache.place(key), record), record)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed in range(4):
        frame = np.random.default_rng(seed).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
        expected = session.run(None, {"frames": frame})[0]
        found = graph.run({"frames": frame})["embeddings"]
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    graph.close()
    owner.close()
    note(f"{library} {precision} tiny graph, worst relative difference", worst)
    assert worst < TOLERANCE[precision]


def test_which_engines_built_ahead_run_on_this_gpu() -> None:
    """Said to run on 8.0, 8.6, 8.9, 12.0 and later: what this GPU says of each is recorded, not asserted."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    api = load_tensorrt("tensorrt-rtx")
    content = convolutions("fp32")
    found = {}
    for capability in api.compute_capabilities():
        engine = compile_graph(api, content, graph="tiny.onnx", targets=(capability,)).engine
        runtime = api.module.Runtime(api.log)
        validity = str(runtime.get_engine_validity(engine)) if hasattr(runtime, "get_engine_validity") else "no call"
        loads = runtime.deserialize_cuda_engine(engine) is not None
        found[capability] = {"validity": validity, "loads": loads, "said": list(api.take_messages()[0])[:2]}
    note("tensorrt-rtx engines built ahead, by compute capability", found)
    own = compile_graph(api, content, graph="tiny.onnx", targets=probe_cuda().compute_capabilities[:1]).engine
    assert api.module.Runtime(api.log).deserialize_cuda_engine(own) is not None


def test_an_engine_may_be_opened_used_and_closed_in_different_threads(library: str) -> None:
    opened: list[Engine] = []
    opener = threading.Thread(
        target=lambda: opened.append(open_engine(default_artifact(), engine=library, rebuild=True))
    )
    opener.start()
    opener.join()
    shown = frames(2)
    found: list[int] = []
    users = [threading.Thread(target=lambda f=frame: found.append(len(opened[0].infer([f])[0]))) for frame in shown]  # type: ignore[misc]  # a default binds the frame
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert sorted(found) == sorted(len(opened[0].infer([frame])[0]) for frame in shown)
    closer = threading.Thread(target=opened[0].close)
    closer.start()
    closer.join()


def test_memory_and_a_recorded_copy_by_the_driver_alone() -> None:
    memory = DriverMemory()
    source, target = memory.host((1 << 20,), "uint8"), memory.host((1 << 20,), "uint8")
    address = memory.device(source.nbytes)

    def work() -> None:
        memory.upload(address, source)
        memory.download(target, address)

    source.fill(3)
    work()
    memory.synchronise()
    assert set(np.unique(target)) == {3}
    graph = CudaGraph(memory.stream, work)
    source.fill(4)
    graph.launch()
    memory.synchronise()
    assert set(np.unique(target)) == {4}
    graph.close()
    memory.close()
