"""Re-ID networks on crops as teachers: which box they see, what a row of them is, and what the losses make of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_networks as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from personsearch.core.errors import InputError
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe
from personsearch.data.sample import Sample
from personsearch.distill.crop_teacher import TAP, CropTeacher, centres_of, crop_knowledge, embedding_loss
from personsearch.distill.sources.crop_embedder import CropEmbedder
from personsearch.distill.sources.network import open_network
from personsearch.distill.sources.pixels import RAW_BGR
from personsearch.models.boxes import encode
from personsearch.models.detectors.sampling import REFINE_WEIGHTS
from personsearch.models.search_model import TrainOutput
from personsearch.train.task import TaskBatch

RED, GREEN, BLUE = (20, 30, 200), (10, 220, 40), (240, 20, 10)


def colour_network(folder: Path) -> CropEmbedder:
    """Describes a crop by its mean colour, normalised."""
    return CropEmbedder(open_network(tiny.mean_colour(folder / "net.onnx")), RAW_BGR)


def unit(values: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(values, np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def frame_of(*people: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray[Any, Any]:
    frame = np.full((60, 80, 3), 90, np.uint8)
    for (x1, y1, x2, y2), colour in people:
        frame[y1:y2, x1:x2] = colour
    return frame


def output_of(rois: list[list[list[float]]], people: list[list[float]], positive: list[bool]) -> TrainOutput:
    """A student that sampled ``rois`` of each image; ``people`` is the true box of every row, whatever it is worth."""
    boxes = [torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in rois]
    mask = torch.tensor(positive)
    deltas = encode(torch.tensor(people, dtype=torch.float32), torch.cat(boxes), REFINE_WEIGHTS)
    deltas[~mask] = 0
    targets = {"rcn_positive": mask, "rcn_deltas": deltas}
    return TrainOutput({}, {}, boxes, torch.full((len(mask),), -1), targets=targets)


def batch_of(images: Any, boxes: Any, person_ids: Any) -> TaskBatch:
    rows = [torch.tensor(one, dtype=torch.float32).reshape(-1, 4) for one in boxes]
    ids = [torch.tensor(one, dtype=torch.int64) for one in person_ids]
    return TaskBatch(torch.from_numpy(images), rows, ids, [f"image {number}" for number in range(len(rows))])


def test_each_row_is_the_true_box_of_its_own_image(tmp_path: Path) -> None:
    """Two images; RoIs lie beside their people, one on background. The network sees people, never the RoI's own cut."""
    person_a, person_b = (5, 5, 15, 45), (40, 10, 52, 50)
    images = np.stack([frame_of((person_a, RED), (person_b, GREEN)), frame_of((person_a, BLUE))])
    batch = batch_of(images, [[(50, 1, 60, 30), person_b, person_a], [person_a]], [[-2, -1, 7], [3]])
    rois = [[[3, 2, 14, 40], [44, 12, 60, 55], [60, 0, 70, 30]], [[8, 9, 20, 50]]]
    output = output_of(rois, [person_a, person_b, (0, 0, 1, 1), person_a], [True, True, False, True])
    teacher = CropTeacher([colour_network(tmp_path)], [np.zeros(3, np.float32)])
    rows = teacher.taps(batch, output, {TAP})[TAP].numpy()
    np.testing.assert_allclose(rows, [*unit([RED, GREEN]), [0, 0, 0], unit(BLUE)], atol=1e-5)


def test_begun_early_it_says_the_same_and_only_of_its_own_batch(tmp_path: Path) -> None:
    """The networks run in another thread, once a batch, and an answer is never given to another batch."""
    network, threads = colour_network(tmp_path), []

    class Noting:
        embedding_dim = network.embedding_dim

        def embed(self, frame: Any, boxes_xyxy: Any) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            return network.embed(frame, boxes_xyxy)

    box = (5, 5, 15, 45)
    red, blue = (batch_of(frame_of((box, colour))[None], [[box]], [[0]]) for colour in (RED, BLUE))
    output = output_of([[[3, 2, 14, 40]]], [box], [True])
    teacher = CropTeacher([Noting()], [np.zeros(3, np.float32)])
    teacher.begin(red)
    np.testing.assert_allclose(teacher.taps(red, output, {TAP})[TAP], [unit(RED)], atol=1e-5)
    assert threads == [False]
    teacher.begin(red)
    np.testing.assert_allclose(teacher.taps(blue, output, {TAP})[TAP], [unit(BLUE)], atol=1e-5)
    assert threads.count(True) == 1


