"""``personsearch bench`` and ``personsearch evaluate`` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.cli.evaluate import evaluate
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import dump_recipe
from personsearch.core.recipes import DataRecipe, DepthwiseTrunk, HdlRecipe, TrainRecipe
from personsearch.models.build import build_model

RECIPE = TrainRecipe(
    name="tiny",
    model=HdlRecipe(
        trunk=DepthwiseTrunk(stem_channels=8, channels=(8, 8, 8), modules=1, person_channels=8),
        attention="none", anchor_heights=(40.0,), rpn_channels=8, pre_nms=8, proposals=4, score_threshold=0.0,
    ),
    preprocess=Preprocess(input_wh=(96, 64)),
    data=DataRecipe(root="nowhere"),
)  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model(RECIPE.model, RECIPE.preprocess, 2)
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    content = {
        "format": "personsearch-checkpoint/1", "kind": "train", "recipe": dump_recipe(RECIPE),
        "model": model.state_dict(), "person_count": 2, "data": [],
    }  # fmt: skip
    torch.save(content, path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    import cv2

    root = tmp_path / "set"
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, rows = [], []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "frames" / f"{number}.png"), pixels)
        images.append(
            {"id": number, "file_name": f"frames/{number}.png", "width": 96, "height": 64, "camera_id": 0,
             "frame_index": number}
        )  # fmt: skip
        box = [20 + number, 10, 16, 40]
        rows.append({"id": number, "image_id": number, "bbox": box, "category_id": 1, "person_id": 0, "iscrowd": 0})
    annotations = {
        "person_count": 1, "images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}],
        "queries": [{"image_id": 0, "bbox": rows[0]["bbox"], "person_id": 0}],
    }  # fmt: skip
    (root / "annotations" / "test.json").write_text(json.dumps(annotations))
    about = {
        "format": "personsearch/1", "name": "three frames", "terms": "test", "generator": None,
        "splits": {"test": "annotations/test.json"},
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def test_flops_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(RECIPE))
    shown = CliRunner().invoke(app, ["flops", str(path)])
    assert shown.exit_code == 0
    assert "1 MAC = 2 FLOPs" in shown.output
    assert "K = 4" in shown.output
    (figures,) = json.loads(CliRunner().invoke(app, ["flops", str(path), "--json"]).output)
    parts = figures["scene_macs"] + 4 * figures["person_macs"] + figures["selection_macs"]
    assert figures["total_macs"] == parts == figures["total_flops"] // 2
    assert figures["traffic_bytes"] > figures["peak_bytes"] > 0


def test_flops_needs_models_or_the_papers(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(RECIPE))
    for arguments in (["flops"], ["flops", str(path), "--papers"]):
        with pytest.raises(InputError, match="models, or --papers"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_flops_of_a_recipe_with_an_unknown_key(tmp_path: Path) -> None:
    content = yaml.safe_load(dump_recipe(RECIPE))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**content, "modle": 1}))
    with pytest.raises(InputError, match="unknown key `modle`"):
        CliRunner().invoke(app, ["flops", str(tmp_path / "tiny.yaml")], catch_exceptions=False)


def test_latency_of_a_checkpoint_keeps_a_record(checkpoint: Path, tmp_path: Path) -> None:
    arguments = [
        "latency", f"{checkpoint}@eager", "--rounds", "3", "--restarts", "1", "--frames", "2", "--size", "96x64",
        "--save", str(tmp_path / "results"), "--plot", str(tmp_path / "roof.svg"),
    ]  # fmt: skip
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "network alone" in shown.output
    assert "run@eager" in (tmp_path / "roof.svg").read_text()
    (record,) = read_results(tmp_path / "results")
    assert (record.kind, record.subject) == ("latency", "run@eager")
    assert record.figures["frame_p50_ms"].unit == "ms"
    assert record.figures["frame_times_faster"].value == 1
    assert "frame_p99_ms_high" not in record.figures  # three frames do not bound it
    assert record.figures["share_of_peak"].value > 0
    assert "roofline: bounds measured in this run" in shown.output
    assert len(record.sha256) == 64
    assert record.settings["frames"] == (
        "2 distinct generated frames of 96x64, of colour noise, nobody in view, JPEG of quality 90"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "big"], "WIDTHxHEIGHT"),
        (["CHECKPOINT"], "two models are called `run`"),
        (["--batch", "4"], "in scenario single a frame comes alone"),
        (["--scenario", "multi", "--batch", "1,none"], "batch is `1,none`"),
        (["CHECKPOINT@openvino"], "`openvino` does not run a checkpoint"),
        (["--no-roofline", "--plot", "roof.svg"], "a chart of the roofline without a roofline"),
    ],
)
def test_latency_refuses_before_it_times(checkpoint: Path, arguments: list[str], message: str) -> None:
    words = [word.replace("CHECKPOINT", str(checkpoint)) for word in arguments]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["latency", str(checkpoint), *words], catch_exceptions=False)


def test_evaluate_prints_a_table_json_and_a_record(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(evaluate)
    shown = CliRunner().invoke(
        command, [str(checkpoint), str(dataset), "--histogram", "--save", str(tmp_path / "results")]
    )
    assert shown.exit_code == 0, shown.output
    assert "3 images, 3 people, 1 queries" in shown.output
    assert "colour histogram" in shown.output
    (record,) = read_results(tmp_path / "results")
    assert 0 <= record.figures["search_mean_ap"].value <= 1
    text = CliRunner().invoke(command, [str(checkpoint), str(dataset), "--json"]).stdout
    assert json.loads(text)[0]["true_boxes"]["top"].keys() == {"1", "5", "10"}


def test_evaluate_on_what_is_not_a_data_set(checkpoint: Path, tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(evaluate)
    with pytest.raises(InputError):
        CliRunner().invoke(command, [str(checkpoint), str(tmp_path)], catch_exceptions=False)


def test_evaluate_leaves_out_what_cannot_be_read_only_when_asked(
    checkpoint: Path, dataset: Path, tmp_path: Path
) -> None:
    command = typer.Typer()
    command.command()(evaluate)
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    whole = json.loads(CliRunner().invoke(command, [str(checkpoint), str(copy), "--json", "--skip-bad"]).stdout)[0]
    broken = copy / "frames" / "2.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=broken.name):
        CliRunner().invoke(command, [str(checkpoint), str(copy)], catch_exceptions=False)
    shown = CliRunner().invoke(command, [str(checkpoint), str(copy), "--json", "--skip-bad"])
    assert f"skipped 1 of {whole['images']} images" in shown.stderr
    assert broken.name in shown.stderr
    told = json.loads(shown.stdout)[0]
    assert (told["images"], told["skipped_images"], whole["skipped_images"]) == (whole["images"] - 1, 1, 0)
