"""OpenVINO against ONNX Runtime on the same artifact, and how an engine is chosen."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import runtime_stub as stub
from numpy.typing import NDArray

from personsearch.core import engine_names
from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.runtime import Engine, default_artifact, open_engine
from personsearch.runtime.artifact_engine import batch_plan

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed: pip install 'edge-person-search[openvino]'"
)


def street(frame_wh: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Upright rectangles of many colours on a grey ramp: enough for a detector to say something."""
    rng = np.random.default_rng(seed)
    width, height = frame_wh
    frame = np.repeat(np.linspace(60, 200, height, dtype=np.uint8)[:, None, None], width, axis=1).repeat(3, axis=2)
    for _ in range(8):
        tall = int(rng.uniform(0.2, 0.6) * height)
        wide = tall // 3
        x, y = int(rng.integers(0, width - wide)), int(rng.integers(0, height - tall))
        for part, (top, bottom) in enumerate(((0, 0.2), (0.2, 0.6), (0.6, 1.0))):
            colour = rng.integers(0, 256, 3) if part else np.array([120, 150, 190])
            frame[y + int(top * tall) : y + int(bottom * tall), x : x + wide] = colour
    return frame


def assert_same(one: Detections, other: Detections, *, pixels: float) -> None:
    assert len(one) == len(other)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=pixels)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose((one.embeddings * other.embeddings).sum(axis=1), 1, atol=1e-4)


@pytest.fixture(scope="module")
def shipped() -> tuple[Engine, Engine]:
    artifact = default_artifact()
    return tuple(open_engine(artifact, 1, engine=name, score_threshold=0.02) for name in ("onnxruntime", "openvino"))  # type: ignore[return-value]  # two names, two engines


@needs_openvino
@pytest.mark.parametrize("frame_wh", [(320, 240), (768, 576), (1280, 720), (300, 500)])
def test_the_shipped_network_finds_the_same(shipped: tuple[Engine, Engine], frame_wh: tuple[int, int]) -> None:
    compared = 0
    for seed in range(2):
        frame = street(frame_wh, seed)
        reference, found = (engine.infer([frame])[0] for engine in shipped)
        assert_same(reference, found, pixels=0.05)
        compared += len(reference)
        boxes = np.array([[0.1, 0.2, 0.3, 0.8], [0.5, 0.1, 0.7, 0.9]], np.float32) * np.tile(frame_wh, 2)
        pair = [engine.embed(frame, boxes) for engine in shipped]
        np.testing.assert_allclose((pair[0] * pair[1]).sum(axis=1), 1, atol=1e-4)
    assert compared > 0


@needs_openvino
@pytest.mark.parametrize("batch", [1, 2, "batch"])
def test_the_stub_in_every_kind_of_batch(tmp_path: Path, batch: int | str) -> None:
    artifact = stub.write_artifact(tmp_path, search=stub.search_graph(batch))
    frames = [stub.scene((number, stub.RED), frame_wh=(64 * (number + 1), 48 * (number + 1))) for number in range(3)]
    reference, found = (open_engine(artifact, 1, engine=name).infer(frames) for name in ("onnxruntime", "openvino"))
    for one, other in zip(reference, found, strict=True):
        assert len(one) == 1
        assert_same(one, other, pixels=1e-3)


@needs_openvino
def test_the_label_names_library_device_and_threads(tmp_path: Path) -> None:
    label = open_engine(stub.write_artifact(tmp_path), 1, engine="openvino").label
    assert label.startswith("openvino 20")
    assert label.endswith(", cpu, 1 threads")


def write_search(artifact: Path, content: bytes, name: str = "search") -> None:
    """Puts ``content`` in as graph ``name``, with a hash that fits."""
    path = artifact / f"{name}.onnx"
    path.write_bytes(content)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["graphs"][name] = {"file": path.name, "sha256": sha256_file(path), "bytes": len(content)}
    (artifact / "manifest.json").write_text(json.dumps(manifest))


