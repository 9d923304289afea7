"""TensorRT's engine without a GPU: the real code over recorded bindings, a driver of host memory, and ONNX Runtime.

What this cannot show is what a GPU does; that is for ``tests/gpu``.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import runtime_stub as stub
from fake_cuda import FakeDriver, compile_driver
from tensorrt_surface import BEHAVIOUR, Surface

from personsearch.core.errors import InputError
from personsearch.runtime import Engine, cuda_memory, open_engine
from personsearch.runtime.cuda_memory import CudaError, CudaGraph, DriverCalls, DriverMemory
from personsearch.runtime.cuda_owner import CudaOwner

ALL = ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4", "tensorrt_rtx-1.7")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeDriver:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda_memory, "find_spec", lambda name: None)  # pycuda would look for the real driver
    return FakeDriver(library, monkeypatch)


def use(name: str, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> tuple[Surface, str]:
    """Installs a recorded version; gives it and the engine's name."""
    surface = Surface(name, driver.path)
    monkeypatch.setitem(sys.modules, surface.module.__name__, surface.module)
    return surface, surface.module.__name__.replace("_", "-")


def assert_same_as_onnx(engine: Engine, artifact: Path) -> None:
    frames = [
        stub.scene((0, stub.RED), (3, stub.GREEN)),
        stub.scene((1, stub.BLUE), frame_wh=(256, 192)),
        stub.scene(),
        stub.scene((2, stub.RED), frame_wh=(64, 48)),
        stub.scene((0, stub.GREEN), (1, stub.GREEN), (2, stub.RED), (3, stub.BLUE)),
    ]
    reference = open_engine(artifact, engine="onnxruntime")
    for one, other in zip(reference.infer(frames), engine.infer(frames), strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-4)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)
    boxes = stub.QUADRANT_BOXES * 2
    np.testing.assert_allclose(reference.embed(frames[4], boxes), engine.embed(frames[4], boxes), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_version_builds_runs_and_agrees(
    name: str, batch: int, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    surface, title = use(name, driver, monkeypatch)
    artifact = stub.write_artifact(tmp_path / "artifact", search=stub.search_graph(batch), engine=title)
    engine = open_engine(artifact, rebuild=True)
    assert_same_as_onnx(engine, artifact)
    assert engine.label.startswith(f"{title} {surface.version}, Fake GPU, CUDA driver, CUDA graph")
    runs = sum(call == "IExecutionContext.execute_async_v3" for call, _ in surface.calls)
    # TensorRT's is recorded once and replayed; TensorRT for RTX is asked every time and replays by itself.
    assert (runs == 4) == (title == "tensorrt")
    engine.close()
    engine.close()
    assert (driver.live, driver.pushed) == (0, 0)


def test_an_engine_is_used_from_other_threads(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, title = use("tensorrt-11.4", driver, monkeypatch)
    artifact = stub.write_artifact(tmp_path / "artifact")
    opened: list[Engine] = []
    opener = threading.Thread(target=lambda: opened.append(open_engine(artifact, engine=title, rebuild=True)))
    opener.start()
    opener.join()
    assert_same_as_onnx(opened[0], artifact)
    assert driver.pushed == 0  # the caller's thread keeps whatever context it had
    closer = threading.Thread(target=opened[0].close)
    closer.start()
    closer.join()
    assert driver.live == 0


def test_an_engine_nobody_closes_is_freed_with_the_object(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, title = use("tensorrt-11.4", driver, monkeypatch)
    engine = open_engine(stub.write_artifact(tmp_path / "artifact"), engine=title, rebuild=True)
    assert driver.live > 0
    del engine
    import gc

    gc.collect()
    assert driver.live == 0


@pytest.mark.parametrize("name", ALL)
def test_without_an_engine_the_command_is_told_and_nothing_is_built(
    name: str, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    surface, title = use(name, driver, monkeypatch)
    artifact = stub.write_artifact(tmp_path / "artifact")
    with pytest.raises(InputError, match=r"search\.onnx can run here: none was built here from this graph") as caught:
        open_engine(artifact, engine=title)
    assert f"`personsearch engine build {artifact} --engine {title}`, or add --rebuild" in str(caught.value)
    assert not any(call.startswith("Builder") for call, _ in surface.calls)
    assert not (tmp_path / "cache").exists()
    assert driver.live == 0


def test_an_engine_of_another_version_is_refused_then_rebuilt(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = stub.write_artifact(tmp_path / "artifact")
    _, title = use("tensorrt-10.3", driver, monkeypatch)
    open_engine(artifact, engine=title, rebuild=True).close()
    use("tensorrt-10.16", driver, monkeypatch)
    with pytest.raises(InputError, match=r"built by tensorrt 10\.3\.0, here is 10\.16\.1\.11.*--rebuild"):
        open_engine(artifact, engine=title)
    open_engine(artifact, engine=title, rebuild=True).close()
    engine = open_engine(artifact, engine=title)  # and now it is there
    assert_same_as_onnx(engine, artifact)
    engine.close()


def test_rebuild_builds_only_what_is_missing(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = stub.write_artifact(tmp_path / "artifact")
    surface, title = use("tensorrt-11.4", driver, monkeypatch)
    for _ in range(2):
        open_engine(artifact, engine=title, rebuild=True).close()
    assert sum(call == "Builder.build_serialized_network" for call, _ in surface.calls) == 2


def test_a_changed_engine_is_never_given_to_the_library(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = stub.write_artifact(tmp_path / "artifact")
    surface, title = use("tensorrt-11.4", driver, monkeypatch)
    open_engine(artifact, engine=title, rebuild=True).close()
    for path in (tmp_path / "cache" / "engines").glob("*/engine.bin"):
        path.write_bytes(path.read_bytes() + b"evil")
    loads = sum(call == "Runtime.deserialize_cuda_engine" for call, _ in surface.calls)
    with pytest.raises(InputError, match=r"SHA-256.*its sidecar says"):
        open_engine(artifact, engine=title)
    assert sum(call == "Runtime.deserialize_cuda_engine" for call, _ in surface.calls) == loads
    open_engine(artifact, engine=title, rebuild=True).close()


def test_an_engine_file_beside_the_artifact_is_not_looked_at(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = stub.write_artifact(tmp_path / "artifact")
    _, title = use("tensorrt-11.4", driver, monkeypatch)
    open_engine(artifact, engine=title, rebuild=True).close()
    built = next((tmp_path / "cache" / "engines").glob("*/engine.bin"))
    shutil.copy(built, artifact / "search.engine")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match="none was built here"):
        open_engine(artifact, engine=title)


def test_a_recording_that_fails_leaves_an_engine_that_runs_and_says_so(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, title = use("tensorrt-11.4", driver, monkeypatch)
    execute = BEHAVIOUR["IExecutionContext.execute_async_v3"]
    calls = []

    def fail_while_recording(surface: Surface, context: object, stream: int) -> bool:
        calls.append(stream)
        return len(calls) % 2 == 1 if len(calls) <= 4 else bool(execute(surface, context, stream))

    monkeypatch.setitem(BEHAVIOUR, "IExecutionContext.execute_async_v3", fail_while_recording)
    artifact = stub.write_artifact(tmp_path / "artifact")
    engine = open_engine(artifact, engine=title, rebuild=True)
    assert "no CUDA graph: search.onnx: TensorRT 11.4.0.106 does not run the engine" in engine.label
    assert_same_as_onnx(engine, artifact)
    engine.close()
    assert driver.live == 0


def test_a_run_that_fails_is_one_line(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, title = use("tensorrt_rtx-1.7", driver, monkeypatch)
    engine = open_engine(stub.write_artifact(tmp_path / "artifact"), engine=title, rebuild=True)
    monkeypatch.setitem(BEHAVIOUR, "IExecutionContext.execute_async_v3", lambda surface, context, stream: False)
    with pytest.raises(InputError, match="does not run the engine"):
        engine.infer([stub.scene()])
    engine.close()
    assert driver.live == 0


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from personsearch.core import cuda_driver

    monkeypatch.setattr(cuda_driver, "library_name", lambda: "libnowhere.so.1")
    surface = Surface("tensorrt-11.4")
    monkeypatch.setitem(sys.modules, "tensorrt", surface.module)
    with pytest.raises(InputError, match=r"needs a GPU to run: no CUDA driver \(libnowhere\.so\.1 not found\)"):
        open_engine(stub.write_artifact(tmp_path), engine="tensorrt", rebuild=True)
    assert surface.calls == []


def test_a_graph_is_parsed_from_the_bytes_that_were_hashed(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    artifact = stub.write_artifact(tmp_path / "artifact")
    surface, title = use("tensorrt-11.4", driver, monkeypatch)
    open_engine(artifact, engine=title, rebuild=True).close()
    parsed = [arguments[0] for call, arguments in surface.calls if call == "OnnxParser.parse"]
    assert parsed == [onnx.load(artifact / f"{name}.onnx").SerializeToString() for name in ("search", "query")]


def test_memory_goes_there_and_back(driver: FakeDriver) -> None:
    memory = DriverMemory()
    host, other = memory.host((2, 3), "float32"), memory.host((2, 3), "float32")
    host[...] = np.arange(6).reshape(2, 3)
    address = memory.device(host.nbytes)
    memory.upload(address, host)
    memory.download(other, address)
    memory.synchronise()
    np.testing.assert_array_equal(other, host)
    memory.close()
    assert (driver.live, driver.pushed) == (0, 0)


def test_a_recorded_graph_reads_what_the_buffers_hold_when_it_is_started(driver: FakeDriver) -> None:
    memory = DriverMemory()
    source, target = memory.host((4,), "uint8"), memory.host((4,), "uint8")
    address = memory.device(4)

    def work() -> None:
        memory.upload(address, source)
        memory.download(target, address)

    target.fill(0)
    source.fill(7)
    graph = CudaGraph(memory.stream, work)
    assert target.max() == 0  # recorded, not run
    for value in (1, 2):
        source.fill(value)
        graph.launch()
        assert set(target) == {value}
    graph.close()
    memory.close()
    assert driver.live == 0


def test_a_failed_call_names_itself_and_the_error(driver: FakeDriver) -> None:
    import ctypes

    with pytest.raises(CudaError, match=r"cuInit gives CUDA_ERROR_INVALID_VALUE \(1\)"):
        DriverCalls()("cuInit", ctypes.c_uint(5))


def test_without_a_context_nothing_can_be_allocated(driver: FakeDriver) -> None:
    """The rule that the owner thread is for: a context is current in one thread."""
    memory = DriverMemory()
    caught: list[BaseException] = []

    def allocate() -> None:
        try:
            memory.device(8)
        except CudaError as error:
            caught.append(error)

    other = threading.Thread(target=allocate)
    other.start()
    other.join()
    memory.close()
    assert "INVALID_CONTEXT" in str(caught[0])


def test_the_owner_hands_on_results_and_errors(driver: FakeDriver) -> None:
    owner = CudaOwner()
    assert owner.call(lambda: threading.current_thread().name) == "cuda-owner"
    assert owner.call(lambda: owner.call(lambda: 3)) == 3
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda: 1 // 0)
    freed: list[str] = []
    owner.before_close(lambda: freed.append(threading.current_thread().name))
    owner.close()
    owner.close()
    assert freed == ["cuda-owner"]
    assert driver.live == 0
