"""Which images make which batch: pure functions of (seed, epoch), so that an epoch can start at any step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data.sample import IntArray, SearchDataset


@dataclass(frozen=True)
class SampleKey:
    """One place in an epoch: everything that decides what is loaded there."""

    epoch: int
    step: int
    position: int
    index: int
    input_wh: tuple[int, int]


class Rounds(Protocol):
    """An endless row of rounds; each round shows every image."""

    @property
    def length(self) -> int:
        """Images in a round."""
        ...

    def order(self, number: int) -> IntArray:
        """``(length,)`` indices of round ``number``."""
        ...


class UniformRounds:
    """Every image once a round, in random order."""

    def __init__(self, count: int, seed: int) -> None:
        self.length, self._seed = count, seed

    def order(self, number: int) -> IntArray:
        return rng_for(self._seed, "order", number).permutation(self.length)


class IdentityRounds:
    """Rounds of groups of K consecutive images that share identities, as losses that compare images want.

    In every round each identity, in random order, takes its images that nobody has taken yet, K at a time. What is
    left of it, two images or more, shares a group with the leftovers of others; images without a partner fill up,
    and where there is none a leftover is split.
    So every image comes once a round, and fewer than K of them twice, where the number of images is no multiple
    of K. In a data set where each identity has K images or more, nearly every group is K images of one identity;
    a batch of P groups then holds P identities, or fewer where two of its groups happen to be of one identity.

    Args:
        members: for each identity the indices of the images it is labelled in.
        count: images in the data set.
        images_per_identity: K, 2 or more.
        seed: of the choice.
    """

    def __init__(self, members: Sequence[IntArray], count: int, images_per_identity: int, seed: int) -> None:
        self._members, self._count, self._group, self._seed = list(members), count, images_per_identity, seed
        self.length = -(-count // images_per_identity) * images_per_identity

    def order(self, number: int) -> IntArray:
        rng = rng_for(self._seed, "identity order", number)
        taken = np.zeros(self._count, dtype=bool)
        full: list[list[int]] = []
        partial: dict[int, list[list[int]]] = defaultdict(list)  # by their length, 2 to K - 1
        for person in rng.permutation(len(self._members)):
            images = self._members[person]
            free = rng.permutation(images[~taken[images]])
            for first in range(0, len(free) - 1, self._group):  # a last one alone stays free for others in it
                chunk = free[first : first + self._group]
                taken[chunk] = True
                (full if len(chunk) == self._group else partial[len(chunk)]).append(chunk.tolist())
        singles: list[int] = rng.permutation(np.flatnonzero(~taken)).tolist()
        groups = full + _packed(partial, singles, self._group)
        whole = [made for made in groups if len(made) == self._group]
        row = [index for place in rng.permutation(len(whole)) for index in whole[place]]
        row += [index for made in groups if len(made) < self._group for index in made]  # one at most, and last
        return np.resize(np.array(row, dtype=np.int64), self.length)  # repeats from its own start


def _packed(partial: dict[int, list[list[int]]], singles: list[int], group: int) -> list[list[int]]:
    """Groups of ``group`` images, the last one perhaps shorter; larger parts first, singles fill up."""
    groups: list[list[int]] = []
    while any(partial.values()) or singles:
        made: list[int] = []
        while len(made) < group:
            room = group - len(made)
            fitting = max((size for size, parts in partial.items() if parts and size <= room), default=0)
            if fitting:
                made += partial[fitting].pop()
            elif singles:
                made.append(singles.pop())
            elif any(partial.values()):  # only parts larger than the room are left: one is split
                part = partial[min(size for size, parts in partial.items() if parts)].pop()
                made += part[:room]
                rest = part[room:]
                if len(rest) > 1:
                    partial[len(rest)].append(rest)
                else:
                    singles += rest
            else:
                break
        groups.append(made)
    return groups


def identity_members(dataset: SearchDataset, *, skip_bad: bool) -> list[IntArray]:
    """For each identity the indices of the images it is labelled in, ascending; reads every label once.

    Args:
        dataset: whose labels are read.
        skip_bad: an image whose labels cannot be read counts as one without identities.

    Raises:
        InputError: no identity is labelled in two images, or a label cannot be read.
    """
    found: list[list[int]] = [[] for _ in range(dataset.person_count)]
    for index in range(len(dataset)):
        try:
            ids = dataset[index].person_ids
        except InputError:
            if not skip_bad:
                raise
            continue
        for person in np.unique(ids[ids >= 0]).tolist():
            found[person].append(index)
    if not any(len(images) > 1 for images in found):
        raise InputError(
            "no identity is labelled in two images",
            where=dataset.name,
            expected="identities to sample by",
            remedy="set data.images_per_identity=1",
        )
    return [np.array(images, dtype=np.int64) for images in found]


class EpochBatches:
    """Keys of one epoch's batches.

    The epochs walk along an endless row of rounds, whatever their length. Of several processes each takes its part
    of every batch: together they see what one process with their batches put together would.

    Args:
        rounds: the order of the images.
        epoch_images: images in an epoch, of all processes; none for one round.
        batch_images: images in a batch of one process; the last one of an epoch may be smaller.
        seed: of the input sizes.
        input_sizes: the input's width and height is drawn from them for each batch.
        rank: of this process.
        world_size: processes; must divide the images of an epoch.

    Attributes:
        epoch: of the next iteration.
        start_step: of the next iteration.
    """

    def __init__(
        self,
        rounds: Rounds,
        *,
        epoch_images: int | None,
        batch_images: int,
        seed: int,
        input_sizes: Sequence[tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._rounds, self._seed, self._sizes = rounds, seed, tuple(input_sizes)
        self._epoch_images, self._batch_images = epoch_images or rounds.length, batch_images * world_size
        self._rank, self._world_size = rank, world_size
        if self._epoch_images % world_size:
            raise ValueError(f"{self._epoch_images} images an epoch cannot be shared by {world_size} processes")
        self.epoch, self.start_step = 0, 0

    def __len__(self) -> int:
        return (self._epoch_images + self._batch_images - 1) // self._batch_images

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, start = self.epoch, self.start_step
        order, round_number = np.zeros(0, dtype=np.int64), -1
        for step in range(start, len(self)):
            input_wh = self._input_wh(epoch, step)
            batch: list[SampleKey] = []
            first = step * self._batch_images
            part = min(self._batch_images, self._epoch_images - first) // self._world_size
            first += self._rank * part
            for position in range(first, first + part):
                wanted, place = divmod(epoch * self._epoch_images + position, self._rounds.length)
                if wanted != round_number:
                    round_number, order = wanted, self._rounds.order(wanted)
                batch.append(SampleKey(epoch, step, position, int(order[place]), input_wh))
            yield batch

    def _input_wh(self, epoch: int, step: int) -> tuple[int, int]:
        if len(self._sizes) == 1:
            return self._sizes[0]
        return self._sizes[int(rng_for(self._seed, "input size", epoch, step).integers(len(self._sizes)))]
