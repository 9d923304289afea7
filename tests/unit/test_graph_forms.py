"""What is written in another way for a graph (docs/adr/0021) is the same function."""

from __future__ import annotations

import onnx
import pytest
import torch
from export_models import exported
from onnx import numpy_helper

from personsearch.models.backbones import shufflenet
from personsearch.models.heads import person_head


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (3, 10, 4, 7)])
def test_the_shuffle_takes_the_same_channels(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(shape)
    expected = shufflenet._even_odd(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found = shufflenet._even_odd(x)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(found[0][:, 0], x[:, 0])
    assert torch.equal(found[1][:, -1], x[:, -1])


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (4, 1), (1, 3), (4, 6)])
def test_pooled_averages_are_the_averages(grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn((5, 3, 4, 6), dtype=torch.float64)
    expected = person_head._averages(x, *grid)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found = person_head._averages(x, *grid)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    by_hand = x[2, 1, : 4 // grid[0], : 6 // grid[1]].mean()  # the first cell of the second channel
    assert float(found[2, grid[0] * grid[1]]) == pytest.approx(float(by_hand))


def test_a_graph_has_no_slice_of_every_second_channel() -> None:
    graph = onnx.load(str(exported("shufflenet") / "search.onnx")).graph
    values = {tensor.name: numpy_helper.to_array(tensor).ravel().tolist() for tensor in graph.initializer}
    slices = [node for node in graph.node if node.op_type == "Slice"]
    assert slices
    assert all(len(node.input) < 5 or set(values[node.input[4]]) == {1} for node in slices)
    assert sum(node.op_type == "Split" for node in graph.node) == 13  # the units that do not halve their map
