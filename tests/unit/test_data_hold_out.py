"""Which images are held out, and the two data sets that this makes of one."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from composite_material import write_material, write_spec
from frames_material import A, Frames, pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.core.errors import InputError
from personsearch.data import Query, Sample, open_dataset, person_names_of
from personsearch.data.hold_out import (
    HeldOutImages,
    HoldOut,
    RemainingImages,
    count_shared_files,
    held_out_part,
    hold_out,
)


def test_whole_people_are_held_out_where_that_is_possible() -> None:
    data = pairs(20)
    result = hold_out(data, 0.25, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("identities", 5, 10)
    inside = {int(data[index].person_ids[0]) for index in result.images}
    outside = {int(data[index].person_ids[0]) for index in range(len(data)) if index not in result.images}
    assert not inside & outside
    assert result == hold_out(data, 0.25, seed=0)
    assert result != hold_out(data, 0.25, seed=1)


def test_else_whole_cameras() -> None:
    # Person 0 is everywhere, so that all images hang together.
    data = Frames([(index % 5, [0, index]) for index in range(50)])
    result = hold_out(data, 0.2, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("cameras", 1, 10)
    assert len({data[index].camera_id for index in result.images}) == 1


def test_else_a_stretch_of_each_camera() -> None:
    data = Frames([(0, [0]) for _ in range(40)])
    result = hold_out(data, 0.2, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("stretches", 1, 8)
    assert np.diff(result.images).tolist() == [1] * 7
    assert result != hold_out(data, 0.2, seed=1)
    # Two cameras take turns, each of them larger than what is wanted.
    both = hold_out(Frames([(index % 2, [0]) for index in range(40)]), 0.2, seed=0)
    assert (both.unit, both.groups, len(both.images)) == ("stretches", 2, 8)
    for camera in (0, 1):
        assert np.diff([index for index in both.images if index % 2 == camera]).tolist() == [2] * 3
    # Of two images one, wherever the frame's number puts it.
    assert len(hold_out(Frames([(0, [0]), (0, [0])]), 0.9, seed=0).images) == 1


def test_all_of_a_split() -> None:
    result = hold_out(pairs(3), 1, seed=0)
    assert (result.unit, result.images) == ("split", tuple(range(6)))
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="--hold-out: share is"):
            hold_out(pairs(3), share, seed=0)
    with pytest.raises(InputError, match=r"0\.1 of 6 images is less than one"):
        hold_out(pairs(3), 0.1, seed=0)


@settings(max_examples=60)
@given(st.integers(0, 5000), st.floats(0.1, 0.9))
def test_groups_are_never_divided(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    data = Frames([(int(rng.integers(0, 6)), rng.integers(-1, 25, 2).tolist()) for _ in range(30)])
    result = hold_out(data, share, seed)
    inside = [data[index] for index in result.images]
    outside = [data[index] for index in range(30) if index not in result.images]
    assert inside
    assert outside
    if result.unit == "cameras":
        assert not {one.camera_id for one in inside} & {one.camera_id for one in outside}
    if result.unit == "identities":
        known = [{int(i) for one in part for i in one.person_ids if i >= 0} for part in (inside, outside)]
        assert not known[0] & known[1]
    assert 0.5 * share * 30 <= len(inside) <= max(1.5 * share * 30, share * 30 + 1)


def test_images_held_out_are_a_data_set_with_searches() -> None:
    data = Frames([(0, [0, -1]), (0, [0]), (1, [0, 1]), (1, [2]), (0, [3])])
    images = HeldOutImages(data, HoldOut((0, 1, 2, 4), "stretches", 1))
    assert [images[index].frame_index for index in range(len(images))] == [0, 1, 2, 4]
    assert images.frame_bgr(3)[0, 0, 0] == 4
    # Person 0 once for each camera; 1 and 3 stand in one image only, 2 is not held out.
    assert [(query.image_index, query.person_id) for query in images.queries] == [(0, 0), (2, 0)]
    asked = (Query(1, np.array(A, np.float32), 0),)
    whole = HeldOutImages(Frames([(0, [0]), (0, [0])], asked), HoldOut((0, 1), "split", 1))
    assert (whole.queries, whole.protocol) == (asked, "own")


class Named(Frames):
    """With names, a count of dropped rows, and image 1 whose labels cannot be read, where ``broken``."""

    person_names = tuple(f"p{person}" for person in range(50))
    dropped_boxes = 3

    def __init__(self, rows: Sequence[tuple[int, Sequence[int]]], *, broken: bool = False) -> None:
        super().__init__(rows)
        self._broken = broken

    def __getitem__(self, index: int) -> Sample:
        if self._broken and index == 1:
            raise InputError("cannot be read", where="image 1")
        return super().__getitem__(index)


def test_what_remains_is_a_data_set_with_identities_of_its_own() -> None:
    data = Named([(0, [7, -1]), (0, [3]), (1, [7, 9]), (1, [3]), (0, [-2, 12])])
    rest = RemainingImages(data, HoldOut((1, 3), "identities", 1, 0.4, 5))
    assert (rest.name, rest.terms, rest.queries, rest.dropped_boxes) == ("frames", "test", (), 3)
    assert [rest[index].frame_index for index in range(len(rest))] == [0, 2, 4]
    assert [int(rest.frame_bgr(index)[0, 0, 0]) for index in range(3)] == [0, 2, 4]
    # 7, 9 and 12 are left, in this order; people without identity and regions to ignore stay what they are.
    assert [rest[index].person_ids.tolist() for index in range(3)] == [[0, -1], [0, 1], [-2, 2]]
    assert (rest.person_count, rest.person_ids.tolist()) == (3, [7, 9, 12])
    assert person_names_of(rest) == ("p7", "p9", "p12")
    assert data[0].person_ids.tolist() == [7, -1]
    assert person_names_of(RemainingImages(Frames([(0, [4]), (0, [4])]), HoldOut((0,), "stretches", 1))) == ()
    copied = pickle.loads(pickle.dumps(rest))  # as a spawned loader process gets it
    assert copied[1].person_ids.tolist() == [0, 1]


@settings(max_examples=60)
@given(st.integers(0, 5000), st.floats(0.1, 0.9))
def test_both_parts_together_are_the_split(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    data = Frames([(int(rng.integers(0, 4)), rng.integers(-2, 20, 3).tolist()) for _ in range(20)])
    part = hold_out(data, share, seed)
    rest, apart = RemainingImages(data, part), HeldOutImages(data, part)
    numbers = [one[index].frame_index for one in (rest, apart) for index in range(len(one))]
    assert sorted(numbers) == list(range(20))
    for index in range(len(rest)):
        ids = rest[index].person_ids
        whole = data[rest[index].frame_index].person_ids
        assert [int(rest.person_ids[one]) if one >= 0 else one for one in ids.tolist()] == whole.tolist()
    shown = np.concatenate([rest[index].person_ids for index in range(len(rest))])
    assert sorted(set(shown[shown >= 0].tolist())) == list(range(rest.person_count))


def test_a_part_is_known_again_by_its_labels() -> None:
    rows = [(index % 2, [index // 2]) for index in range(20)]
    part = hold_out(Frames(rows), 0.2, seed=3)
    stated = held_out_part(Frames(rows), part)
    assert (stated.share, stated.seed, stated.unit, stated.images) == (0.2, 3, "identities", 4)
    inside, outside = part.images[0], next(index for index in range(20) if index not in part.images)

    def changed(index: int, row: tuple[int, list[int]]) -> Frames:
        return Frames([row if number == index else one for number, one in enumerate(rows)])

    assert held_out_part(changed(outside, (0, [30])), part) == stated
    assert held_out_part(changed(inside, (rows[inside][0], [30])), part).sha256 != stated.sha256
    assert held_out_part(changed(inside, (7, rows[inside][1])), part).sha256 != stated.sha256


def test_labels_that_cannot_be_read_are_never_held_out() -> None:
    rows = [(index % 2, [index // 2]) for index in range(20)]
    for seed in range(5):
        part = hold_out(Named(rows, broken=True), 0.5, seed, skip_bad=True)
        assert 1 not in part.images
        rest = RemainingImages(Named(rows, broken=True), part, skip_bad=True)
        assert len(rest) + len(part.images) == 20
    with pytest.raises(InputError, match="image 1: cannot be read"):
        hold_out(Named(rows, broken=True), 0.5, 0)
    with pytest.raises(InputError, match="image 1: cannot be read"):
        RemainingImages(Named(rows, broken=True), HoldOut((0,), "stretches", 1))


def test_nobody_with_an_identity_means_whole_cameras() -> None:
    result = hold_out(Frames([(index % 4, [-1]) for index in range(40)]), 0.25, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("cameras", 1, 10)


def test_composites_hold_out_people_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_material(tmp_path / "material")
    monkeypatch.setenv("MATERIAL", str(tmp_path / "material"))
    composites = open_dataset(write_spec(tmp_path / "material", tmp_path), "train")
    with pytest.raises(InputError, match=r"frames are rendered, .* its split `validation` shows people"):
        hold_out(composites, 0.2, 0)


class Files(Frames):
    """Whose images are the files given."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__([(0, []) for _ in files])
        self._files = files

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(self._files[index], sample.boxes_xyxy, sample.person_ids, 0, index, sample.image_wh)


def test_images_that_another_set_shows_too_are_found_by_their_bytes(tmp_path: Path) -> None:
    content = {"a": b"one", "b": b"two", "c": b"four", "same": b"one", "missing": None}
    paths = {name: tmp_path / f"{name}.jpg" for name in content}
    for name, data in content.items():
        if data is not None:
            paths[name].write_bytes(data)
    os.link(paths["c"], tmp_path / "linked.jpg")
    own = Files([paths[name] for name in ("a", "b", "c", "missing")])
    other = Files([paths["same"], tmp_path / "linked.jpg", paths["missing"]])
    assert count_shared_files(own, range(4), other) == 2
    assert count_shared_files(own, [1, 3], other) == 0
    assert count_shared_files(own, range(4), pairs(2)) == 0  # no files at all
