"""The training loader: the same bytes for the same seed and epoch, and every image once before any twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data import Batch, Sample, TrainingLoader
from personsearch.data.images import read_image_bgr
from personsearch.data.sample import FloatArray, Frame, Query

PREPROCESS = Preprocess(input_wh=(64, 48))


class Squares:
    """Frames made of their index, one person in each; pickles, so workers can be spawned too."""

    name, terms, person_count = "squares", "free", 5
    queries: tuple[Query, ...] = ()

    def __init__(self, count: int, *broken: int) -> None:
        self._count, self._broken = count, broken

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        boxes = np.array([[8, 6, 24, 40], [30, 6, 50, 40]], dtype=np.float32)
        return Sample(None, boxes, np.array([index % 5, -2]), 0, index, (64, 48))

    def frame_bgr(self, index: int) -> Frame:
        if index in self._broken:
            raise InputError("image file cannot be read", where=f"frames/{index}.jpg")
        return np.full((48, 64, 3), index, dtype=np.uint8)


def loader(count: int = 6, workers: int = 0, batch: int = 2, epoch: int | None = None, seed: int = 0) -> TrainingLoader:
    recipe = DataRecipe(root="", workers=workers, blur=0.5)
    return TrainingLoader(Squares(count), recipe, PREPROCESS, batch_images=batch, epoch_images=epoch, seed=seed)


def plain_order(count: int, epoch_images: int | None, epochs: int, batch: int = 2) -> list[list[int]]:
    """The indices drawn in each epoch, read off the pixels."""
    recipe = DataRecipe(root="", workers=0, photometric=0, zoom=(1, 1), flip=0)
    made = TrainingLoader(Squares(count), recipe, PREPROCESS, batch_images=batch, epoch_images=epoch_images, seed=1)
    found = []
    for number in range(epochs):
        made.set_epoch(number)
        found.append([int(image[0, 0, 0]) for step in made for image in step.images])
    return found


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.names for batch in first] == [batch.names for batch in second]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert all(torch.equal(a, b) for a, b in zip(one.boxes, other.boxes, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one.person_ids, other.person_ids, strict=True))


def test_a_batch_is_what_a_model_takes() -> None:
    batch = next(iter(loader()))
    assert batch.images.shape == (2, 48, 64, 3)
    assert batch.images.dtype == torch.uint8
    assert [boxes.dtype for boxes in batch.boxes] == [torch.float32] * 2
    assert [ids.dtype for ids in batch.person_ids] == [torch.int64] * 2
    assert all(len(boxes) == len(ids) for boxes, ids in zip(batch.boxes, batch.person_ids, strict=True))
    assert "position 0" in batch.names[0]


def test_workers_do_not_change_a_byte() -> None:
    alone = loader(count=7, epoch=9)
    shared = loader(count=7, epoch=9, workers=2)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        assert_equal(list(alone), list(shared))


def test_epoch_and_seed_change_the_variation() -> None:
    made = loader()
    first = list(made)
    assert_equal(first, list(made))
    made.set_epoch(1)
    assert any(not torch.equal(a.images, b.images) for a, b in zip(first, made, strict=True))
    assert any(not torch.equal(a.images, b.images) for a, b in zip(first, loader(seed=1), strict=True))


def test_an_epoch_can_start_in_the_middle() -> None:
    made = loader(count=7, epoch=9)
    made.set_epoch(3)
    whole = list(made)
    made.set_epoch(3, start_step=2)
    assert len(made) == 5
    assert_equal(whole[2:], list(made))


@pytest.mark.parametrize(("epoch_images", "epochs"), [(None, 3), (4, 6), (13, 2), (1, 12)])
def test_every_image_once_before_any_twice(epoch_images: int | None, epochs: int) -> None:
    count = 6
    drawn = plain_order(count, epoch_images, epochs)
    assert [len(epoch) for epoch in drawn] == [epoch_images or count] * epochs
    flat = [index for epoch in drawn for index in epoch]
    for start in range(0, len(flat) - count + 1, count):
        assert sorted(flat[start : start + count]) == list(range(count))
    assert max(Counter(flat).values()) - min(Counter(flat).values()) <= 1


def test_order_is_shuffled() -> None:
    first, second = plain_order(40, None, 2)
    assert first != sorted(first)
    assert first != second


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_ends_with_its_one_line(workers: int) -> None:
    made = TrainingLoader(
        Squares(6, 3),
        DataRecipe(root="", workers=workers),
        PREPROCESS,
        batch_images=2,
        epoch_images=None,
        seed=0,
    )
    with pytest.raises(InputError) as caught:
        list(made)
    assert str(caught.value) == "frames/3.jpg: image file cannot be read"


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="squares: has no images"):
        loader(count=0)


EVERYTHING = DataRecipe(
    root="",
    blur=0.5,
    erase=0.8,
    input_sizes=((64, 48), (96, 64), (32, 32)),
    images_per_identity=2,
    skip_bad=True,
    decode="reduced",
)


@pytest.mark.parametrize("erase_in", ["background", "people"])
def test_with_every_option_workers_and_a_late_start_change_no_byte(erase_in: str) -> None:
    def made(workers: int) -> TrainingLoader:
        recipe = EVERYTHING.model_copy(update={"workers": workers, "erase_in": erase_in})
        return TrainingLoader(Squares(11, 2, 3, 9), recipe, PREPROCESS, batch_images=4, epoch_images=14, seed=3)

    alone, shared = made(0), made(2)
    for epoch in (0, 5):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        whole = list(alone)
        assert_equal(whole, list(shared))
        alone.set_epoch(epoch, start_step=2)
        assert_equal(whole[2:], list(alone))
    assert shared.record["skipped_images"].keys() == {f"frames/{n}.jpg: image file cannot be read" for n in (2, 3, 9)}


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_that_are_kept_do_not_change_when_more_come(workers: int) -> None:
    """Epochs far longer than what is under way at once, one of them left in the middle."""
    alone, shared = loader(count=9, epoch=60, workers=0), loader(count=9, epoch=60, workers=workers)
    for epoch in range(2):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        assert_equal(list(alone), list(shared))
        shared.set_epoch(7)
        left = iter(shared)
        first = [next(left), next(left)]
        del left
        alone.set_epoch(7)
        assert_equal(list(alone)[:2], first)


def test_batches_come_in_each_input_size() -> None:
    recipe = DataRecipe(root="", workers=0, input_sizes=((64, 48), (96, 64)), zoom=(1, 1), flip=0)
    batches = list(TrainingLoader(Squares(6), recipe, PREPROCESS, batch_images=1, epoch_images=20, seed=0))
    assert {tuple(batch.images.shape[1:3]) for batch in batches} == {(48, 64), (64, 96)}
    for batch in batches:
        height, width = batch.images.shape[1:3]
        letterbox = PREPROCESS.model_copy(update={"input_wh": (width, height)}).letterbox(
            np.zeros((48, 64, 3), np.uint8)
        )
        expected = letterbox[1].to_input(np.array([[8.0, 6, 24, 40], [30, 6, 50, 40]]))
        np.testing.assert_allclose(batch.boxes[0].numpy(), expected, rtol=1e-6)


def test_skip_bad_shows_the_next_image_counts_and_names_once(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = DataRecipe(root="", workers=0, photometric=0, zoom=(1, 1), flip=0, skip_bad=True)
    made = TrainingLoader(Squares(6, 2, 3), recipe, PREPROCESS, batch_images=2, epoch_images=None, seed=1)
    for epoch in range(2):
        made.set_epoch(epoch)
        shown = [int(image[0, 0, 0]) for batch in made for image in batch.images]
        assert sorted(shown) == [0, 1, 4, 4, 4, 5]  # 4 for itself, for 3, and for 2 by way of 3
    first, second = (f"frames/{number}.jpg: image file cannot be read" for number in (2, 3))
    assert made.record == {"boxes_outside": 0, "skipped_images": {first: 2, second: 4}}
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == [f"skipped: {first}", f"skipped: {second}"]


def test_skip_bad_wraps_around_and_gives_up_where_nothing_can_be_read() -> None:
    recipe = DataRecipe(root="", workers=0, photometric=0, zoom=(1, 1), flip=0, skip_bad=True)
    made = TrainingLoader(Squares(3, 2), recipe, PREPROCESS, batch_images=3, epoch_images=None, seed=1)
    assert sorted(int(image[0, 0, 0]) for image in next(iter(made)).images) == [0, 0, 1]
    made = TrainingLoader(Squares(3, 0, 1, 2), recipe, PREPROCESS, batch_images=3, epoch_images=None, seed=1)
    with pytest.raises(InputError, match="squares: 3 images in a row cannot be read, the last one: frames/"):
        next(iter(made))


def test_many_skipped_images_fill_the_record_not_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = DataRecipe(root="", workers=0, skip_bad=True)
    made = TrainingLoader(Squares(40, *range(1, 40)), recipe, PREPROCESS, batch_images=8, epoch_images=None, seed=1)
    list(made)
    assert len(made.record["skipped_images"]) == 39
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "skipped: more unreadable images; the run's record lists them"


class Labels:
    """One grey frame with the given boxes."""

    name, terms, person_count, dropped_boxes = "labels", "free", 9, 3
    queries: tuple[Query, ...] = ()

    def __init__(self, boxes: FloatArray, wh: tuple[int, int]) -> None:
        self._boxes, self._wh = boxes, wh

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(None, self._boxes, np.arange(len(self._boxes)) % 9, 0, 0, self._wh)

    def frame_bgr(self, index: int) -> Frame:
        return np.full((self._wh[1], self._wh[0], 3), 90, dtype=np.uint8)


def test_boxes_are_cut_at_the_frame_and_those_outside_counted() -> None:
    boxes = np.array([[-10, -5, 20, 30], [70, 10, 90, 40], [10, 48, 20, 60], [50, 20, 99, 99]], dtype=np.float32)
    recipe = DataRecipe(root="", workers=0, zoom=(1, 1), flip=0)
    made = TrainingLoader(Labels(boxes, (64, 48)), recipe, PREPROCESS, batch_images=1, epoch_images=None, seed=0)
    (batch,) = made
    assert batch.boxes[0].tolist() == [[0, 0, 20, 30], [50, 20, 64, 48]]
    assert batch.person_ids[0].tolist() == [0, 3]
    assert made.record == {"boxes_outside": 2, "skipped_images": {}, "dropped_boxes": 3}


@pytest.mark.parametrize("erase_in", ["background", "people"])
@pytest.mark.parametrize("count", [0, 5000])
def test_nobody_and_thousands(erase_in: str, count: int) -> None:
    corners = np.random.default_rng(0).uniform((0, 0), (1480, 860), (count, 2))
    boxes = np.concatenate([corners, corners + np.array([18, 36])], axis=1).astype(np.float32)
    recipe = EVERYTHING.model_copy(
        update={"workers": 1, "erase_in": erase_in, "images_per_identity": 1, "input_sizes": (), "zoom": (0.9, 1.0)}
    )
    made = TrainingLoader(
        Labels(boxes, (1500, 900)), recipe, Preprocess(input_wh=(1504, 896)), batch_images=2, epoch_images=4, seed=0
    )
    for batch in made:
        assert [len(found) for found in batch.boxes] == [count, count]
        assert all((found[:, 2:] > found[:, :2]).all() for found in batch.boxes)


def test_a_reduced_jpeg_trains_the_same_picture_and_boxes(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 192))
    frame = np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)
    frame[60:160, 40:80] = (20, 240, 30)
    cv2.imwrite(str(tmp_path / "a.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])

    class OneFile(Labels):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(tmp_path / "a.jpg", sample.boxes_xyxy, sample.person_ids, 0, 0, self._wh)

        def frame_bgr(self, index: int) -> Frame:
            return read_image_bgr(tmp_path / "a.jpg", self._wh)

    data = OneFile(np.array([[40, 60, 80, 160]], dtype=np.float32), (256, 192))
    made = {}
    for decode in ("full", "reduced"):
        recipe = DataRecipe(root="", workers=0, decode=decode, zoom=(0.5, 4.0), photometric=0.3)
        loader = TrainingLoader(data, recipe, PREPROCESS, batch_images=1, epoch_images=40, seed=2)
        made[decode] = list(loader)
    different = 0
    for whole, reduced in zip(made["full"], made["reduced"], strict=True):
        difference = np.abs(whole.images.numpy().astype(int) - reduced.images.numpy())
        different += bool(difference.any())
        assert difference.mean() < 6  # windows fall on whole pixels of the reduced frame
        np.testing.assert_allclose(whole.boxes[0].numpy(), reduced.boxes[0].numpy(), atol=1.01)
    assert 10 < different < 40  # zoomed in by more than two, there is nothing to reduce
