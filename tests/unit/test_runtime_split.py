"""Scene and person graph joined by the host: who is found, how often the person graph runs, and what is refused."""

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
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import read_manifest
from personsearch.runtime import open_engine
from personsearch.runtime.graph import TensorSpec
from personsearch.runtime.onnx_engine import OnnxGraph
from personsearch.runtime.split_graph import SplitGraph

PERSON_BOXES = 2
SETTINGS = {"person_boxes": PERSON_BOXES, "floor": 0.1, "nms_iou": 0.5, "embed_refined": False}
FULL = 255 / 32 - 4  # margin of a person of one full colour


def person_graph(dim: int = 3) -> onnx.ModelProto:
    """feature and boxes -> margins (sum of the mean colour in a box / 32 - 4), the same boxes, the colour as a unit."""
    width, height = stub.INPUT_WH
    constants = {
        "first": np.array([0]),
        "indices": np.zeros(PERSON_BOXES, np.int64),
        "flat": np.array([1, PERSON_BOXES, 3]),
        "lift": np.float32(1e-3),
        "last": np.array([-1]),
        "scale": np.float32(1 / 32),
        "shift": np.float32(-4),
    }
    nodes = [
        helper.make_node("Squeeze", ["boxes", "first"], ["rois"]),
        helper.make_node(
            "RoiAlign", ["feature", "rois", "indices"], ["pooled"], output_height=1, output_width=1, sampling_ratio=4
        ),
        helper.make_node("Reshape", ["pooled", "flat"], ["colours"]),
        helper.make_node("ReduceSum", ["colours", "last"], ["bright"], keepdims=0),
        helper.make_node("Mul", ["bright", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["margins"]),
        helper.make_node("Identity", ["boxes"], ["refined"]),
        *(stub._unit_rows("colours", "embeddings") if dim else []),
    ]
    inputs = [
        ("feature", TensorProto.FLOAT, [1, 3, height, width]),
        ("boxes", TensorProto.FLOAT, [1, PERSON_BOXES, 4]),
    ]
    outputs = [("margins", [1, PERSON_BOXES]), ("refined", [1, PERSON_BOXES, 4])]
    return stub._model(nodes, constants, inputs, outputs + ([("embeddings", [1, PERSON_BOXES, 3])] if dim else []))


def write_split(folder: Path, dim: int = 3, **settings: object) -> Path:
    """The stub's quadrants as proposals, their brightness as objectness, the frame itself as feature map."""
    stub.write_artifact(folder, layout="split", split={**SETTINGS, **settings}, graphs={}, embedding_dim=dim)
    scene = onnx.shape_inference.infer_shapes(stub.search_graph())
    names = {"boxes": "proposals", "scores": "objectness", "chw": "feature"}
    for node in scene.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*scene.graph.output, *scene.graph.value_info]:
        value.name = names.get(value.name, value.name)
    onnx.save(scene, str(folder / "search.onnx"))
    onnx.utils.extract_model(str(folder / "search.onnx"), str(folder / "scene.onnx"), ["frames"], list(names.values()))
    onnx.save(person_graph(dim), str(folder / "person.onnx"))
    for name in ("search", "query"):
        (folder / f"{name}.onnx").unlink()
    for name in ("scene", "person"):
        name_graph(folder, name)
    return folder


def name_graph(folder: Path, name: str) -> None:
    path = folder / f"{name}.onnx"
    entry = {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}
    change(folder, lambda manifest: manifest["graphs"].update({name: entry}))


