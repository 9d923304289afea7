"""OpenVINO and ONNX Runtime on the same int8 graph, where OpenVINO's integer kernels are known to go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from personsearch.core.manifest import Int8Flavour
from personsearch.core.openvino_core import cpu_options
from personsearch.export.onnx_graphs import open_session
from personsearch.export.openvino_graphs import compile_graph, run_graph
from personsearch.export.quantise import QuantiseRecipe, calibrate, quantise_graph
from personsearch.export.to_onnx import write_search_graph
from personsearch.models.backbones.shufflenet import ShuffleUnit
from personsearch.models.norms import map_norm

WIDTH, HEIGHT = 64, 48


class Shuffled(nn.Module):
    """Two units of ShuffleNet, and what reads their answer. Fewer channels show nothing."""

    def __init__(self) -> None:
        super().__init__()
        norm = map_norm("batch")
        self.units = nn.Sequential(ShuffleUnit(3, 48, 2, norm), ShuffleUnit(48, 48, 1, norm))
        self.next, self.lateral = ShuffleUnit(48, 96, 2, norm), nn.Conv2d(48, 8, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.units(frames.permute(0, 3, 1, 2).float() / 255)
        return torch.cat([self.lateral(x).flatten(1), self.next(x).flatten(1)], dim=1)


@pytest.mark.parametrize("flavour", get_args(Int8Flavour))
def test_the_concatenation_of_a_split_is_rounded_alike(flavour: Int8Flavour, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8))
    path = tmp_path / "search.onnx"
    write_search_graph(Shuffled().eval(), path, input_wh=(WIDTH, HEIGHT), opset=18, outputs=("map",))
    calibration = calibrate(path, frames, QuantiseRecipe(method="minmax", rounding="nearest"))
    quantise_graph(path, path, calibration, float_layers=(), flavour=flavour)
    expected = open_session(path).run(["map"], {"frames": frames[0][None]})[0]
    found = run_graph(compile_graph(path, flavour), frames=frames[0][None])["map"]
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_integer_kernels_are_left_out_for_signed_activations_alone() -> None:
    assert cpu_options("s8s8").keys() - cpu_options("u8s8").keys() == {"LP_TRANSFORMS_MODE"}
    assert cpu_options() == cpu_options("u8s8")
