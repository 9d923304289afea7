"""Training batches that depend on (seed, epoch, position) and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from personsearch.core.errors import InputError
from personsearch.core.geometry import clip_boxes
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.core.seeding import rng_for
from personsearch.data.batch_slots import BatchSlots
from personsearch.data.images import read_reduced_bgr
from personsearch.data.sample import IGNORE, FloatArray, Frame, IntArray, Sample, SearchDataset
from personsearch.data.sampling import (
    EpochBatches,
    IdentityRounds,
    Rounds,
    SampleKey,
    UniformRounds,
    identity_members,
)
from personsearch.data.transforms import TrainingTransform

PREFETCH = 2
"""Batches under way for each process."""
MAX_SKIPS = 100
"""Unreadable images in a row after which ``skip_bad`` gives up: the data set is then not there."""
MAX_SHOWN = 20
"""Skipped images that are named on the terminal; a run's record names all."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step takes.

    Attributes:
        images: ``(B, H, W, 3)`` uint8 BGR, letterboxed; one size in a batch.
        boxes: B tensors ``(N, 4)`` float32 xyxy input pixels.
        person_ids: B tensors ``(N,)`` int64: an identity, -1 unlabelled, -2 ignore. A box with a weight w is -2 in a
            share 1 - w of the times that its frame is shown.
        names: B texts that say where each image came from, for error messages.
    """

    images: Tensor
    boxes: list[Tensor]
    person_ids: list[Tensor]
    names: list[str]


class _Item(NamedTuple):
    image: Frame
    boxes: FloatArray
    person_ids: IntArray
    name: str
    skipped: tuple[str, ...]
    outside: int
    step: int


class _Slot(NamedTuple):
    number: int
    shape: tuple[int, ...]


class _Stack(NamedTuple):
    # NumPy, not tensors: torch's shared tensors use up descriptors and /dev/shm, which containers keep small.
    images: Frame | _Slot
    boxes: list[FloatArray]
    person_ids: list[IntArray]
    names: list[str]
    skipped: list[str]
    outside: int


class _Varied(Dataset[Any]):
    """Maps a key to a varied frame; an `InputError` is returned, as torch mangles what a worker raises."""

    def __init__(self, dataset: SearchDataset, recipe: DataRecipe, preprocess: Preprocess, seed: int) -> None:
        self._dataset, self._recipe, self._seed = dataset, recipe, seed
        self._transforms = {
            input_wh: TrainingTransform(recipe, preprocess.model_copy(update={"input_wh": input_wh}))
            for input_wh in _input_sizes(recipe, preprocess)
        }

    def __getitem__(self, key: SampleKey) -> _Item | InputError:
        skipped: list[str] = []
        count = len(self._dataset)
        for index in range(key.index, key.index + (min(count, MAX_SKIPS) if self._recipe.skip_bad else 1)):
            try:
                return self._load(key, index % count, tuple(skipped))
            except InputError as error:
                skipped.append(str(error))
                last = error
        if not self._recipe.skip_bad:
            return last
        return InputError(
            f"{len(skipped)} images in a row cannot be read, the last one: {last}",
            where=self._dataset.name,
            expected="some that can, with skip_bad",
        )

    def _load(self, key: SampleKey, index: int, skipped: tuple[str, ...]) -> _Item:
        rng = rng_for(self._seed, "augment", key.epoch, key.position)
        sample, transform = self._dataset[index], self._transforms[key.input_wh]
        zoom = transform.draw_zoom(rng)
        frame, reduction = self._frame(index, sample, transform.reduction(sample.image_wh, zoom))
        sample = _drawn_by_weight(sample, rng_for(self._seed, "weights", key.epoch, key.position))
        boxes, ids, outside = _in_frame(sample, (frame.shape[1] * reduction, frame.shape[0] * reduction))
        # A reduced frame is the source from here on; what one of its pixels covers is exact, see `read_reduced_bgr`.
        image, seen, ids = transform(frame, boxes / np.float32(reduction), ids, rng, zoom)
        name = str(sample.image_path) if sample.image_path else f"{self._dataset.name}[{index}]"
        return _Item(
            image, seen, ids, f"{name} (epoch {key.epoch}, position {key.position})", skipped, outside, key.step
        )

    def _frame(self, index: int, sample: Sample, reduction: int) -> tuple[Frame, int]:
        """The frame and how many times smaller than its labels say it is."""
        if self._recipe.decode == "full" or reduction == 1 or sample.image_path is None:
            return self._dataset.frame_bgr(index), 1
        frame = read_reduced_bgr(sample.image_path, sample.image_wh, reduction)
        return frame, sample.image_wh[0] // frame.shape[1]


def _in_frame(sample: Sample, frame_wh: tuple[int, int]) -> tuple[FloatArray, IntArray, int]:
    """Boxes cut at the frame's edges, their ids, and how many had nothing inside."""
    cut = clip_boxes(sample.boxes_xyxy, frame_wh).astype(np.float32, copy=False)
    kept = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    return cut[kept], sample.person_ids[kept], int((~kept).sum())


def _drawn_by_weight(sample: Sample, rng: np.random.Generator) -> Sample:
    """A box of weight w stays a person with probability w and becomes a region to ignore otherwise.

    So each of its losses counts w times on average, whatever the network and its losses are, and what shows there is
    never taught to be background.
    """
    if sample.weights is None:
        return sample
    stays = rng.random(len(sample.weights)) < sample.weights
    return replace(sample, person_ids=np.where(stays, sample.person_ids, IGNORE))


def _input_sizes(recipe: DataRecipe, preprocess: Preprocess) -> tuple[tuple[int, int], ...]:
    return recipe.input_sizes or (preprocess.input_wh,)


