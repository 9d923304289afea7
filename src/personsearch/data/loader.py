"""Training batches that depend on (seed, epoch, position) and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.core.seeding import rng_for
from personsearch.data.sample import FloatArray, Frame, IntArray, SearchDataset
from personsearch.data.transforms import TrainingTransform


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step takes.

    Attributes:
        images: ``(B, H, W, 3)`` uint8 BGR, letterboxed.
        boxes: B tensors ``(N, 4)`` float32 xyxy input pixels.
        person_ids: B tensors ``(N,)`` int64: an identity, -1 unlabelled, -2 ignore.
        names: B texts that say where each image came from, for error messages.
    """

    images: Tensor
    boxes: list[Tensor]
    person_ids: list[Tensor]
    names: list[str]


@dataclass(frozen=True)
class _Key:
    epoch: int
    position: int
    index: int


class _Item(NamedTuple):
    image: Frame
    boxes: FloatArray
    person_ids: IntArray
    name: str


class _Stack(NamedTuple):
    # NumPy, not tensors: shared-memory tensors use up descriptors and /dev/shm, which containers keep small.
    images: Frame
    boxes: list[FloatArray]
    person_ids: list[IntArray]
    names: list[str]


class _Varied(Dataset[Any]):
    """Maps a key to a varied frame; an `InputError` is returned, as torch mangles what a worker raises."""

    def __init__(self, dataset: SearchDataset, transform: TrainingTransform, seed: int) -> None:
        self._dataset, self._transform, self._seed = dataset, transform, seed

    def __getitem__(self, key: _Key) -> _Item | InputError:
        rng = rng_for(self._seed, "augment", key.epoch, key.position)
        try:
            sample, frame = self._dataset[key.index], self._dataset.frame_bgr(key.index)
        except InputError as error:
            return error
        image, boxes, ids = self._transform(frame, sample.boxes_xyxy, sample.person_ids, rng)
        name = str(sample.image_path) if sample.image_path else f"{self._dataset.name}[{key.index}]"
        return _Item(image, boxes, ids, f"{name} (epoch {key.epoch}, position {key.position})")


def _collate(items: list[_Item | InputError]) -> _Stack | InputError:
    good: list[_Item] = []
    for item in items:
        if isinstance(item, InputError):
            return item
        good.append(item)
    return _Stack(
        np.stack([item.image for item in good]),
        [item.boxes for item in good],
        [item.person_ids for item in good],
        [item.name for item in good],
    )


class _EpochBatches(Sampler[list[_Key]]):
    """Keys of one epoch's batches.

    The epochs walk along one endless row of seeded permutations of the set: every image is seen once before
    any is seen again, whatever the length of an epoch.
    """

    def __init__(self, count: int, epoch_images: int, batch_images: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch_images, self._batch_images = epoch_images, batch_images
        self.epoch, self.start_step = 0, 0

    def __len__(self) -> int:
        return (self._epoch_images + self._batch_images - 1) // self._batch_images

    def __iter__(self) -> Iterator[list[_Key]]:
        first = self.epoch * self._epoch_images
        order: IntArray | None = None
        round_number = -1
        batch: list[_Key] = []
        for position in range(self.start_step * self._batch_images, self._epoch_images):
            wanted, place = divmod(first + position, self._count)
            if order is None or wanted != round_number:
                round_number = wanted
                order = rng_for(self._seed, "order", round_number).permutation(self._count)
            batch.append(_Key(self.epoch, position, int(order[place])))
            if len(batch) == self._batch_images:
                yield batch
                batch = []
        if batch:
            yield batch


def _start_worker(_: int) -> None:
    # One worker is one core; OpenCV's own threads would fight the other workers and the training step.
    cv2.setNumThreads(0)


class TrainingLoader:
    """Batches for training, varied and in random order.

    The same ``seed`` and epoch give the same bytes whatever the number of workers.

    Args:
        dataset: must survive pickling where workers are spawned.
        data_recipe: variation and ``workers``.
        preprocess: the letterbox of the network.
        batch_images: images in a batch; the last one of an epoch may be smaller.
        epoch_images: images an epoch, fewer or more than the set has; none for the whole set once.
        seed: of order and variation.

    Raises:
        InputError: the data set has no images.
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
    ) -> None:
        if len(dataset) == 0:
            raise InputError("has no images", where=dataset.name, expected="a split with images to train on")
        self._batches = _EpochBatches(len(dataset), epoch_images or len(dataset), batch_images, seed)
        workers = data_recipe.workers
        self._loader: DataLoader[Any] = DataLoader(
            _Varied(dataset, TrainingTransform(data_recipe, preprocess), seed),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=2 if workers else None,
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
            yield Batch(
                torch.from_numpy(stack.images),
                [torch.from_numpy(boxes) for boxes in stack.boxes],
                [torch.from_numpy(ids) for ids in stack.person_ids],
                stack.names,
            )
