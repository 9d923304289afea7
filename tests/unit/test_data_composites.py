"""Composites: labels that fit the pixels, identities that stay apart, frames that never change or repeat."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from composite_material import write_material, write_spec

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.core.seeding import rng_for
from personsearch.data import TrainingLoader, open_dataset
from personsearch.data.backgrounds import load_backgrounds
from personsearch.data.composite_spec import CompositeSpec, read_composite_spec
from personsearch.data.recolour import recoloured


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("material")
    write_material(root)
    return root


@pytest.fixture
def spec(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MATERIAL", str(material))
    return write_spec(material, tmp_path)


def test_a_frame_is_a_function_of_its_index(spec: Path) -> None:
    first, second = open_dataset(spec, "train"), open_dataset(spec, "train")
    frames = [first.frame_bgr(index) for index in range(6)]
    for index in (3, 0, 5):
        np.testing.assert_array_equal(second.frame_bgr(index), frames[index])
        np.testing.assert_array_equal(second[index].boxes_xyxy, first[index].boxes_xyxy)
    assert len({frame.tobytes() for frame in frames}) == 6
    assert frames[0].shape == (120, 160, 3)
    assert len(first) == 50


def test_loader_and_pickling_give_the_same_frames(spec: Path) -> None:
    dataset = open_dataset(spec, "train")
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.frame_bgr(4), dataset.frame_bgr(4))
    assert len(pickle.dumps(dataset)) < 50_000
    loader = TrainingLoader(
        dataset, DataRecipe(root="", workers=1), Preprocess(input_wh=(96, 64)), batch_images=2, epoch_images=4, seed=0
    )
    assert sum(len(batch.images) for batch in loader) == 4


def test_labels_are_of_the_split(spec: Path) -> None:
    train, validation = open_dataset(spec, "train"), open_dataset(spec, "validation")
    assert (train.person_count, validation.person_count) == (4, 3)
    for dataset in (train, validation):
        seen: set[int] = set()
        for index in range(24):
            sample = dataset[index]
            seen |= set(sample.person_ids.tolist())
            assert (sample.boxes_xyxy >= 0).all()
            assert (sample.boxes_xyxy <= [160, 120, 160, 120]).all()
        assert set(range(dataset.person_count)) <= seen
        assert max(seen) == dataset.person_count - 1
    with pytest.raises(InputError, match="split `test` is unknown; expected one of train, validation"):
        open_dataset(spec, "test")


def people_of(dataset: Any, rows: dict[int, dict[int, Any]]) -> dict[int, set[int]]:
    """Person numbers of the crops behind each label."""
    numbers = dataset._studio.crops.person_numbers
    found: dict[int, set[int]] = {}
    for by_person in rows.values():
        for label, crops in by_person.items():
            found.setdefault(label, set()).update(numbers[crops].tolist())
    return found


def test_identities_keep_apart(spec: Path) -> None:
    """Each label is one file's person, and no person is in both splits or a passer-by too."""
    groups = []
    for split in ("train", "validation"):
        dataset: Any = open_dataset(spec, split)
        people = people_of(dataset, dataset._studio.cast._rows)
        assert all(len(numbers) == 1 for numbers in people.values())
        assert sorted(people) == list(range(dataset.person_count))
        groups.append(set().union(*people.values()))
        strangers = people_of(dataset, dataset._studio.cast._strangers)
        groups.append(set().union(*strangers.values()) if strangers else set())
    assert sum(len(group) for group in groups) == len(set().union(*groups)) == 8
    assert [len(group) for group in groups] == [4, 1, 3, 0]


def test_a_camera_shows_its_own_crops_and_backgrounds(spec: Path) -> None:
    for split in ("train", "validation"):
        dataset: Any = open_dataset(spec, split)
        studio = dataset._studio
        assert studio.cast.cameras == (1, 2)
        for camera, by_person in studio.cast._rows.items():
            for crops in by_person.values():
                assert set(studio.crops.camera_numbers[crops].tolist()) == {camera}
        # Nor do decoys wear the clothes of another split's people.
        own = {person for people in people_of(dataset, studio.cast._rows).values() for person in people}
        own |= {person for people in people_of(dataset, studio.cast._strangers).values() for person in people}
        assert set(studio.crops.person_numbers[studio.cast.crops_by(1)].tolist()) == own
        first, second = ({background.name for background in studio.cameras[camera].plain} for camera in (1, 2))
        assert first
        assert second
        assert not first & second
        # Each pair of composites has one by each camera.
        cameras = [dataset[index].camera_id for index in range(24)]
        assert [set(cameras[place : place + 2]) for place in range(0, 24, 2)] == [{1, 2}] * 12
        assert cameras != sorted(cameras)
        assert cameras[::2] != [cameras[0]] * 12


