"""The training loader: the same bytes for the same seed and epoch, and every image once before any twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data import Batch, Sample, TrainingLoader
from personsearch.data.sample import Frame, Query

PREPROCESS = Preprocess(input_wh=(64, 48))


class Squares:
    """Frames made of their index, one person in each; pickles, so workers can be spawned too."""

    name, terms, person_count = "squares", "free", 5
    queries: tuple[Query, ...] = ()

    def __init__(self, count: int, broken: int | None = None) -> None:
        self._count, self._broken = count, broken

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        boxes = np.array([[8, 6, 24, 40], [30, 6, 50, 40]], dtype=np.float32)
        return Sample(None, boxes, np.array([index % 5, -2]), 0, index, (64, 48))

    def frame_bgr(self, index: int) -> Frame:
        if index == self._broken:
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
        Squares(6, broken=3),
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
