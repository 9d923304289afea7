"""A tiny artifact made without torch, and sources to search with it.

The stub network sees the input as four quadrants. In each it "detects" one person whose box is the middle of the
quadrant, whose score grows with the quadrant's brightness and whose embedding is its mean colour. So a test can
put a person of a given colour at a given place and time by painting a rectangle, and knows every output.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.files import sha256_file

INPUT_WH = (64, 48)
QUERY_BOXES = 3
# Input pixels: the middle of each quadrant.
QUADRANT_BOXES = np.array([[8, 6, 24, 18], [40, 6, 56, 18], [8, 30, 24, 42], [40, 30, 56, 42]], dtype=np.float32)
RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def search_graph(batch: int | str = 1) -> onnx.ModelProto:
    """frames -> boxes, scores, embeddings as the module says."""
    width, height = INPUT_WH
    quadrant = [height // 2, width // 2]
    constants = {
        "boxes_all": QUADRANT_BOXES[None],
        "flat": np.array([0, 3, 4]),
        "scale": np.float32(1 / 85),
        "one": np.float32(1),
        "four": np.array([4]),
        "last": np.array([-1]),
        "column": np.array([2]),
        "lift": np.float32(1e-3),
        "spread": np.array([1, 1, 3]),
        "box_spread": np.array([1, 1, 4]),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["chw"], ["pooled"], kernel_shape=quadrant, strides=quadrant),
        helper.make_node("Reshape", ["pooled", "flat"], ["channels"]),
        helper.make_node("Transpose", ["channels"], ["colours"], perm=[0, 2, 1]),
        helper.make_node("ReduceSum", ["colours", "last"], ["bright"], keepdims=0),
        helper.make_node("Mul", ["bright", "scale"], ["scaled"]),
        helper.make_node("Min", ["scaled", "one"], ["raw_scores"]),
        helper.make_node("TopK", ["raw_scores", "four"], ["scores", "order"], axis=1),
        helper.make_node("Unsqueeze", ["order", "column"], ["order_column"]),
        helper.make_node("Expand", ["order_column", "spread"], ["colour_order"]),
        helper.make_node("Expand", ["order_column", "box_spread"], ["box_order"]),
        helper.make_node("GatherElements", ["colours", "colour_order"], ["sorted_colours"], axis=1),
        helper.make_node("Shape", ["box_order"], ["box_shape"]),
        helper.make_node("Expand", ["boxes_all", "box_shape"], ["boxes_batch"]),
        helper.make_node("GatherElements", ["boxes_batch", "box_order"], ["boxes"], axis=1),
        *_unit_rows("sorted_colours", "embeddings"),
    ]
    outputs = [("boxes", [batch, 4, 4]), ("scores", [batch, 4]), ("embeddings", [batch, 4, 3])]
    return _model(nodes, constants, [("frames", TensorProto.UINT8, [batch, height, width, 3])], outputs)


def query_graph() -> onnx.ModelProto:
    """frames and boxes -> embeddings: the mean colour in each box."""
    width, height = INPUT_WH
    constants = {
        "first": np.array([0]),
        "batch_indices": np.zeros(QUERY_BOXES, np.int64),
        "lift": np.float32(1e-3),
        "flat": np.array([1, QUERY_BOXES, 3]),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Squeeze", ["boxes", "first"], ["rois"]),
        helper.make_node(
            "RoiAlign", ["chw", "rois", "batch_indices"], ["pooled"], output_height=1, output_width=1, sampling_ratio=4
        ),
        helper.make_node("Reshape", ["pooled", "flat"], ["colours"]),
        *_unit_rows("colours", "embeddings"),
    ]
    inputs = [("frames", TensorProto.UINT8, [1, height, width, 3]), ("boxes", TensorProto.FLOAT, [1, QUERY_BOXES, 4])]
    return _model(nodes, constants, inputs, [("embeddings", [1, QUERY_BOXES, 3])])


def _unit_rows(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Add", [source, "lift"], ["lifted"]),
        helper.make_node("ReduceL2", ["lifted"], ["length"], axes=[-1], keepdims=1),
        helper.make_node("Div", ["lifted", "length"], [target]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: list[tuple[str, int, list[int | str]]],
    outputs: list[tuple[str, list[int | str]]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "stub",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_artifact(folder: Path, *, search: onnx.ModelProto | None = None, **changes: object) -> Path:
    """Writes the stub artifact; ``changes`` replace fields of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(search or search_graph(), str(folder / "search.onnx"))
    onnx.save(query_graph(), str(folder / "query.onnx"))
    graphs = {
        name: {
            "file": f"{name}.onnx",
            "sha256": sha256_file(folder / f"{name}.onnx"),
            "bytes": (folder / f"{name}.onnx").stat().st_size,
        }
        for name in ("search", "query")
    }
    manifest = {
        "format": "personsearch-artifact/1",
        "name": "stub",
        "created": "2026-01-01T00:00:00Z",
        "preprocess": {"input_wh": list(INPUT_WH), "pad_value": 0},
        "max_detections": 4,
        "query_boxes": QUERY_BOXES,
        "embedding_dim": 3,
        "score_threshold": 0.3,
        "match_threshold": 0.9,
        "precision": "fp32",
        "opset": 17,
        "graphs": graphs,
        "training_data": [],
        "recipe": {},
        "recipe_hash": "0",
        "checkpoint_sha256": "0",
        "builder": {},
        "parity": {"passed": True},
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def scene(*people: tuple[int, tuple[int, int, int]], frame_wh: tuple[int, int] = (128, 96)) -> NDArray[np.uint8]:
    """A dark frame with people: (quadrant, BGR colour); each fills the middle of its quadrant."""
    frame = np.zeros((frame_wh[1], frame_wh[0], 3), dtype=np.uint8)
    scale = frame_wh[0] / INPUT_WH[0], frame_wh[1] / INPUT_WH[1]
    for quadrant, colour in people:
        x1, y1, x2, y2 = (QUADRANT_BOXES[quadrant] * np.tile(scale, 2)).round().astype(int)
        cv2.rectangle(frame, (int(x1), int(y1)), (int(x2) - 1, int(y2) - 1), colour, cv2.FILLED)
    return frame


def write_video(path: Path, frames: list[NDArray[np.uint8]], *, rate_hz: float = 25.0, codec: str = "mp4v") -> Path:
    """Encodes frames with OpenCV."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate_hz, (width, height))
    assert writer.isOpened(), codec
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def walk(count: int = 30, frame_wh: tuple[int, int] = (128, 96)) -> list[NDArray[np.uint8]]:
    """Red stands in quadrant 0 in the middle third of the time; blue in quadrant 3 all the time."""
    return [
        scene((3, BLUE), *([(0, RED)] if count // 3 <= index < 2 * count // 3 else []), frame_wh=frame_wh)
        for index in range(count)
    ]
