"""``personsearch bench ablation`` on tiny networks: stopped and continued, refused, diverged, recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from interrupted import Stopping
from tiny_runs import SMALL, STUDENT_TRUNK, TEACHER_TRUNK
from typer.testing import CliRunner, Result
from walk_sequence import write_walk

from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.core.errors import InputError
from personsearch.distill import run
from personsearch.train.loop import Batches

DATA = {
    "frame_wh": [128, 96], "train_identities": 4, "test_identities": 4, "passers_by": 4, "train_cameras": 2,
    "test_cameras": 2, "days": 1, "train_frames": 8, "test_frames": 8, "people": [2, 3], "cameras_per_identity": 2,
    "video_wh": [128, 96], "video_frames": 8,
}  # fmt: skip
TAUGHT = {"base": "student", "teachers": {"teacher": "big"}}
OFF = {"feature": False, "attention": False}


pytestmark = pytest.mark.usefixtures("one_thread")


def write_table(folder: Path, **changes: Any) -> Path:
    for name, trunk in (("teacher", TEACHER_TRUNK), ("student", STUDENT_TRUNK)):
        base = {
            "name": name, "model": {"trunk": trunk, **SMALL, "score_threshold": 0.0, "dropout": 0.2},
            "preprocess": {"input_wh": [96, 64]}, "data": {"root": "nowhere", "workers": 0},
            "optimiser": {"name": "adamw", "lr": 0.003, "milestones": []}, "epochs": 2, "batch_images": 4,
        }  # fmt: skip
        knowledge = {"teacher": "nobody.pt", "hierarchical": {}} if name == "student" else {}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**base, **knowledge}))
    content = {
        "name": "tiny", "title": "Tiny table", "source": "nobody's", "seeds": [0],
        "bases": {"teacher": "teacher.yaml", "student": "student.yaml"}, "teachers": {"big": {"base": "teacher"}},
        "rows": [
            {"name": "none", "base": "student", "paper": {"search_map": 10, "detection_ap": 5}},
            {"name": "pd", "title": "PD", **TAUGHT, "changes": {"hierarchical": OFF}, "paper": {"search_map": 20}},
        ],
        "scale": {"generate": DATA}, **changes,
    }  # fmt: skip
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def bench(path: Path, out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["ablation", str(path), "--out", str(out), *arguments])


def shown(out: Path) -> dict[str, Any]:
    """The table but for hashes, which know the folder that the teacher lies in."""
    content: dict[str, Any] = json.loads((out / "table.json").read_text())
    for row in content["rows"]:
        row["runs"] = sorted(row["runs"])
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A finished table of two seeds: its recipe, its folder, what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_table(folder)
    result = bench(path, folder / "out", "--seeds", "0,1", "--save", str(folder / "results"))
    assert result.exit_code == 0, (result.output, result.exception)
    return path, folder / "out", result


def test_stopped_and_called_again_gives_the_figures_of_an_unstopped_table(
    whole: tuple[Path, Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reference, _ = whole
    out = tmp_path / "out"
    shutil.copytree(reference / "data", out / "data")
    with monkeypatch.context() as patched:
        opened = run.training_batches

        def stopping(*arguments: Any) -> Batches:
            return Stopping(opened(*arguments))

        patched.setattr(run, "training_batches", stopping)
        stopped = bench(path, out, "--seeds", "0,1")
    assert stopped.exit_code == 130, (stopped.output, stopped.exception)
    assert "goes on from" in stopped.stderr
    first = {row["name"]: row for row in shown(out)["rows"]}
    assert first["none"]["figures"]
    assert not first["pd"]["figures"]
    kept = out / "runs" / "none-seed0" / "checkpoint.pt"
    before = kept.stat().st_mtime_ns
    planned = bench(path, out, "--plan").stdout
    assert [line.split(" epochs")[0].split() for line in planned.splitlines()] == [
        ["none-seed0", "2", "of", "2"], ["big-seed0", "2", "of", "2"], ["pd-seed0", "1", "of", "2"],
    ]  # fmt: skip

    again = bench(path, out, "--seeds", "0,1")
    assert again.exit_code == 0, (again.output, again.exception)
    assert kept.stat().st_mtime_ns == before, "a finished run is not touched"
    assert shown(out) == shown(reference)
    assert [row["figures"]["search_map"]["seeds"] for row in shown(out)["rows"]] == [2, 2]


def test_table_markdown_and_records(whole: tuple[Path, Path, Result]) -> None:
    path, out, result = whole
    for text in ("Tiny table", "order by search mAP: Kendall tau", "seeds", "20.0", "PD"):
        assert text in result.stdout
    text = (out / "table.md").read_text()
    assert "| row | search mAP | paper | top-1 | detection AP | paper | recall |" in text
    assert "synthetic, split test, protocol default" in text
    records = {record.subject: record for record in read_results(path.parent / "results")}
    assert sorted(records) == ["tiny-none", "tiny-pd"]
    figures = records["tiny-pd"].figures
    assert figures["search_map_low"].value <= figures["search_map"].value <= figures["search_map_high"].value
    assert figures["paper_search_map"].value == 20
    assert figures["chance_map"].value > 0
    assert figures["scene"].unit == "GFLOP"
    assert len(records["tiny-pd"].settings["checkpoints"].split(", ")) == 2
    resolved = yaml.safe_load(records["tiny-pd"].settings["recipe"])
    there = yaml.safe_load((out / "recipes" / "pd-seed0.yaml").read_text())
    assert resolved["teacher"] == "runs/big-seed0/checkpoint.pt", "the record does not tell where the table lies"
    assert resolved["data"]["root"] == "data"
    there["teacher"], there["data"]["root"] = resolved["teacher"], resolved["data"]["root"]
    assert resolved == there
    assert str(out) not in records["tiny-pd"].model_dump_json()


def test_other_recipes_and_other_teachers_in_the_folder_are_one_line(
    whole: tuple[Path, Path, Result], tmp_path: Path
) -> None:
    path, reference, _ = whole
    refused = bench(path, reference, "scale.every.epochs=3", "--rows", "none")
    assert isinstance(refused.exception, InputError)
    assert "holds a run of another recipe (epochs: 2 there, 3 here)" in str(refused.exception)
    refused = bench(path, reference, "scale.generate.seed=9", "--rows", "none")
    assert "generated by other settings" in str(refused.exception)

    teacher = reference / "runs" / "big-seed0" / "checkpoint.pt"
    saved = tmp_path / "saved.pt"
    shutil.copy(teacher, saved)
    shutil.copy(reference / "runs" / "none-seed0" / "checkpoint.pt", teacher)
    refused = bench(path, reference, "--rows", "pd")
    shutil.copy(saved, teacher)
    assert isinstance(refused.exception, InputError)
    assert "learned from another teacher" in str(refused.exception)
    part = bench(path, reference, "--rows", "pd", "--json")
    assert part.exit_code == 0
    found = {row["name"]: sorted(row["runs"]) for row in json.loads(part.stdout)["rows"]}
    assert found == {"none": ["0"], "pd": ["0"]}, "rows not asked for keep their figures; seed 1 is not the recipe's"


def test_people_who_come_back_are_measured_on_a_run_that_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_table(tmp_path, rows=[{"name": "none", "base": "student"}]), tmp_path / "out"
    walk, place = write_walk(tmp_path / "walk"), "scale.data.reentry=${WALKS}/walk"
    before = json.loads(bench(path, out, "--json").stdout)
    checkpoint, file = out / "runs" / "none-seed0" / "checkpoint.pt", out / "figures" / "none-seed0.json"
    trained = checkpoint.stat().st_mtime_ns

    monkeypatch.setenv("WALKS", str(tmp_path))
    result = bench(path, out, place, "--save", str(tmp_path / "results"), "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    table = json.loads(result.stdout)
    assert table["reentry"].startswith("walk, 7 frames, 4 true boxes as queries; chance: rank-1 ")
    figures = dict(table["rows"][0]["figures"])
    alone = json.loads(CliRunner().invoke(app, ["reentry", str(checkpoint), str(walk), "--json"]).stdout)
    for metric, key in (
        ("reentry_rank1", "rank_1"), ("reentry_map", "mean_ap"), ("reentry_recall", "detection_recall"),
        ("reentry_precision", "detection_precision"),
    ):  # fmt: skip
        assert figures.pop(metric)["mean"] == pytest.approx(100 * alone[key]), metric
    assert figures == before["rows"][0]["figures"]
    (record,) = read_results(tmp_path / "results")
    assert record.settings["reentry"] == table["reentry"]

    measured = file.stat().st_mtime_ns
    assert json.loads(bench(path, out, place, "--json").stdout) == table
    assert (checkpoint.stat().st_mtime_ns, file.stat().st_mtime_ns) == (trained, measured), "trained and measured once"
    assert json.loads(bench(path, out, "--json").stdout) == before, "a table without a sequence does not show it"


def test_a_sequence_that_cannot_be_read_is_refused_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, place = write_table(tmp_path), tmp_path / "out", "scale.data.reentry=${WALKS}/walk"
    monkeypatch.delenv("WALKS", raising=False)
    refused = bench(path, out, place).exception
    assert isinstance(refused, InputError)
    assert "table.yaml, `scale.data.reentry`: environment variable `WALKS` is not set" in str(refused)
    monkeypatch.setenv("WALKS", str(tmp_path))
    refused = bench(path, out, place).exception
    assert isinstance(refused, InputError)
    assert f"{tmp_path / 'walk'}: is not a sequence" in str(refused)
    assert not (out / "runs").exists()


def test_a_teacher_that_diverges_takes_its_rows_and_no_others(whole: tuple[Path, Path, Result], tmp_path: Path) -> None:
    changes = {"optimiser": {"lr": 1e30, "clip_norm": None}}
    rows = [{"name": "pd", **TAUGHT, "changes": {"hierarchical": OFF}}, {"name": "none", "base": "student"}]
    path = write_table(tmp_path, teachers={"big": {"base": "teacher", "changes": changes}}, rows=rows)
    shutil.copytree(whole[1] / "data", tmp_path / "out" / "data")
    result = bench(path, tmp_path / "out", "--json")
    assert result.exit_code == 1, (result.output, result.exception)
    assert "big-seed0: training diverged" in result.stderr
    assert "pd-seed0: its teacher big-seed0 diverged" in result.stderr
    assert [bool(row["figures"]) for row in json.loads(result.stdout)["rows"]] == [False, True]
