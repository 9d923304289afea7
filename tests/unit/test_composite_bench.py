"""The benchmark of composites: a classifier that finds what is there and nothing where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composite_material import write_material, write_spec
from typer.testing import CliRunner

from personsearch.benchmarks.composite_seam import _features, _Rim, _told_apart, measure_seam
from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.data import open_dataset


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_material(tmp_path)
    monkeypatch.setenv("MATERIAL", str(tmp_path))
    changes: dict[str, Any] = {"mot": "${MATERIAL}/mot", "mot_background_share": 0.0}
    return write_spec(
        tmp_path,
        tmp_path,
        images=130,
        image_wh=[320, 180],
        height_px=[50, 90],
        people=[2, 3],
        occluded_share=0,
        **changes,
    )


def rims(kind: str, shift: float, count: int, seed: int) -> list[_Rim]:
    features = np.random.default_rng(seed).normal(shift, 1, (count, 6))
    return [_Rim(kind, frame, row) for frame, row in enumerate(features)]


def test_the_classifier_finds_a_difference_and_only_then() -> None:
    apart, count = _told_apart(rims("a", 0, 200, 1) + rims("b", 1.5, 150, 2), ("a", "b"), "x")
    assert count == 150
    assert apart > 0.9
    alike, _ = _told_apart(rims("a", 0, 200, 1) + rims("b", 0, 200, 2), ("a", "b"), "x")
    assert 0.38 < alike < 0.62
    with pytest.raises(InputError, match="only 20 silhouettes of a or b"):
        _told_apart(rims("a", 0, 200, 1) + rims("b", 0, 20, 2), ("a", "b"), "x")


def test_features_see_the_rim_alone() -> None:
    """A step at the edge is seen; what happens ten pixels away from it is not."""
    mask = np.zeros((60, 60), dtype=bool)
    mask[15:45, 15:45] = True
    flat = np.zeros((60, 60, 2), dtype=np.float32)
    step = flat.copy()
    step[mask] = 50
    assert _features(flat, mask).max() == 0
    assert _features(step, mask).max() > 2
    far = flat.copy()
    far[26:34, 26:34] = 99
    far[:4] = 99
    np.testing.assert_array_equal(_features(far, mask), _features(flat, mask))


def test_decoys_take_the_seam_away(spec: Path) -> None:
    dataset: Any = open_dataset(spec, "train")
    result = measure_seam(dataset, 130)
    assert set(result.accuracy) == {
        "person_or_street",
        "decoy_or_street",
        "person_or_decoy",
        "clothes_or_street_decoy",
        "decoy_or_decoy",
    }
    assert result.accuracy["person_or_street"] > 0.9
    assert 0.3 < result.accuracy["decoy_or_decoy"] < 0.7
    assert result.accuracy["person_or_decoy"] < result.accuracy["person_or_street"]


def test_the_command_prints_and_records(spec: Path, tmp_path: Path) -> None:
    arguments = ["bench", "composites", str(spec), "--size", "160x120", "--images", "2", "--save", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "r/composites-tiny-composites.json").read_text())
    assert record["settings"]["size"] == "160x120"
    assert record["figures"]["images_per_s"]["value"] > 0
    assert record["figures"]["people"]["value"] <= 3
    assert "images/s" in CliRunner().invoke(app, arguments).output
    assert isinstance(CliRunner().invoke(app, [*arguments[:4], "wide"]).exception, InputError)
