"""The sensitivity sweep: it finds the block that was spoilt, chooses it, and says what it measured on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from export_models import exported, scenes, tiny_model

from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe, QuantiseRecipe, SensitivityRecipe
from personsearch.export.lowering import FloatGraphs
from personsearch.export.quantise import Calibration, calibrate
from personsearch.export.sensitivity import Sensitivity, blocks_of, measure_sensitivity, sensitivity_lines

SPOILT = "trunk.blocks.1"


@lru_cache
def calibration() -> Calibration:
    recipe = QuantiseRecipe(method="minmax", rounding="nearest")
    return calibrate(exported("depthwise") / "search.onnx", scenes(3), recipe)


def spoilt() -> Calibration:
    """The weights of one block rounded to nothing but their signs."""
    own = calibration()
    weights = {
        name: np.where(np.arange(values.size).reshape(values.shape) % 2, 127, -127).astype(np.int8)
        for name, values in graph_weights().items()
        if name.startswith(f"{SPOILT}.")
    }
    assert weights
    return replace(own, weights=weights)


def graph_weights() -> dict[str, np.ndarray]:
    import onnx
    from onnx import numpy_helper

    stored = onnx.load(str(exported("depthwise") / "search.onnx")).graph.initializer
    return {item.name.removeprefix("scene."): numpy_helper.to_array(item) for item in stored if len(item.dims) == 4}


def sweep(found: Calibration, max_drop: float) -> Sensitivity:
    folder: Path = exported("depthwise")
    graphs = FloatGraphs(folder, tiny_model("depthwise"), tiny_model("depthwise"))
    settings = SensitivityRecipe(measure="cosine", max_drop=max_drop)
    recipe = ExportRecipe(precision="int8", query_boxes=3, quantise=QuantiseRecipe(sensitivity=settings))
    return measure_sensitivity(graphs, recipe, found, 0.0, labelled=None, frames=scenes(3))


def test_the_spoilt_block_is_found_and_stays_float() -> None:
    found = sweep(spoilt(), max_drop=2.0)
    assert found.rows[0].block == SPOILT
    assert found.rows[0].drop > 2 * found.rows[1].drop
    assert f".{SPOILT}.*" in found.float_layers
    assert set(QuantiseRecipe().patterns("u8s8")) < set(found.float_layers)
    assert found.chosen.cosine > found.all_int8.cosine
    assert found.reached
    text = "\n".join(sensitivity_lines(found))
    assert f"stay float for it: .{SPOILT}.*" in text
    assert "3 frames without labels" in text


def test_where_nothing_is_lost_nothing_is_added() -> None:
    found = sweep(calibration(), max_drop=50.0)
    assert found.float_layers == QuantiseRecipe().patterns("u8s8")
    assert found.chosen == found.all_int8
    assert "no block has to stay float" in sensitivity_lines(found)[-1]


def test_search_map_without_labels_is_refused_and_never_replaced_by_cosines() -> None:
    folder = exported("depthwise")
    graphs = FloatGraphs(folder, tiny_model("depthwise"), tiny_model("depthwise"))
    recipe = ExportRecipe(precision="int8", query_boxes=3)
    with pytest.raises(InputError, match=r"ask for 0 people.*sensitivity\.measure=cosine"):
        measure_sensitivity(graphs, recipe, calibration(), 0.5, labelled=None, frames=scenes(1))
    detector = FloatGraphs(folder, tiny_model("depthwise"), None)
    with pytest.raises(InputError, match="a detector embeds nobody"):
        measure_sensitivity(detector, recipe, calibration(), 0.5, labelled=None, frames=scenes(1))


def test_blocks_are_three_parts_of_a_name_or_single_layers() -> None:
    weights = [
        "trunk.stages.0.0.0.weight",
        "trunk.stages.0.1.0.weight",
        "trunk.laterals.0.0.weight",
        "subnet.conv.weight",
    ]
    assert blocks_of(weights, "block") == {
        "trunk.stages.0": (weights[0], weights[1]), "trunk.laterals.0": (weights[2],), "subnet.conv": (weights[3],),
    }  # fmt: skip
    assert [len(own) for own in blocks_of(weights, "layer").values()] == [1, 1, 1, 1]
