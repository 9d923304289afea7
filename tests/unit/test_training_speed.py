"""``bench training``: what it tells, what it writes down, what it refuses. How fast it is, no test can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.core.errors import InputError

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "preprocess": {"input_wh": [96, 64]},
    "model": {
        "trunk": {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1, "person_channels": 8},
        "anchor_heights": [32, 56], "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16,
    },
    "data": {"root": "nowhere", "workers": 1},
    "batch_images": 2,
    "accumulate": 2,
}  # fmt: skip
QUICK = ["--steps", "1", "--images", "4", "--rounds", "1"]


def write(folder: Path, **changes: Any) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


def test_loader_and_step_are_told_apart_and_written_down(tmp_path: Path) -> None:
    words = ["training", write(tmp_path), "data.flip=0", "--variant", "recipe", "--variant", "bf16-mixed", *QUICK]
    answer = CliRunner().invoke(app, [*words, "--threads", "1", "--save", str(tmp_path / "results"), "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (told["name"], told["batch_images"], told["accumulate"], told["workers"]) == ("tiny", 2, 2, 1)
    assert [step["variant"] for step in told["steps"]] == ["recipe", "bf16-mixed"]
    (record,) = read_results(tmp_path / "results")
    assert record.figures["loader"].value == told["loader_images_per_s"] > 0
    assert record.figures["step_bf16-mixed"].value == told["steps"][1]["images_per_s"] > 0
    assert record.settings["batch"] == "2 images, 2 accumulated"
    assert record.settings["threads"] == "1"


def test_a_students_recipe_is_timed_without_its_teacher(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["training", write(tmp_path, teacher="not/there.pt", accumulate=1), *QUICK])
    assert answer.exit_code == 0, answer.output
    assert "tiny, 96x64, batches of 2, 1 accumulated" in answer.stdout
    assert "step, recipe" in answer.stdout


@pytest.mark.parametrize(
    ("changes", "extra", "message"),
    [
        ({}, ["--variant", "fast"], "variant is `fast`; expected one of recipe, channels_last, compile"),
        ({"batch": 3}, [], "unknown key `batch`"),
    ],
)
def test_an_unknown_variant_and_an_unknown_key_are_refused(
    tmp_path: Path, changes: dict[str, Any], extra: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["training", write(tmp_path, **changes), *extra, *QUICK], catch_exceptions=False)


def test_a_recipe_whose_second_path_is_also_wrong_keeps_the_first_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key `preprocess` is missing"):
        CliRunner().invoke(app, ["training", write_without(tmp_path, "preprocess"), *QUICK], catch_exceptions=False)


def write_without(folder: Path, key: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in RECIPE.items() if name != key}))
    return str(path)