def test_what_fails_beside_the_student_fails_where_it_is_asked_for(tmp_path: Path) -> None:
    class Broken:
        embedding_dim = 3

        def embed(self, frame: Any, boxes_xyxy: Any) -> Any:
            raise InputError("output is NaN", where="net.onnx")

    box = (5, 5, 15, 45)
    batch = batch_of(frame_of((box, RED))[None], [[box]], [[0]])
    teacher = CropTeacher([Broken()], [np.zeros(3, np.float32)])
    teacher.begin(batch)
    with pytest.raises(InputError, match=r"output is NaN"):
        teacher.taps(batch, output_of([[[3, 2, 14, 40]]], [box], [True]), {TAP})


def test_an_image_without_people_has_no_rows(tmp_path: Path) -> None:
    batch = batch_of(frame_of()[None], [[(5, 5, 15, 45)]], [[-2]])
    teacher = CropTeacher([colour_network(tmp_path)], [np.zeros(3, np.float32)])
    assert not teacher.taps(batch, output_of([[[3, 2, 14, 40]]], [[0, 0, 1, 1]], [False]), {TAP})[TAP].any()


def test_networks_are_centred_and_count_alike(tmp_path: Path) -> None:
    network, centre = colour_network(tmp_path), np.array([0.1, -0.2, 0.3], np.float32)
    box = np.array([[5, 5, 15, 45]], np.float32)
    row = CropTeacher([network, network], [np.zeros(3, np.float32), centre]).embed(frame_of(((5, 5, 15, 45), RED)), box)
    expected = np.concatenate([unit(RED), unit(unit(RED) - centre)]) / np.sqrt(2)
    np.testing.assert_allclose(row[0], expected, atol=1e-5)


def test_a_person_is_described_once_however_many_rois_lie_on_it(tmp_path: Path) -> None:
    network, asked = colour_network(tmp_path), []
    person_a, person_b = (5, 5, 15, 45), (40, 10, 52, 50)

    class Counting:
        embedding_dim = network.embedding_dim

        def embed(self, frame: Any, boxes_xyxy: Any) -> Any:
            asked.append(len(boxes_xyxy))
            return network.embed(frame, boxes_xyxy)

    batch = batch_of(frame_of((person_a, RED), (person_b, GREEN))[None], [[person_a, person_b]], [[0, 1]])
    rois = [[*person_a], [3, 2, 14, 40], [44, 12, 60, 55], [6, 9, 16, 50]]
    output = output_of([rois], [person_a, person_a, person_b, person_a], [True] * 4)
    rows = CropTeacher([Counting()], [np.zeros(3, np.float32)]).taps(batch, output, {TAP})[TAP].numpy()
    assert asked == [2]
    np.testing.assert_allclose(rows, unit([RED, RED, GREEN, RED]), atol=1e-5)


def test_who_is_hardly_in_the_frame_is_not_described(tmp_path: Path) -> None:
    teacher = CropTeacher([colour_network(tmp_path)], [np.zeros(3, np.float32)])
    boxes = np.array([[78, 5, 95, 45], [-30, -10, -2, 40], [70, 5, 95, 45]], np.float32)
    rows = teacher.embed(frame_of(((70, 5, 80, 45), BLUE)), boxes)
    assert not rows[:2].any()
    np.testing.assert_allclose(rows[2], unit(BLUE), atol=1e-5)
    assert teacher.embed(frame_of(), np.zeros((0, 4), np.float32)).shape == (0, 3)