class _Collate:
    """Puts images together, in a slot of shared memory where there are slots."""

    def __init__(self, slots: BatchSlots | None) -> None:
        self._slots = slots

    def __call__(self, items: list[_Item | InputError]) -> _Stack | InputError:
        good: list[_Item] = []
        for item in items:
            if isinstance(item, InputError):
                return item
            good.append(item)
        return _Stack(
            self._together([item.image for item in good], good[0].step),
            [item.boxes for item in good],
            [item.person_ids for item in good],
            [item.name for item in good],
            [message for item in good for message in item.skipped],
            sum(item.outside for item in good),
        )

    def _together(self, images: list[Frame], step: int) -> Frame | _Slot:
        if self._slots is None:
            return np.stack(images)
        slot = _Slot(step % self._slots.count, (len(images), *images[0].shape))
        np.stack(images, out=self._slots.view(*slot))
        return slot


def _start_worker(_: int) -> None:
    # One worker is one core; OpenCV's own threads would fight the other workers and the training step.
    cv2.setNumThreads(0)


class TrainingLoader:
    """Batches for training, varied and in random order.

    The same ``seed`` and epoch give the same bytes whatever the number of workers, and from whatever step an epoch
    starts. `DataRecipe` says what is varied and how batches are put together.

    Args:
        dataset: must survive pickling where workers are spawned.
        data_recipe: variation, sampling and ``workers``.
        preprocess: the letterbox of the network.
        batch_images: images in a batch; the last one of an epoch may be smaller.
        epoch_images: images an epoch, fewer or more than the set has; none for the whole set once.
        seed: of order and variation.
        rank: of this process among those that train together; each takes its part of every batch.
        world_size: how many processes those are; must divide ``epoch_images``.

    Attributes:
        record: what the batches given so far left out, for a run's record: ``boxes_outside``, boxes with nothing
            inside their frame, each time they were met; ``skipped_images``, how often each unreadable image was
            passed over (with ``skip_bad``), by the line that says what is wrong with it; ``dropped_boxes``, rows
            that the data set's reader could not use, where it counts them.

    Raises:
        InputError: the data set has no images, or the numbers do not fit identity-aware sampling.
    """

    def __init__(
        self,
        dataset: SearchDataset,
        data_recipe: DataRecipe,
        preprocess: Preprocess,
        *,
        batch_images: int,
        epoch_images: int | None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(dataset) == 0:
            raise InputError("has no images", where=dataset.name, expected="a split with images to train on")
        self._batches = EpochBatches(
            _rounds(dataset, data_recipe, batch_images, epoch_images, seed),
            epoch_images=epoch_images,
            batch_images=batch_images,
            seed=seed,
            input_sizes=_input_sizes(data_recipe, preprocess),
            rank=rank,
            world_size=world_size,
        )
        self.record: dict[str, Any] = {"boxes_outside": 0, "skipped_images": {}}
        if (dropped := getattr(dataset, "dropped_boxes", None)) is not None:
            self.record["dropped_boxes"] = dropped
        workers = data_recipe.workers
        self._slots: BatchSlots | None = None
        if workers and BatchSlots.possible():
            # A batch is asked for when one of the PREFETCH * workers under way is taken; that one is copied before the
            # next is taken. So the slot that is written is never one that is still to be read.
            largest = max(width * height * 3 for width, height in _input_sizes(data_recipe, preprocess))
            self._slots = BatchSlots(PREFETCH * workers + 1, largest * batch_images)
        self._loader: DataLoader[Any] = DataLoader(
            _Varied(dataset, data_recipe, preprocess, seed),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_Collate(self._slots),
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
        )

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """The next iteration gives the batches of ``epoch``, from step ``start_step`` on."""
        self._batches.epoch, self._batches.start_step = epoch, start_step

    def __len__(self) -> int:
        """Steps in a whole epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for stack in self._loader:
            if isinstance(stack, InputError):
                raise stack
            self._note(stack)
            yield Batch(
                torch.from_numpy(self._pixels(stack.images)),
                [torch.from_numpy(boxes) for boxes in stack.boxes],
                [torch.from_numpy(ids) for ids in stack.person_ids],
                stack.names,
            )

    def _pixels(self, images: Frame | _Slot) -> Frame:
        if not isinstance(images, _Slot):
            return images
        assert self._slots is not None
        pixels: Frame = self._slots.view(*images).copy()
        return pixels

    def _note(self, stack: _Stack) -> None:
        self.record["boxes_outside"] += stack.outside
        skipped: dict[str, int] = self.record["skipped_images"]
        for message in stack.skipped:
            if message not in skipped and len(skipped) <= MAX_SHOWN:
                text = message if len(skipped) < MAX_SHOWN else "more unreadable images; the run's record lists them"
                Console(stderr=True, soft_wrap=True).print(f"skipped: {text}", markup=False, highlight=False)
            skipped[message] = skipped.get(message, 0) + 1


def _rounds(
    dataset: SearchDataset, recipe: DataRecipe, batch_images: int, epoch_images: int | None, seed: int
) -> Rounds:
    group = recipe.images_per_identity
    if group == 1:
        return UniformRounds(len(dataset), seed)
    for name, images in (("batch_images", batch_images), ("epoch_images", epoch_images)):
        if images is not None and images % group:
            raise InputError(
                f"`{name}` is {images}", expected=f"a multiple of data.images_per_identity, which is {group}"
            )
    members = identity_members(dataset, skip_bad=recipe.skip_bad)
    return IdentityRounds(members, len(dataset), group, seed)
