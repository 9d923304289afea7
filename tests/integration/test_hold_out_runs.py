"""Images that training leaves out: from the recipe through teacher, student and table to the score threshold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import STUDENT_TRUNK, student_recipe, teacher_recipe, write_folder
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.data import open_dataset, person_names_of
from personsearch.data.hold_out import hold_out
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train import run_training
from personsearch.train.run import open_training_set, training_batches

IMAGES, PEOPLE, SHARE = 14, 6, 0.3
REGION = {
    "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16, "train_pre_nms": 64,
    "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.4},
}  # fmt: skip
OIM = {"kind": "oim", "embedding_dim": 8, "queue_size": 6, "trunk": STUDENT_TRUNK, **REGION}
DETECTOR = {"kind": "faster_rcnn", "trunk": STUDENT_TRUNK, **REGION}
EXPORTABLE = {"trunk": {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1},
              "anchor_heights": [32, 56], "rpn_channels": 8, "pool_size": 4, "pre_nms": 12, "proposals": 6,
              "rois_per_image": 8, "train_proposals": 16}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny", images=IMAGES, person_count=PEOPLE)


def data_of(root: Path, **changes: Any) -> dict[str, Any]:
    return {"root": str(root), "workers": 0, "hold_out": SHARE, **changes}


@pytest.fixture(scope="module")
def teacher(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = teacher_recipe(root, epochs=1, data=data_of(root))
    return run_training(recipe, tmp_path_factory.mktemp("teacher"))


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_run_says_how_much_is_held_out(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_training(teacher_recipe(root, epochs=1, data=data_of(root)), tmp_path / "run")
    told = f"held out by identities: 5 of {IMAGES} images; 4 identities are left"
    assert told in capsys.readouterr().err


def test_training_shows_nothing_of_what_is_held_out(root: Path, teacher: Path) -> None:
    whole = open_dataset(root, "train")
    held_out = hold_out(whole, SHARE, 0)
    apart = {whole[index].image_path.name for index in held_out.images if whole[index].image_path is not None}
    people = {str(person) for index in held_out.images for person in whole[index].person_ids if person >= 0}
    assert len(apart) == len(held_out.images) > 1
    assert people
    recipe = teacher_recipe(root, data=data_of(root, images_per_identity=2))
    dataset = open_training_set(recipe)
    loader = training_batches(recipe, dataset, 0, 1)
    shown: set[str] = set()
    for epoch in range(4):
        loader.set_epoch(epoch)
        for batch in loader:
            shown |= {Path(name.split(" (epoch")[0]).name for name in batch.names}
            assert max(int(ids.max(initial=-1)) for ids in map(np.asarray, batch.person_ids)) < dataset.person_count
    assert shown == {f"{number}.png" for number in range(IMAGES)} - apart

    found = read_checkpoint(teacher)
    assert found.person_count == found.data[0].identities == PEOPLE - len(people)
    assert found.person_names == tuple(str(person) for person in range(PEOPLE) if str(person) not in people)
    stated = found.data[0].held_out
    assert stated is not None
    assert (stated.share, stated.seed, stated.images) == (SHARE, 0, len(apart))
    # Another seed of the run leaves out the same images, another seed of the choice does not.
    assert person_names_of(open_training_set(teacher_recipe(root, seed=99, data=data_of(root)))) == found.person_names
    other = open_training_set(teacher_recipe(root, data=data_of(root, hold_out_seed=1)))
    assert person_names_of(other) != found.person_names


def test_a_step_cannot_take_more_than_is_left(root: Path, tmp_path: Path) -> None:
    left = len(open_training_set(teacher_recipe(root, data=data_of(root))))
    assert left < IMAGES
    with pytest.raises(InputError, match=rf"a step takes {IMAGES} images .*, an epoch has {left}"):
        run_training(teacher_recipe(root, data=data_of(root), batch_images=IMAGES), tmp_path / "run")


def test_an_image_that_cannot_be_read_is_passed_over(root: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(root, tmp_path / "broken")
    recipe = teacher_recipe(broken, epochs=1, data=data_of(broken, skip_bad=True))
    first = open_training_set(recipe)[0].image_path
    assert first is not None
    first.write_bytes(b"no image")
    record = json.loads((run_training(recipe, tmp_path / "run").parent / "run.json").read_text())
    assert [first.name in line for line in record["loader"]["skipped_images"]] == [True]


def test_a_threshold_is_chosen_on_what_was_held_out(root: Path, teacher: Path) -> None:
    stated = read_checkpoint(teacher).data[0].held_out
    assert stated is not None
    words = ["calibrate", teacher, root, "--criterion", "detection", "--threads", 1]
    record = json.loads(command(*words, "--json"))
    assert (record["seen_in_training"], record["images"], record["trained_identities"]) == (False, stated.images, 0)
    assert "not seen in training, which left these images and everybody in them out" in command(*words)
    with pytest.raises(InputError, match=r"--hold-out 0\.5 --seed 0 is not what training held out"):
        command(*words, "--hold-out", 0.5)


def test_a_model_that_saw_everything_says_so(root: Path, tmp_path: Path) -> None:
    checkpoint = run_training(teacher_recipe(root, epochs=1), tmp_path / "run")
    words = ["calibrate", checkpoint, root, "--criterion", "detection", "--threads", 1]
    record = json.loads(command(*words, "--json", "--hold-out", SHARE))
    assert record["seen_in_training"] is True
    assert record["trained_identities"] == record["identities"] > 0
    assert "unless these images were left out, it has seen them" in command(*words)


def test_an_artifact_knows_what_its_network_has_not_seen(root: Path, tmp_path: Path) -> None:
    recipe = teacher_recipe(root, model=EXPORTABLE, epochs=1, data=data_of(root))
    checkpoint = run_training(recipe, tmp_path / "run")
    artifact = tmp_path / "artifact"
    command("export", checkpoint, "--out", artifact, "gate.frames=2", "query_boxes=2")
    assert read_manifest(artifact).training_data[0].held_out == read_checkpoint(checkpoint).data[0].held_out
    command("calibrate", artifact, root, "--criterion", "detection", "--threads", 1, "--write")
    assert read_manifest(artifact).figures["score_calibration"]["seen_in_training"] is False
    labels = root / "annotations" / "train.json"
    changed = shutil.copytree(root, tmp_path / "changed") / labels.relative_to(root)
    content = json.loads(changed.read_text())
    for row in content["annotations"]:
        row["bbox"][2] -= 1
    changed.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"^tiny: .* other images or labels than in training .* unchanged"):
        command("calibrate", artifact, tmp_path / "changed", "--criterion", "detection", "--threads", 1)


def test_a_student_learns_from_a_teacher_that_held_out_the_same(root: Path, teacher: Path, tmp_path: Path) -> None:
    same = student_recipe(root, teacher, epochs=1, data=data_of(root))
    found = read_checkpoint(run_distillation(same, tmp_path / "student"))
    assert found.data == read_checkpoint(teacher).data
    other = "held out 5 images .* of tiny, split `train`; expected as this run, which held"
    for changes in ({"hold_out": 0.0}, {"hold_out_seed": 1}, {"hold_out": 0.5}):
        with pytest.raises(InputError, match=rf"^teacher .*: {other} (out|nothing)") as caught:
            run_distillation(student_recipe(root, teacher, data=data_of(root, **changes)), tmp_path / "other")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_a_detector_that_has_seen_what_is_held_out_is_refused(root: Path, tmp_path: Path) -> None:
    seen = run_training(teacher_recipe(root, model=DETECTOR, epochs=1), tmp_path / "seen")
    less = run_training(teacher_recipe(root, model=DETECTOR, epochs=1, data=data_of(root)), tmp_path / "less")
    block = {"hierarchical": None, "model": OIM, "detection": {"hint": False}, "epochs": 1}
    recipe = student_recipe(root, seen, **block, data=data_of(root))
    with pytest.raises(InputError, match=r"seen.*: held nothing out of tiny, .* data\.hold_out=0\.3"):
        run_distillation(recipe, tmp_path / "run")
    # A detector that saw less than its student is a detector like any other.
    run_distillation(student_recipe(root, less, **block), tmp_path / "student")
    with pytest.raises(InputError, match=r"^init_from .*: held nothing out of tiny"):
        run_training(
            teacher_recipe(root, model=DETECTOR, init_from=str(seen), data=data_of(root)), tmp_path / "started"
        )
    assert not (tmp_path / "started").exists()


def test_a_look_up_table_is_made_for_those_who_are_left(root: Path, tmp_path: Path) -> None:
    teacher = run_training(teacher_recipe(root, model=OIM, epochs=1, data=data_of(root)), tmp_path / "teacher")
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    command("table", teacher, root, "--out", whole)
    shown = command("table", teacher, root, "--out", part, "--hold-out", SHARE)
    left = read_checkpoint(teacher).person_count
    assert f"{left} identities x 8" in shown
    assert "without 0.3 held out (seed 0)" in shown
    block = {"hierarchical": None, "model": OIM, "lookup_table": {}, "epochs": 1, "data": data_of(root)}
    found = read_checkpoint(run_distillation(student_recipe(root, part, **block), tmp_path / "student"))
    assert found.person_count == left
    with pytest.raises(InputError, match=r"the look-up table .* and split with --hold-out 0\.3 --hold-out-seed 0$"):
        run_distillation(student_recipe(root, whole, **block), tmp_path / "other")


def test_a_run_goes_on_only_with_what_it_held_out(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root, tmp_path / "data")
    recipe = teacher_recipe(data, epochs=1, data=data_of(data))
    run_training(recipe, tmp_path / "run")
    changed = teacher_recipe(data, epochs=1, data=data_of(data, hold_out=0.4))
    with pytest.raises(InputError, match=r"another recipe \(data\.hold_out: 0\.3 there, 0\.4 here\)"):
        run_training(changed, tmp_path / "run", resume=True)
    labels = data / "annotations" / "train.json"
    content = json.loads(labels.read_text())
    for row in content["annotations"]:
        row["bbox"][2] -= 1
    labels.write_text(json.dumps(content))
    with pytest.raises(InputError, match="held out other images, or images with other labels, than the data set has"):
        run_training(recipe, tmp_path / "run", resume=True)


def test_boxes_that_are_mixed_in_show_none_of_it(root: Path, tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", images=4, person_count=2, name="elsewhere")
    for frame in (elsewhere / "frames").iterdir():  # the generator draws every folder's frames alike
        frame.write_bytes(frame.read_bytes() + b"\0")
    dataset = open_training_set(teacher_recipe(root, data=data_of(root, boxes=str(elsewhere), boxes_share=0.5)))
    alone = open_training_set(teacher_recipe(root, data=data_of(root)))
    assert (len(dataset), dataset.person_count) == (len(alone), alone.person_count)
    own = shutil.copytree(root, tmp_path / "own")
    with pytest.raises(InputError, match=r"^data\.boxes .*own: shows 5 of the 5 images that `data\.hold_out` leaves"):
        open_training_set(teacher_recipe(root, data=data_of(root, boxes=str(own))))


def test_nobody_left_to_learn(tmp_path: Path) -> None:
    # The one identity stands in two of three images: where these are held out, nobody has one.
    root = write_folder(tmp_path / "data", images=4, person_count=1)
    seeds = range(12)
    messages = []
    for seed in seeds:
        recipe = teacher_recipe(root, data=data_of(root, hold_out=0.5, hold_out_seed=seed))
        try:
            open_training_set(recipe)
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert all("labels no identity that is not held out" in message for message in messages)