class Frames:
    """A data set of two frames; somebody to ignore stands in the second."""

    name, terms, person_count, queries = "two", "made by a test", 2, ()

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        boxes = np.array([[5, 5, 15, 45], [40, 10, 52, 50]], np.float32)
        return Sample(Path(f"{index}.png"), boxes, np.array([[0, -1], [1, -2]][index]), 0, index, (80, 60))

    def frame_bgr(self, index: int) -> Any:
        return frame_of(((5, 5, 15, 45), (RED, GREEN)[index]), ((40, 10, 52, 50), BLUE))


def test_centre_is_the_mean_of_everybody_but_those_to_ignore(tmp_path: Path) -> None:
    (centre,) = centres_of([colour_network(tmp_path)], Frames(), 10)
    np.testing.assert_allclose(centre, unit([RED, BLUE, GREEN]).mean(axis=0), atol=1e-5)


# -- losses --------------------------------------------------------------------------------------------------------

ROWS = st_numpy.arrays(np.float64, (5, 4), elements=st.floats(-3, 3).filter(lambda value: abs(value) > 1e-2))


@given(ROWS, ROWS, st.lists(st.booleans(), min_size=5, max_size=5))
def test_embedding_loss_equals_its_slow_twin(student: Any, teacher: Any, seen: list[bool]) -> None:
    teacher = teacher * np.array(seen)[:, None]
    wanted = [
        1 - sum(a * b for a, b in zip(one, other, strict=True)) / np.linalg.norm(one) / np.linalg.norm(other)
        for one, other, counts in zip(student, teacher, seen, strict=True)
        if counts
    ]
    found = embedding_loss(torch.from_numpy(student), torch.from_numpy(teacher))
    assert float(found) == pytest.approx(sum(wanted) / len(wanted) if wanted else 0, abs=1e-9)


def test_nobody_described_is_a_zero_with_a_gradient() -> None:
    student = torch.ones(2, 3, requires_grad=True)
    loss = embedding_loss(student, torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert not student.grad.any()
    with pytest.raises(ValueError, match="student"):
        embedding_loss(student, torch.zeros(2, 4))


def test_relations_count_everybody_described_at_any_width(tmp_path: Path) -> None:
    """Two people and a row of nobody: the one pair's cosine is 1 in the student, 0 in the teacher."""

    class Narrow:
        embedding_dim = 2

    teacher = CropTeacher([colour_network(tmp_path)], [np.zeros(3, np.float32)])
    knowledge = crop_knowledge(Narrow(), teacher, lambda_embedding=0, lambda_relation=3)  # type: ignore[arg-type]  # only its width is read
    assert {name: kind.weight for name, kind in knowledge.criteria.items()} == {"crop_relation": 3}
    ((pair, loss),) = knowledge.criteria["crop_relation"].pairs.items()
    assert pair == ("embedding", TAP)
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    output = TrainOutput({}, {}, [], torch.tensor([-1, -1, -1]))
    assert float(loss(torch.tensor([[1.0, 1], [2, 2], [5, -5]]), rows, output)) == pytest.approx(1)
    with pytest.raises(InputError, match=r"2 wide.*3 together.*model.embedding_dim=3"):
        crop_knowledge(Narrow(), teacher, lambda_embedding=1, lambda_relation=0)  # type: ignore[arg-type]  # likewise


# -- the recipe ----------------------------------------------------------------------------------------------------


def recipe(**crops: Any) -> dict[str, Any]:
    return {
        "name": "x", "teacher": "net.onnx", "data": {"root": "r"}, "preprocess": {"input_wh": [96, 64]},
        "model": {"kind": "oim", "trunk": {"kind": "resnet_c4", "depth": 18}}, "crops": crops,
    }  # fmt: skip


def test_recipe_of_crops_alone_distils_nothing_else() -> None:
    found = validate(DistillRecipe, recipe(networks=[{"preset": "osnet"}]), where="test")
    assert found.hierarchical is None
    assert found.crops is not None
    assert found.crops.lambda_embedding > 0


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        ({"networks": []}, "networks"),
        ({"networks": [{}], "lambda_embedding": 0}, "leave the block out"),
        ({"networks": [{"colour": "rgb"}]}, "colour"),
    ],
)
def test_recipe_refuses_what_teaches_nothing(crops: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(DistillRecipe, recipe(**crops), where="test")
