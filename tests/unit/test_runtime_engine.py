"""The engine: coordinates, batches, and an artifact that is not what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import runtime_stub as stub
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.errors import InputError
from personsearch.runtime import default_artifact, engine, open_engine


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stub.write_artifact(tmp_path_factory.mktemp("artifact"))


def test_no_frames_no_detections(artifact: Path) -> None:
    assert open_engine(artifact).infer([]) == []


def test_a_dark_frame_holds_nobody(artifact: Path) -> None:
    found = open_engine(artifact).infer([stub.scene()])[0]
    assert len(found) == 0
    assert found.embeddings.shape == (0, 3)


@pytest.mark.parametrize("frame_wh", [(64, 48), (128, 96), (640, 480), (32, 24)])
def test_boxes_come_back_in_source_pixels(artifact: Path, frame_wh: tuple[int, int]) -> None:
    found = open_engine(artifact).infer([stub.scene((0, stub.RED), (3, stub.BLUE), frame_wh=frame_wh)])[0]
    scale = frame_wh[0] / stub.INPUT_WH[0]
    order = np.argsort(found.boxes_xyxy[:, 0])
    np.testing.assert_allclose(found.boxes_xyxy[order], stub.QUADRANT_BOXES[[0, 3]] * scale, atol=1e-3)


def test_letterbox_padding_is_undone(artifact: Path) -> None:
    # 128 x 48 fits as 64 x 24 with 12 rows of padding above and below: input row 18 is source row 12.
    frame = np.full((48, 128, 3), 255, dtype=np.uint8)
    found = open_engine(artifact).infer([frame])[0]
    left_top = found.boxes_xyxy[np.argmin(found.boxes_xyxy.sum(axis=1))]
    np.testing.assert_allclose(left_top, [16, 0, 48, 12], atol=1e-3)  # cut at the source's upper edge


def test_scores_fall_and_none_is_below_the_threshold(artifact: Path) -> None:
    # A person fills a quarter of its quadrant: grey g scores 3 * g / 4 / 85.
    frame = stub.scene((0, (40, 40, 40)), (1, (33, 33, 33)), (2, (100, 100, 100)), (3, (60, 60, 60)))
    found = open_engine(artifact).infer([frame])[0]
    np.testing.assert_allclose(found.scores, np.array([100, 60, 40]) * 0.75 / 85, atol=0.01)


def test_a_row_of_score_zero_is_unused_even_at_threshold_zero(tmp_path: Path) -> None:
    found = open_engine(stub.write_artifact(tmp_path, score_threshold=0.0)).infer([stub.scene((2, stub.GREEN))])[0]
    assert len(found) == 1


@pytest.mark.parametrize("batch", [1, 2, "batch"])
def test_many_frames_equal_each_alone(tmp_path: Path, batch: int | str) -> None:
    one = open_engine(stub.write_artifact(tmp_path / "one"))
    many = open_engine(stub.write_artifact(tmp_path / "many", search=stub.search_graph(batch)))
    frames = [
        stub.scene((0, stub.RED)),
        stub.scene((1, stub.BLUE), frame_wh=(256, 192)),
        stub.scene((2, stub.GREEN)),
    ]
    for alone, together in zip([one.infer([frame])[0] for frame in frames], many.infer(frames), strict=True):
        np.testing.assert_array_equal(alone.boxes_xyxy, together.boxes_xyxy)
        np.testing.assert_array_equal(alone.embeddings, together.embeddings)


def test_embed_takes_more_boxes_than_the_graph_and_keeps_their_order(artifact: Path) -> None:
    frame = stub.scene((0, stub.RED), (1, stub.GREEN), (2, stub.BLUE), (3, (255, 255, 255)), frame_wh=(256, 192))
    boxes = stub.QUADRANT_BOXES[[3, 0, 2, 1, 0]] * 4
    embeddings = open_engine(artifact).embed(frame, boxes)
    expected = np.array([[1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings, expected, atol=1e-2)


def test_embed_no_boxes(artifact: Path) -> None:
    assert open_engine(artifact).embed(stub.scene(), np.zeros((0, 4), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("boxes", [[[5, 5, 5, 20]], [[500, 500, 600, 600]], [1, 2, 3, 4]])
def test_embed_refuses_boxes_without_pixels(artifact: Path, boxes: list[object]) -> None:
    with pytest.raises(ValueError, match=r"area|shape"):
        open_engine(artifact).embed(stub.scene(), np.array(boxes, np.float32))


def test_stage_times_are_of_the_last_call(artifact: Path) -> None:
    loaded = open_engine(artifact, threads=1)
    assert loaded.last_times == engine.StageTimes(0, 0, 0)
    loaded.infer([stub.scene()])
    times = loaded.last_times
    assert min(times.preprocess_ms, times.infer_ms, times.postprocess_ms) > 0


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    graph = stub.write_artifact(tmp_path) / "search.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"search\.onnx.*SHA-256"):
        open_engine(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_detections", 5, r"output `boxes` is .*\[1, 4, 4\].*expected .*\['any', 5, 4\]"),
        ("embedding_dim", 4, "output `embeddings`"),
        ("query_boxes", 2, r"query\.onnx: input `boxes`"),
        ("preprocess", {"input_wh": [48, 64]}, "input `frames`"),
    ],
)
def test_a_graph_that_contradicts_the_manifest(tmp_path: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_engine(stub.write_artifact(tmp_path, **{field: value}))


def test_a_graph_with_other_names(tmp_path: Path) -> None:
    model = stub.search_graph()
    for node in model.graph.node:
        node.output[:] = ["confidences" if name == "scores" else name for name in node.output]
    model.graph.output[1].name = "confidences"
    with pytest.raises(InputError, match="confidences, embeddings; expected boxes, embeddings, scores"):
        open_engine(stub.write_artifact(tmp_path, search=model))


def _file_graph(artifact: Path, content: bytes) -> None:
    """Puts other bytes in place of the search graph, with a hash that fits."""
    from personsearch.core.files import sha256_file

    (artifact / "search.onnx").write_bytes(content)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["graphs"]["search"]["sha256"] = sha256_file(artifact / "search.onnx")
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    _file_graph(stub.write_artifact(tmp_path), b"not a graph")
    with pytest.raises(InputError, match=r"search\.onnx: is not an ONNX file"):
        open_engine(tmp_path)


def test_a_graph_with_an_unknown_operator(tmp_path: Path) -> None:
    broken = stub.search_graph()
    broken.graph.node[0].op_type = "NoSuchOperator"
    _file_graph(stub.write_artifact(tmp_path), broken.SerializeToString())
    with pytest.raises(InputError, match=r"ONNX Runtime cannot load.*NoSuchOperator"):
        open_engine(tmp_path)


def test_a_graph_that_gives_nan(tmp_path: Path) -> None:
    model = stub.search_graph()
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            tensor.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "scale"))
    with pytest.raises(InputError, match="NaN"):
        open_engine(stub.write_artifact(tmp_path, search=model)).infer([stub.scene((0, stub.RED))])


def test_an_artifact_without_a_query_graph(tmp_path: Path) -> None:
    artifact = stub.write_artifact(tmp_path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["graphs"]["query"]
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    loaded = open_engine(artifact)
    assert len(loaded.infer([stub.scene((0, stub.RED))])[0]) == 1
    with pytest.raises(InputError, match="no `query` graph"):
        loaded.embed(stub.scene(), np.array([[0, 0, 8, 8]], np.float32))


def test_a_float_input_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["frames"], ["boxes"])],
        "float",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, 48, 64, 3])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 48, 64, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match=re.escape("input `frames` is float32 [1, 48, 64, 3]")):
        open_engine(stub.write_artifact(tmp_path, search=model))


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_below_one(artifact: Path, threads: int) -> None:
    with pytest.raises(InputError, match="threads"):
        open_engine(artifact, threads)


def test_cuda_is_refused_where_there_is_none(artifact: Path) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(InputError, match="CUDAExecutionProvider"):
        open_engine(artifact, device="cuda")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no artifact is shipped"),
        ("{}", "cannot be read"),
        ("[", "cannot be read"),
        ('{"artifact": "../elsewhere"}', "bare name"),
        ('{"artifact": "gone"}', "`gone` is not there"),
    ],
)
def test_default_artifact_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, message: str
) -> None:
    monkeypatch.setattr(engine, "files", lambda package: tmp_path)
    if content is not None:
        (tmp_path / "default.json").write_text(content)
    with pytest.raises(InputError, match=message):
        default_artifact()


def test_default_artifact_is_the_named_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "files", lambda package: tmp_path)
    (tmp_path / "default.json").write_text('{"artifact": "small"}')
    stub.write_artifact(tmp_path / "small")
    assert open_engine().spec.name == "stub"
