"""Every kind of network: through ONNX Runtime and OpenVINO with parity, and through TensorRT's parser and builder."""

from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

import onnx
import pytest
import torch
from every_model import KINDS, PREPROCESS, QUERY_BOXES, Flavour, exported, frames, rounded, settled_model

from personsearch.core.gate_recipe import GateRecipe, Precision
from personsearch.core.manifest import Pooling
from personsearch.export.gate import DETECTOR, NO_LABELS, Reference, engine_candidates, run_gate
from personsearch.export.gate_frames import drawn_gate_frames
from personsearch.export.reference import references
from personsearch.export.tensorrt_rtx import builds_with_tensorrt_rtx

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: pip install 'edge-person-search[rtx]'"
)


@pytest.mark.parametrize("pooling", ["matrix", "roi_align"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_engine_does_what_torch_does(kind: str, pooling: Pooling) -> None:
    model = settled_model(kind)
    query = model.deployable_query(QUERY_BOXES) if model.embedding_dim else None
    candidates, not_run = engine_candidates(exported(kind, pooling), "fp32")
    pools = {node.op_type for node in onnx.load(str(exported(kind, pooling) / "search.onnx")).graph.node}
    assert ("RoiAlign" in pools) == (pooling == "roi_align")
    report = run_gate(
        Reference(references(model.deployable(), query), model.score_threshold, QUERY_BOXES),
        candidates,
        drawn_gate_frames(PREPROCESS, 8),
        GateRecipe(),
        frames_from="drawn",
        not_run=not_run,
    )
    assert report["failures"] == []
    assert [one["name"] for one in report["candidates"]] == ["onnxruntime fp32", "openvino fp32"]
    assert all(one["compared"] >= 4 for one in report["candidates"])
    assert NO_LABELS in report["not_run"]
    assert (DETECTOR in report["not_run"]) == (model.embedding_dim == 0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "faster_rcnn"])
def test_the_graph_pools_as_training_did(kind: str) -> None:
    # `embed` pools by torchvision's RoIAlign, as training does; the graph by matrix products. Boxes at borders too.
    model, (width, height) = settled_model(kind), PREPROCESS.input_wh
    boxes = torch.tensor([[0.0, 0, 20.5, 40.25], [width - 30.5, height - 50.0, width, height]])
    image = torch.from_numpy(frames(1)[0])[None]
    with torch.no_grad():
        expected = model.embed(image, [boxes])[0]
        found = model.deployable_query(QUERY_BOXES)(image, boxes[None])[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@needs_rtx
@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_builds_every_graph_in_fp32(kind: str) -> None:
    for path in sorted(exported(kind).glob("*.onnx")):
        report = builds_with_tensorrt_rtx(path, ["8.6"])
        assert report.errors == ()
        assert report.built
        assert report.layers > 10


@needs_rtx
@pytest.mark.parametrize("flavour", ["fp16", "s8s8"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_builds_every_graph_in_fp16_and_int8(kind: str, flavour: Flavour) -> None:
    for path in sorted(rounded(kind, flavour).glob("*.onnx")):
        report = builds_with_tensorrt_rtx(path, ["8.6"])
        assert report.errors == ()
        assert report.built


@pytest.mark.parametrize("pooling", ["matrix", "roi_align"])
@pytest.mark.parametrize("flavour", get_args(Flavour))
@pytest.mark.parametrize("kind", ["hdl depthwise", "seqnet"])
def test_rounded_graphs_run_on_every_engine(kind: str, flavour: Flavour, pooling: Pooling) -> None:
    # An untrained network has no margin between people: this checks the road, not the accuracy.
    model = settled_model(kind)
    precision: Precision = "fp16" if flavour == "fp16" else "int8"
    candidates, _ = engine_candidates(rounded(kind, flavour, pooling), precision, flavour)
    loose = {"min_matched": 0.3, "max_score_difference": 1, "min_cosine": -1, "min_mean_cosine": 0.5}
    ranks = {"min_top_1_agreement": 0, "min_top_k_overlap": 0, "min_rank_correlation": -1, "max_query_drop": 1}
    report = run_gate(
        Reference(
            references(model.deployable(), model.deployable_query(QUERY_BOXES)), model.score_threshold, QUERY_BOXES
        ),
        candidates,
        drawn_gate_frames(PREPROCESS, 8),
        GateRecipe.model_validate({"fp16": {**loose, **ranks}, "int8": {**loose, **ranks}}),
        frames_from="drawn",
    )
    assert report["failures"] == []
    assert all(one["compared"] >= 4 for one in report["candidates"])