@needs_openvino
def test_openvino_refuses_an_operator_it_does_not_know(tmp_path: Path) -> None:
    broken = stub.search_graph()
    broken.graph.node[0].op_type = "NoSuchOperator"
    write_search(stub.write_artifact(tmp_path), broken.SerializeToString())
    with pytest.raises(InputError, match=r"search\.onnx: OpenVINO cannot load.*NoSuchOperator"):
        open_engine(tmp_path, engine="openvino")


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_no_weights_outside_the_hashed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """OpenVINO 2026.4, given bytes, reads such weights from the working folder without a word."""
    stub.write_artifact(tmp_path)
    onnx.save(
        stub.search_graph(),
        str(tmp_path / "outside.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    write_search(tmp_path, (tmp_path / "outside.onnx").read_bytes())
    # Beside the graph and in the working folder: neither may be looked into.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"search\.onnx: weights lie in another file"):
        open_engine(tmp_path, engine=name)


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 7])
def test_batch_graphs_give_what_single_frames_give(tmp_path: Path, name: str, count: int) -> None:
    artifact = stub.write_artifact(tmp_path)
    write_search(artifact, stub.search_graph(4).SerializeToString(), "search.b4")
    frames = [stub.scene((number % 4, stub.RED), (3 - number % 4, stub.GREEN)) for number in range(count)]
    engine = open_engine(artifact, engine=name)
    for alone, together in zip([engine.infer([frame])[0] for frame in frames], engine.infer(frames), strict=True):
        assert_same(alone, together, pixels=1e-4)


def test_a_batch_graph_of_another_batch_than_its_name(tmp_path: Path) -> None:
    artifact = stub.write_artifact(tmp_path)
    write_search(artifact, stub.search_graph(2).SerializeToString(), "search.b4")
    with pytest.raises(InputError, match=r"`search\.b4` takes batches of 2"):
        open_engine(artifact)


class Sized:
    """As much of a graph as `batch_plan` looks at."""

    def __init__(self, max_batch: int | None = None) -> None:
        self.max_batch = max_batch


@pytest.mark.parametrize(
    ("sizes", "count", "plan"),
    [
        ([1], 0, []),
        ([1], 2, [(1, 1), (1, 1)]),
        ([1, 4, 8], 14, [(8, 8), (4, 4), (1, 1), (1, 1)]),
        ([4, 8], 3, [(4, 3)]),
        ([4, 8], 13, [(8, 8), (4, 4), (4, 1)]),
        ([None], 5, [(None, 5)]),
        ([None], 0, []),
    ],
)
def test_batch_plans(sizes: list[int | None], count: int, plan: list[tuple[int | None, int]]) -> None:
    assert batch_plan(count, {size: Sized() for size in sizes}) == plan  # type: ignore[misc]  # only max_batch is read


def test_a_free_batch_has_a_most() -> None:
    assert batch_plan(5, {None: Sized(2)}) == [(None, 2), (None, 2), (None, 1)]  # type: ignore[dict-item]  # as above


def test_the_manifest_names_the_engine_and_the_caller_overrules_it(tmp_path: Path) -> None:
    artifact = stub.write_artifact(tmp_path, engine="openvino")
    assert open_engine(artifact, engine="onnxruntime").label.startswith("onnxruntime")
    if find_spec("openvino") is not None:
        assert open_engine(artifact).label.startswith("openvino")


def test_an_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="engine `trt` is unknown; expected one of onnxruntime, openvino, tensorrt"):
        open_engine(stub.write_artifact(tmp_path), engine="trt")


@pytest.mark.parametrize("name", ["openvino", "tensorrt", "tensorrt-rtx"])
def test_a_missing_library_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """There is no way back to another engine in silence, also where the artifact itself names the engine."""
    artifact = stub.write_artifact(tmp_path, engine=name)
    monkeypatch.setattr(engine_names, "find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf"engine {name} needs `\w+`, which is not installed; pip install") as caught:
        open_engine(artifact)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "device"), [pytest.param("openvino", "cuda", marks=needs_openvino), ("tensorrt-rtx", "cpu")]
)
def test_a_device_an_engine_does_not_run_on(tmp_path: Path, name: str, device: str) -> None:
    if find_spec(engine_names.MODULES[engine_names.engine_name(name)]) is None:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(InputError, match=f"engine {name} does not run on {device}"):
        open_engine(stub.write_artifact(tmp_path), engine=name, device=device)  # type: ignore[arg-type]  # as typed


def test_no_library_is_imported_before_its_engine_is_opened() -> None:
    """Importing a GPU library can abort a process without a driver; OpenVINO alone costs half a second."""
    modules = "machine, onnx_engine, openvino_engine, tensorrt_engine, cuda_memory, cuda_owner"
    code = f"import sys; from personsearch.runtime import {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "onnx", "openvino", "tensorrt", "tensorrt_rtx", "pycuda"} & set(loaded)
