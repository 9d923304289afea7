"""A network with group norm is exported like any other: standard operators, and the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from export_models import PREPROCESS, ROWS, scenes
from export_models import TRUNKS as SMALL_TRUNKS
from torch import nn

from personsearch.core.recipes import HdlRecipe
from personsearch.export.to_onnx import FORBIDDEN_OPERATORS, graph_problems, operator_counts, write_search_graph
from personsearch.models import build_model
from personsearch.models.fold import folded

TRUNKS = {
    **{kind: trunk for kind, trunk in SMALL_TRUNKS.items() if kind != "shufflenet"},
    "shufflenet": {**SMALL_TRUNKS["shufflenet"], "neck_channels": 16},
    "family": {
        "kind": "family", "stem_channels": 8, "channels": [8, 8, 16, 16], "blocks": [1, 1, 1, 1],
        "neck_channels": 16, "person_channels": 16, "block": "dense",
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=TRUNKS)
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    recipe = HdlRecipe.model_validate(
        {
            "trunk": {**TRUNKS[request.param], "norm": "group"}, "attention": "none", "rpn_channels": 16,
            "anchor_heights": [30, 45, 60], "pre_nms": 16, "proposals": 8, "embedding_dim": 12,
        }
    )  # fmt: skip
    graph = build_model(recipe, PREPROCESS, person_count=5).eval().deployable(ROWS)
    path = tmp_path_factory.mktemp("group") / "search.onnx"
    write_search_graph(graph, path, input_wh=PREPROCESS.input_wh, opset=18)
    return graph, path


def test_its_graph_has_allowed_operators_alone(graphs: tuple[nn.Module, Path]) -> None:
    graph, path = graphs
    counts = operator_counts(path)
    assert graph_problems(path) == []
    assert not FORBIDDEN_OPERATORS & set(counts)
    # torch writes a group norm as an instance norm of its groups; that one cannot be folded and stays. Branches merge.
    plain = list(folded(graph).modules())
    assert counts["InstanceNormalization"] == sum(isinstance(part, nn.GroupNorm) for part in plain) > 10
    assert counts["Conv"] == sum(isinstance(part, nn.Conv2d) for part in plain)


def test_its_graph_answers_as_the_network_does(graphs: tuple[nn.Module, Path]) -> None:
    graph, path = graphs
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for frame in scenes(2):
        with torch.no_grad():
            expected = graph(torch.from_numpy(frame)[None])
        found = session.run(None, {"frames": frame[None]})
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-3, atol=2e-2)