def test_cameras_differ_in_their_colours(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean colours of two cameras on one grey background lie further apart than those of one camera."""
    monkeypatch.setenv("MATERIAL", str(material))
    (tmp_path / "grey").mkdir()
    cv2.imwrite(str(tmp_path / "grey/wall.png"), np.full((180, 240, 3), 128, np.uint8))
    changes: dict[str, Any] = {"backgrounds": ["grey"], "people": [0, 0], "decoy_share": 0}

    def means(colour: float) -> dict[int, Any]:
        dataset = open_dataset(write_spec(material, tmp_path, camera_colour=colour, **changes), "train")
        found: dict[int, list[Any]] = {}
        for index in range(20):
            found.setdefault(dataset[index].camera_id, []).append(dataset.frame_bgr(index).mean(axis=(0, 1)))
        return {camera: np.stack(values) for camera, values in found.items()}

    one, other = means(0.5).values()
    assert np.abs(one.mean(axis=0) - other.mean(axis=0)).max() > 2 * max(one.std(axis=0).max(), other.std(axis=0).max())
    for values in means(0).values():
        assert np.abs(values - 128).max() < 2


def test_validation_asks_across_cameras(spec: Path) -> None:
    dataset = open_dataset(spec, "validation")
    assert len(dataset.queries) == 3
    for query in dataset.queries:
        asked = dataset[query.image_index]
        assert query.person_id in asked.person_ids
        assert query.gallery is not None
        searched = [dataset[index] for index in query.gallery]
        assert asked.camera_id not in {sample.camera_id for sample in searched}
        assert len(searched) == 12
        assert any(query.person_id in sample.person_ids for sample in searched)
    assert open_dataset(spec, "train").queries == ()


def test_every_identity_appears_in_turn(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slots a composite and four people a camera: in four composites each person has had three slots."""
    monkeypatch.setenv("MATERIAL", str(material))
    dataset: Any = open_dataset(write_spec(material, tmp_path, people=[3, 3]), "train")
    shown: dict[int, list[int]] = {1: [], 2: []}
    for index in range(8):
        people = dataset._studio.cast.people_of(index, 3)
        assert len(people) == len(set(people))
        shown[dataset[index].camera_id] += people
    for people in shown.values():
        counts = np.bincount(people, minlength=4)
        # Somebody at the end of one round and the start of the next appears once in that composite.
        assert counts.min() >= 2
        assert counts.max() <= 3


def test_composites_repeat_only_when_asked(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIAL", str(material))
    ever_new = open_dataset(write_spec(material, tmp_path), "train")
    assert len({ever_new.frame_bgr(index).tobytes() for index in range(50)}) == 50
    path = write_spec(material, tmp_path, repeat_after=4, seed=3)
    repeating = open_dataset(path, "train")
    frames = [repeating.frame_bgr(index) for index in range(8)]
    assert len({frame.tobytes() for frame in frames}) == 4
    np.testing.assert_array_equal(frames[1], frames[5])
    np.testing.assert_array_equal(repeating[1].boxes_xyxy, repeating[5].boxes_xyxy)
    assert len(repeating) == 50
    validation = open_dataset(path, "validation")
    assert len({validation.frame_bgr(index).tobytes() for index in range(8)}) == 8


def test_people_stand_in_one_perspective(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With level cameras 1.7 m high a person's head is at the horizon, wherever the feet are."""
    monkeypatch.setenv("MATERIAL", str(material))
    (tmp_path / "plain").mkdir()
    texture = np.random.default_rng(0).integers(60, 190, (120, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "plain/a.png"), texture)
    changes: dict[str, Any] = {"backgrounds": ["plain"], "camera_height_m": [1.7, 1.7], "occluded_share": 0}
    dataset: Any = open_dataset(
        write_spec(material, tmp_path, height_px=[20, 90], horizon=0.3, decoy_share=0, **changes), "train"
    )
    tops, heights = [], []
    for index in range(40):
        scene_horizon = _horizon_of(dataset, index)
        sample = dataset[index]
        for _, y1, _, y2 in sample.boxes_xyxy[sample.person_ids >= 0]:
            if y1 > 0 and y2 < 120:
                tops.append(y1 - scene_horizon)
                heights.append(y2 - y1)
    assert len(tops) > 20
    assert np.ptp(heights) > 30
    # People differ in height by a few per cent; at the same time their heights differ by a factor of three.
    assert np.abs(np.array(tops) / heights).max() < 0.25
    assert abs(np.mean(np.array(tops) / heights)) < 0.06


def _horizon_of(dataset: Any, index: int) -> float:
    """Draws the scene of a composite anew, as the first thing that its random stream is asked for."""
    spec = dataset._spec
    rng = rng_for(spec.seed, "composite", "train", index)
    camera = dataset._studio.cameras[dataset._studio.cast.camera_of(index)]
    return float(camera.view(spec.mot_background_share, rng).perspective.horizon_y)


def test_feet_stand_on_the_ground(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map whose left half is no ground keeps people out of it, flipped or not."""
    monkeypatch.setenv("MATERIAL", str(material))
    (tmp_path / "half").mkdir()
    image = np.full((120, 160, 3), 90, dtype=np.uint8)
    image[:, 80:] = 160
    cv2.imwrite(str(tmp_path / "half/a.png"), image)
    labels = np.full((120, 160), 1, dtype=np.uint8)
    labels[50:, 80:] = 3
    cv2.imwrite(str(tmp_path / "half/a_labels.png"), labels)
    dataset = open_dataset(
        write_spec(material, tmp_path, backgrounds=["half"], decoy_share=0, occluded_share=0, camera_colour=0), "train"
    )
    feet = 0
    for index in range(30):
        sample, frame = dataset[index], dataset.frame_bgr(index).astype(int)
        # Ground is the bright side; which one it is, the sky tells.
        bright = frame[2, :, 0] > 125
        for x1, _, x2, y2 in sample.boxes_xyxy[sample.person_ids >= 0].astype(int):
            if x1 > 2 and x2 < 158 and y2 < 119:
                assert bright[(x1 + x2) // 2 - 3 : (x1 + x2) // 2 + 4].any()
                feet += 1
    assert feet > 10


def test_boxes_lie_on_the_people(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixels of a lone person's box are of the person's colour far more often than those around it."""
    monkeypatch.setenv("MATERIAL", str(material))
    dataset: Any = open_dataset(write_spec(material, tmp_path, people=[1, 1]), "train")
    inside, outside = [], []
    for index in range(30):
        sample = dataset[index]
        people = sample.boxes_xyxy[sample.person_ids >= 0]
        saturation = cv2.cvtColor(dataset.frame_bgr(index), cv2.COLOR_BGR2HSV)[..., 1].astype(float)
        mask = np.zeros(saturation.shape, dtype=bool)
        for x1, y1, x2, y2 in people.astype(int):
            mask[y1:y2, x1:x2] = True
        if mask.any():
            inside.append(saturation[mask].mean())
            outside.append(saturation[~mask].mean())
    assert len(inside) > 15
    assert np.mean(inside) > 1.5 * np.mean(outside)


def test_people_of_a_background_are_not_lost(spec: Path) -> None:
    backgrounds = load_backgrounds(read_composite_spec(spec))
    assert len(backgrounds) == 3
    np.testing.assert_array_equal(backgrounds[0].person_ids, [-2])
    x1, y1, x2, y2 = backgrounds[0].boxes_xyxy[0]
    assert x1 <= 30 < 50 <= x2
    assert y1 <= 60 < 100 <= y2
    assert x2 - x1 < 40
    assert [len(background.boxes_xyxy) for background in backgrounds[1:]] == [0, 0]


def test_real_frames_are_mixed_in(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIAL", str(material))
    path = write_spec(material, tmp_path, mot="${MATERIAL}/mot", mot_share=0.5, mot_background_share=1.0)
    dataset = open_dataset(path, "train")
    real = [index for index in range(50) if dataset[index].image_path is not None]
    assert 12 < len(real) < 38
    sample = dataset[real[0]]
    assert sample.person_ids.tolist() == [-1]
    assert sample.camera_id == 1000
    np.testing.assert_array_equal(sample.boxes_xyxy, [[100, 40, 130, 120]])
    assert dataset.frame_bgr(real[0]).shape == (180, 240, 3)
    assert (dataset.name, dataset.terms, dataset.person_count) == ("tiny-composites", "free", 4)
    # The others are pasted on that frame, and its person stays labelled where the view shows them.
    assert any(-1 in dataset[index].person_ids for index in range(50) if index not in real)
    assert all(sample.image_path is None for sample in (open_dataset(path, "validation")[i] for i in range(3)))


def test_decoys_carry_no_label(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIAL", str(material))
    kinds: list[str] = []
    dataset: Any = open_dataset(write_spec(material, tmp_path, people=[0, 4], decoy_share=0.5), "train")
    for index in range(40):
        composite = dataset.composite(index)
        kinds += composite.kinds
        numbers = np.unique(composite.owner)
        assert numbers.max() <= len(composite.kinds)
        # The one label that a background can bring is a region to ignore.
        people = sum(kind == "person" for kind in composite.kinds)
        assert (composite.sample.person_ids >= -1).sum() <= people
    assert 0.6 < kinds.count("person") / sum(kind.startswith(("decoy", "thing")) for kind in kinds) < 1.4
    assert kinds.count("occluder") > 5
    none: Any = open_dataset(write_spec(material, tmp_path, decoy_share=0, occluded_share=0), "train")
    assert {kind for index in range(10) for kind in none.composite(index).kinds} == {"person"}
    only: Any = open_dataset(write_spec(material, tmp_path, people=[0, 0]), "train")
    assert all(len(only[index].person_ids[only[index].person_ids >= -1]) == 0 for index in range(10))


def test_recoloured_people_are_nobody(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training as many people as before, without identity; validation is not touched."""
    monkeypatch.setenv("MATERIAL", str(material))
    plain: Any = open_dataset(write_spec(material, tmp_path, people=[3, 3]), "train")
    still = open_dataset(tmp_path / "spec.yaml", "validation")
    path = write_spec(material, tmp_path, people=[3, 3], recolour_share=1.0)
    dyed, validation = open_dataset(path, "train"), open_dataset(path, "validation")
    people = [int((dataset[index].person_ids >= -1).sum()) for dataset in (plain, dyed) for index in range(20)]
    assert sum(people[20:]) > 0.7 * sum(people[:20]) > 0
    assert {int(person) for index in range(20) for person in dyed[index].person_ids} <= {-1, -2}
    for index in range(6):
        np.testing.assert_array_equal(validation.frame_bgr(index), still.frame_bgr(index))
        np.testing.assert_array_equal(validation[index].person_ids, still[index].person_ids)


def test_recolouring_leaves_the_head_and_changes_each_half() -> None:
    crop = np.random.default_rng(0).integers(40, 200, (128, 64, 3), dtype=np.uint8)
    crop[64:] = cv2.GaussianBlur(crop[64:], (0, 0), 2)
    upper, lower = [], []
    for seed in range(12):
        dyed = recoloured(crop, np.random.default_rng(seed))
        assert (dyed.shape, dyed.dtype) == (crop.shape, crop.dtype)
        assert np.abs(dyed[:5].astype(int) - crop[:5]).max() <= 2  # beyond, the change begins softly
        np.testing.assert_array_equal(dyed, recoloured(crop, np.random.default_rng(seed)))
        shift = dyed.astype(float).mean(axis=1) - crop.astype(float).mean(axis=1)
        upper.append(shift[30:50].mean(axis=0))
        lower.append(shift[85:].mean(axis=0))
    # Both halves move, neither as the other does.
    assert np.linalg.norm(upper, axis=1).min() > 3
    assert np.linalg.norm(lower, axis=1).min() > 3
    assert np.linalg.norm(np.subtract(upper, lower), axis=1).mean() > 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crops": "${NO_SUCH_VARIABLE}/crops"}, "environment variable `NO_SUCH_VARIABLE` is not set"),
        ({"crops": "nowhere"}, "nowhere: does not exist"),
        ({"crops": "${MATERIAL}/streets"}, "holds no crops"),
        ({"crops": "${MATERIAL}/streets/0.jpg"}, "is not a zip archive"),
        ({"backgrounds": ["nowhere"]}, "holds no background image"),
        ({"backgrounds": []}, "`backgrounds` is []"),
        ({"people": [3, 1]}, "people must be from and to"),
        ({"height_px": [90, 40]}, "height_px must be from and to"),
        ({"mot_share": 0.5}, "need `mot`"),
        ({"shadows": True}, "unknown key `shadows`"),
        ({"validation_identities": 8}, "split `train` has no identities: the crops show 8 people"),
        ({"decoy_share": 1.0}, "`decoy_share` is 1.0"),
        ({"camera_height_m": [3, 2]}, "camera_height_m must be from and to"),
    ],
)
def test_bad_specifications(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("MATERIAL", str(material))
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(InputError) as caught:
        open_dataset(write_spec(material, tmp_path, **changes), "train")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_map_must_fit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a_labels.png"), np.zeros((10, 30), np.uint8))
    with pytest.raises(InputError, match=r"a_labels\.png: is no label map"):
        load_backgrounds(CompositeSpec(name="x", terms="free", crops="x", backgrounds=(str(tmp_path),)))


def test_one_camera_cannot_be_searched_across(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATERIAL", str(material))
    (tmp_path / "crops").mkdir()
    for path in (material / "crops").glob("*_c1*.jpg"):
        (tmp_path / "crops" / path.name).write_bytes(path.read_bytes())
    path = write_spec(material, tmp_path, crops="crops")
    assert {sample.camera_id for sample in map(open_dataset(path, "train").__getitem__, range(6))} == {1}
    with pytest.raises(InputError, match="`validation` has no identities: the crops show 8 people, 0 of them by two"):
        open_dataset(path, "validation")
