"""Scene and person graph joined by the host: the same detections, and no person work in an empty street."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import runtime_stub as stub
from onnx import TensorProto, numpy_helper

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.runtime import open_engine
from personsearch.runtime.graph import TensorSpec
from personsearch.runtime.onnx_engine import OnnxGraph
from personsearch.runtime.split_graph import SplitGraph

SCENE_OUTPUTS = ["boxes", "scores", "sorted_colours"]


def write_split(folder: Path, **changes: object) -> Path:
    """The stub cut where its people are known: colours go from the scene graph to the person graph."""
    stub.write_artifact(folder, layout="split", **changes)
    whole = folder / "whole.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(stub.search_graph()), str(whole))
    onnx.utils.extract_model(str(whole), str(folder / "scene.onnx"), ["frames"], SCENE_OUTPUTS)
    onnx.utils.extract_model(str(whole), str(folder / "person.onnx"), ["sorted_colours"], ["embeddings"])
    whole.unlink()
    for name in ("scene", "person"):
        name_graph(folder, name)
    return folder


def name_graph(folder: Path, name: str) -> None:
    path = folder / f"{name}.onnx"
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}
    manifest["graphs"][name] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "engine",
    [
        "onnxruntime",
        pytest.param(
            "openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
        ),
    ],
)
def test_split_and_joined_find_the_same(engine: str, tmp_path: Path) -> None:
    joined = open_engine(stub.write_artifact(tmp_path / "joined"), engine=engine)
    split = open_engine(write_split(tmp_path / "split"), engine=engine)
    frames = [stub.scene(), stub.scene((0, stub.RED), (2, stub.BLUE), frame_wh=(256, 192)), stub.scene((1, stub.GREEN))]
    for one, other in zip(joined.infer(frames), split.infer(frames), strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-4)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)


class Counted:
    """A graph that counts its runs."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph, self.runs, self.max_batch = graph, 0, None
        self.inputs: Mapping[str, TensorSpec] = graph.inputs
        self.outputs: Mapping[str, TensorSpec] = graph.outputs

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs += 1
        return self.graph.run(feeds)

    def close(self) -> None:
        self.graph.close()


def opened(folder: Path, threshold: float) -> tuple[SplitGraph, Counted]:
    scene, person = (
        OnnxGraph(folder / f"{name}.onnx", (folder / f"{name}.onnx").read_bytes(), 1, "cpu")
        for name in ("scene", "person")
    )
    counted = Counted(person)
    return SplitGraph(scene, counted, threshold, folder / "person.onnx"), counted


@pytest.mark.parametrize(
    ("people", "threshold", "runs"),
    [([], 0.3, 0), ([], 0.0, 0), ([(0, stub.RED)], 0.3, 1), ([(0, stub.RED)], 0.76, 0), ([(0, (9, 9, 9))], 0.3, 0)],
)
def test_the_person_graph_runs_only_for_somebody(
    people: list[tuple[int, tuple[int, int, int]]], threshold: float, runs: int, tmp_path: Path
) -> None:
    graph, person = opened(write_split(tmp_path), threshold)
    found = graph.run({"frames": stub.scene(*people, frame_wh=stub.INPUT_WH)[None]})
    assert person.runs == runs
    assert found["embeddings"].shape == (1, 4, 3)
    assert (np.abs(found["embeddings"]).max() > 0) == bool(runs)


def test_nan_scores_are_not_an_empty_street(tmp_path: Path) -> None:
    write_split(tmp_path)
    model = onnx.load(str(tmp_path / "scene.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            tensor.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "scale"))
    onnx.save(model, str(tmp_path / "scene.onnx"))
    name_graph(tmp_path, "scene")
    with pytest.raises(InputError, match="NaN"):
        open_engine(tmp_path).infer([stub.scene((0, stub.RED))])


def test_a_person_graph_that_reads_what_nobody_gives(tmp_path: Path) -> None:
    write_split(tmp_path)
    model = onnx.load(str(tmp_path / "person.onnx"))
    model.graph.input[0].name = "elsewhere"
    model.graph.node[0].input[0] = "elsewhere"
    onnx.save(model, str(tmp_path / "person.onnx"))
    name_graph(tmp_path, "person")
    with pytest.raises(InputError, match=r"person\.onnx: inputs are elsewhere"):
        open_engine(tmp_path)


def test_a_person_graph_of_another_shape(tmp_path: Path) -> None:
    write_split(tmp_path)
    model = onnx.load(str(tmp_path / "person.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(model, str(tmp_path / "person.onnx"))
    name_graph(tmp_path, "person")
    with pytest.raises(InputError, match=r"input `sorted_colours` is float32 \[1, 5, 3\]"):
        open_engine(tmp_path)


@pytest.mark.parametrize("missing", ["scene", "person"])
def test_half_a_split(missing: str, tmp_path: Path) -> None:
    write_split(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["graphs"][missing]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"no `{missing}` graph"):
        open_engine(tmp_path)


def test_a_person_graph_that_refines_scores_runs_for_any(tmp_path: Path) -> None:
    write_split(tmp_path)
    model = onnx.load(str(tmp_path / "person.onnx"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("better", TensorProto.FLOAT, [1, 4]))
    model.graph.node.append(onnx.helper.make_node("Sqrt", ["scores"], ["better"]))
    onnx.save(model, str(tmp_path / "person.onnx"))
    graph = OnnxGraph(tmp_path / "person.onnx", (tmp_path / "person.onnx").read_bytes(), 1, "cpu")
    renamed = Renamed(graph)
    scene = OnnxGraph(tmp_path / "scene.onnx", (tmp_path / "scene.onnx").read_bytes(), 1, "cpu")
    frame = stub.scene((0, (20, 20, 20)), frame_wh=stub.INPUT_WH)[None]
    alone = scene.run({"frames": frame})["scores"]
    found = SplitGraph(scene, renamed, 0.9, tmp_path / "person.onnx").run({"frames": frame})
    np.testing.assert_allclose(found["scores"], np.sqrt(alone), atol=1e-6)


class Renamed(Counted):
    """A graph whose output ``better`` is called ``scores``, which ONNX forbids beside an input of that name."""

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__(graph)
        self.outputs = {name.replace("better", "scores"): spec for name, spec in graph.outputs.items()}

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name.replace("better", "scores"): value for name, value in super().run(feeds).items()}