def change(folder: Path, edit: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


class Counted:
    """A graph that counts its runs."""

    def __init__(self, path: Path) -> None:
        self.graph, self.runs, self.max_batch = OnnxGraph(path, path.read_bytes(), 1, "cpu"), 0, None
        self.inputs: Mapping[str, TensorSpec] = self.graph.inputs
        self.outputs: Mapping[str, TensorSpec] = self.graph.outputs

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs += 1
        return self.graph.run(feeds)

    def close(self) -> None:
        self.graph.close()


def opened(folder: Path) -> tuple[SplitGraph, Counted, Counted]:
    scene, person = Counted(folder / "scene.onnx"), Counted(folder / "person.onnx")
    return SplitGraph(scene, person, read_manifest(folder), folder), scene, person


ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("embed_refined", [False, True])
def test_people_are_found_with_their_colours(engine: str, embed_refined: bool, tmp_path: Path) -> None:
    loaded = open_engine(write_split(tmp_path, embed_refined=embed_refined), engine=engine)
    people = [(0, stub.RED), (1, stub.GREEN), (3, stub.BLUE)]
    nobody, three = loaded.infer([stub.scene(), stub.scene(*people)])
    assert len(nobody) == 0
    assert len(three) == 3
    np.testing.assert_allclose(three.scores, 1 / (1 + np.exp(-FULL)), atol=1e-5)
    found = {tuple(box): row for row, box in enumerate((three.boxes_xyxy / 2).round(3).tolist())}
    for quadrant, colour in people:
        row = found[tuple(stub.QUADRANT_BOXES[quadrant].tolist())]
        np.testing.assert_allclose(three.embeddings[row], np.array(colour) / 255, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_given_boxes_need_no_query_graph(engine: str, tmp_path: Path) -> None:
    loaded = open_engine(write_split(tmp_path), engine=engine)
    frame = stub.scene((0, stub.RED), (1, stub.GREEN), (3, stub.BLUE))
    embeddings = loaded.embed(frame, 2 * stub.QUADRANT_BOXES[[3, 0, 1]])
    np.testing.assert_allclose(embeddings, np.array([stub.BLUE, stub.RED, stub.GREEN]) / 255, atol=1e-4)


@pytest.mark.parametrize(
    ("people", "settings", "runs"),
    [
        ([], {}, 0),
        ([(0, stub.RED)], {}, 1),
        ([(0, stub.RED)], {"embed_refined": True}, 2),
        ([(0, stub.RED), (1, stub.RED), (2, stub.RED)], {}, 2),
        ([(0, stub.RED), (1, stub.RED), (2, stub.RED)], {"embed_refined": True}, 4),
        ([(0, stub.RED), (1, (30, 30, 30))], {}, 1),  # both reach the floor
        ([(1, (30, 30, 30))], {"embed_refined": True}, 1),  # looked at, but no person, and never embedded
        ([(0, stub.RED), (1, (20, 20, 20))], {"floor": 0.9}, 0),
        ([], {"floor": 0.0}, 0),  # an unused row is nothing to look at
    ],
)
def test_the_person_graph_runs_for_what_reaches_the_floor(
    people: list[tuple[int, tuple[int, int, int]]], settings: dict[str, object], runs: int, tmp_path: Path
) -> None:
    graph, scene, person = opened(write_split(tmp_path, **settings))
    found = graph.run({"frames": stub.scene(*people, frame_wh=stub.INPUT_WH)[None]})
    assert (scene.runs, person.runs) == (1, runs)
    assert {name: rows.shape for name, rows in found.items()} == {
        "boxes": (1, 4, 4), "scores": (1, 4), "embeddings": (1, 4, 3)
    }  # fmt: skip


def test_the_scene_runs_once_for_any_number_of_boxes(tmp_path: Path) -> None:
    graph, scene, person = opened(write_split(tmp_path))
    frame = stub.scene((0, stub.RED), frame_wh=stub.INPUT_WH)[None]
    assert graph.embed(frame, np.repeat(stub.QUADRANT_BOXES[:1], 5, axis=0)).shape == (5, 3)
    assert (scene.runs, person.runs) == (1, 3)


def test_a_detector_is_split_too(tmp_path: Path) -> None:
    engine = open_engine(write_split(tmp_path, dim=0, embed_refined=True))
    found = engine.infer([stub.scene((0, stub.RED), (1, stub.GREEN), (2, stub.BLUE))])[0]
    assert found.embeddings.shape == (3, 0)
    with pytest.raises(InputError, match="no `query` graph"):
        engine.embed(stub.scene(), stub.QUADRANT_BOXES)


@pytest.mark.parametrize(("name", "constant"), [("scene", "scale"), ("person", "shift"), ("person", "lift")])
def test_nan_is_not_an_empty_street(name: str, constant: str, tmp_path: Path) -> None:
    path = write_split(tmp_path) / f"{name}.onnx"
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name == constant:
            tensor.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), constant))
    onnx.save(model, str(path))
    name_graph(tmp_path, name)
    with pytest.raises(InputError, match="NaN"):
        open_engine(tmp_path).infer([stub.scene((0, stub.RED))])


def test_a_person_graph_that_reads_another_map(tmp_path: Path) -> None:
    path = write_split(tmp_path) / "person.onnx"
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(model, str(path))
    name_graph(tmp_path, "person")
    with pytest.raises(InputError, match=r"input `feature` is float32 \[1, 5, 48, 64\]"):
        open_engine(tmp_path)


def test_a_person_graph_of_another_number_of_boxes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"person\.onnx: input `boxes` is float32 \[1, 2, 4\]"):
        open_engine(write_split(tmp_path, person_boxes=4))


@pytest.mark.parametrize("missing", ["scene", "person"])
def test_half_a_split(missing: str, tmp_path: Path) -> None:
    change(write_split(tmp_path), lambda manifest: manifest["graphs"].pop(missing))
    with pytest.raises(InputError, match=f"no `{missing}` graph"):
        open_engine(tmp_path)


def test_a_manifest_that_does_not_say_how_to_join(tmp_path: Path) -> None:
    change(write_split(tmp_path), lambda manifest: manifest.pop("split"))
    with pytest.raises(InputError, match="how the graphs are joined"):
        open_engine(tmp_path)
