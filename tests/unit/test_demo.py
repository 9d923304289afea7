"""The demo's folder and its recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from personsearch.benchmarks.demo import standard_settings
from personsearch.benchmarks.demo.run import open_folders
from personsearch.core.errors import InputError
from personsearch.core.recipes import DistillRecipe, TrainRecipe


@pytest.mark.parametrize("name", ["new", "deep/new"])
def test_a_new_folder_is_made(tmp_path: Path, name: str) -> None:
    folders = open_folders(tmp_path / name)
    assert folders.root == tmp_path / name
    assert [path.name for path in folders.root.iterdir()] == ["demo.json"]


def test_an_earlier_demo_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    old = open_folders(out)
    old.teacher.mkdir()
    (old.teacher / "checkpoint.pt").write_text("old")
    (out / "report.html").write_text("old")
    open_folders(out)
    assert [path.name for path in out.iterdir()] == ["demo.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("marker", [None, "{}", "not json", '{"format": "another/1"}', "[1]"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    if marker is not None:
        (tmp_path / "demo.json").write_text(marker)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match="holds other files"):
        open_folders(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match="is a file"):
        open_folders(tmp_path / "demo")


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        open_folders(tmp_path / "file" / "demo")


@pytest.mark.parametrize("name", [".", ".."])
def test_the_working_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    inside = tmp_path / "demo" / "inside"
    open_folders(tmp_path / "demo")
    inside.mkdir()
    monkeypatch.chdir(tmp_path / "demo" if name == "." else inside)
    with pytest.raises(InputError, match="the folder you are in"):
        open_folders(Path(name))
    assert inside.is_dir()


def test_a_link_to_an_earlier_demo_is_followed(tmp_path: Path) -> None:
    old = open_folders(tmp_path / "elsewhere")
    (old.root / "report.html").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    open_folders(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["demo.json"]


def test_one_seed_reaches_every_stage() -> None:
    settings = standard_settings(7)
    assert settings.seed == 7
    assert [recipe.seed for recipe in (settings.teacher, settings.student, settings.control)] == [7, 7, 7]


def test_control_differs_from_the_student_by_the_teacher_alone() -> None:
    settings = standard_settings(0)
    student, control = settings.student.model_dump(), settings.control.model_dump()
    for recipe in (student, control):
        recipe["data"].pop("workers")  # changes no byte of a batch
    different = {key for key in student if student[key] != control.get(key)}
    of_teachers = set(DistillRecipe.model_fields) - set(TrainRecipe.model_fields)
    assert {"name", "teacher", "hierarchical"} <= different <= {"name", *of_teachers}


def test_networks_see_the_generated_people() -> None:
    settings = standard_settings(0)
    assert settings.teacher.preprocess == settings.student.preprocess
    assert settings.teacher.preprocess.input_wh == settings.data.frame_wh
