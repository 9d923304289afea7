"""Identity-aware batches: who stands together, that everyone is seen, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data import Sample, TrainingLoader
from personsearch.data.sample import Frame, Query
from personsearch.data.sampling import EpochBatches, IdentityRounds, UniformRounds, identity_members


class Crowd:
    """Frames that show the given identities; a frame of `bad` cannot be read, not even its labels."""

    name, terms = "crowd", "free"
    queries: tuple[Query, ...] = ()

    def __init__(self, people: list[list[int]], bad: tuple[int, ...] = ()) -> None:
        self._people, self._bad = people, bad
        self.person_count = max((person for row in people for person in row), default=-1) + 1

    def __len__(self) -> int:
        return len(self._people)

    def __getitem__(self, index: int) -> Sample:
        if index in self._bad:
            raise InputError("image is missing", where=f"{index}.jpg")
        ids = np.array(self._people[index], dtype=np.int64)
        boxes = np.tile(np.array([[4, 4, 20, 30]], dtype=np.float32), (len(ids), 1))
        return Sample(None, boxes, ids, 0, index, (32, 32))

    def frame_bgr(self, index: int) -> Frame:
        return np.full((32, 32, 3), index, dtype=np.uint8)


def groups_of(rounds: IdentityRounds, number: int, size: int) -> list[list[int]]:
    return rounds.order(number).reshape(-1, size).tolist()


def test_members_are_the_images_of_each_identity() -> None:
    members = identity_members(Crowd([[0, 1, -1], [], [1, 1], [-2], [0]]), skip_bad=False)
    assert [images.tolist() for images in members] == [[0, 4], [0, 2]]


def test_whole_groups_where_every_identity_has_enough_images() -> None:
    people = [[index % 5, -1] for index in range(40)]  # eight images each
    rounds = IdentityRounds(identity_members(Crowd(people), skip_bad=False), 40, 4, seed=3)
    seen = set()
    for number in range(3):
        groups = groups_of(rounds, number, 4)
        assert all(len({people[index][0] for index in group}) == 1 for group in groups)
        assert sorted(index for group in groups for index in group) == list(range(40))
        seen.add(str(groups))
    assert len(seen) == 3


def test_leftovers_stay_together_and_singles_fill_up() -> None:
    # Identities of 3, 3, 2 and 2 images and two images without anybody: groups of four from parts.
    people = [[0]] * 3 + [[1]] * 3 + [[2]] * 2 + [[3]] * 2 + [[]] * 2
    rounds = IdentityRounds(identity_members(Crowd(people), skip_bad=False), 12, 4, seed=0)
    for number in range(5):
        groups = groups_of(rounds, number, 4)
        shown = [[people[index][0] if people[index] else -1 for index in group] for group in groups]
        assert sorted(sorted(row) for row in shown) == [[-1, 0, 0, 0], [-1, 1, 1, 1], [2, 2, 3, 3]]


def test_an_identity_in_two_images_of_a_batch_where_there_are_only_two() -> None:
    people = [[0], [1], [0], [1], [2], [2]]
    rounds = IdentityRounds(identity_members(Crowd(people), skip_bad=False), 6, 2, seed=0)
    assert {tuple(sorted(group)) for group in groups_of(rounds, 0, 2)} == {(0, 2), (1, 3), (4, 5)}


def test_batches_of_the_loader_hold_groups() -> None:
    people = [[index % 6] for index in range(48)]
    still = {"flip": 0.0, "photometric": 0.0, "zoom": (1.0, 1.0), "workers": 0}
    recipe = DataRecipe(root="", images_per_identity=4, **still)
    loader = TrainingLoader(
        Crowd(people), recipe, Preprocess(input_wh=(32, 32)), batch_images=8, epoch_images=None, seed=0
    )
    assert len(loader) == 6
    for batch in loader:
        ids = [int(ids[0]) for ids in batch.person_ids]
        assert len(set(ids[:4])) == len(set(ids[4:])) == 1


def test_labels_that_cannot_be_read_are_passed_over_only_when_asked() -> None:
    crowd = Crowd([[0], [0], [0]], bad=(1,))
    with pytest.raises(InputError, match=r"1\.jpg: image is missing"):
        identity_members(crowd, skip_bad=False)
    assert identity_members(crowd, skip_bad=True)[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("people", "batch", "epoch", "message"),
    [
        ([[0], [1], [-1]], 4, None, "crowd: no identity is labelled in two images"),
        ([[0], [0]], 6, None, "`batch_images` is 6; expected a multiple of data.images_per_identity, which is 4"),
        ([[0], [0]], 8, 10, "`epoch_images` is 10; expected a multiple"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    people: list[list[int]], batch: int, epoch: int | None, message: str
) -> None:
    recipe = DataRecipe(root="", images_per_identity=4, workers=0)
    with pytest.raises(InputError, match=message):
        TrainingLoader(
            Crowd(people), recipe, Preprocess(input_wh=(32, 32)), batch_images=batch, epoch_images=epoch, seed=0
        )


def test_input_sizes_are_drawn_for_each_batch_and_all_of_them() -> None:
    sizes = [(64, 48), (96, 64), (128, 96)]
    batches = EpochBatches(UniformRounds(30, 0), epoch_images=90, batch_images=3, seed=5, input_sizes=sizes)
    drawn = [{key.input_wh for key in batch} for batch in batches]
    assert all(len(batch) == 1 for batch in drawn)
    assert set.union(*drawn) == set(sizes)
    batches.start_step = 7
    assert [{key.input_wh for key in batch} for batch in batches] == drawn[7:]
    batches.epoch, batches.start_step = 1, 0
    assert [{key.input_wh for key in batch} for batch in batches] != drawn
