"""Composites: labels that fit the pixels, identities that stay apart, frames that never change or repeat."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data import TrainingLoader, open_dataset
from personsearch.data.backgrounds import load_backgrounds
from personsearch.data.crops import CropLibrary, expected_masks, grabcut_mask
from personsearch.data.painting import Canvas, Finish, scaled_patch


def person_crop(hue: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A grey wall with a coloured figure before it."""
    crop = np.full((128, 64, 3), 120, dtype=np.uint8)
    colour = cv2.cvtColor(np.full((1, 1, 3), (hue, 230, 200), np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    cv2.ellipse(crop, (32, 16), (8, 11), 0, 0, 360, (60, 90, 150), -1)
    cv2.rectangle(crop, (20, 28), (44, 78), colour, -1)
    cv2.rectangle(crop, (22, 78), (42, 122), (40, 30, 20), -1)
    return np.clip(crop + rng.normal(0, 4, crop.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people seen by two cameras, three backgrounds of which one shows someone, one real frame."""
    root = tmp_path_factory.mktemp("material")
    for folder in ("crops", "streets", "mot/S/img1", "mot/S/gt"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for person in range(1, 9):
        for camera in (1, 2):
            for shot in range(2):
                name = f"{person:04d}_c{camera}s1_{100 * shot:06d}_01.jpg"
                cv2.imwrite(str(root / "crops" / name), person_crop(person * 20, rng))
    (root / "crops/notes.jpg").write_bytes(b"not a crop, and not named as one")
    for number in range(3):
        texture = cv2.GaussianBlur(rng.integers(60, 190, (180, 240, 3), dtype=np.uint8), (0, 0), 3)
        cv2.imwrite(str(root / f"streets/{number}.jpg"), texture)
    labels = np.zeros((180, 240), dtype=np.uint8)
    labels[60:100, 30:50] = 9
    cv2.imwrite(str(root / "streets/0_labels.png"), labels)
    cv2.imwrite(str(root / "mot/S/img1/000001.jpg"), np.full((180, 240, 3), 77, np.uint8))
    (root / "mot/S/gt/gt.txt").write_text("1,3,100,40,30,80,1,1,1.0\n")
    (root / "mot/S/seqinfo.ini").write_text("[Sequence]\nimDir=img1\nimWidth=240\nimHeight=180\nimExt=.jpg\n")
    return root


def write_spec(material: Path, folder: Path, **changes: Any) -> Path:
    spec: dict[str, Any] = {
        "name": "tiny-composites",
        "terms": "free",
        "crops": "${MATERIAL}/crops",
        "backgrounds": ["${MATERIAL}/streets"],
        "cache": str(material / "cache"),
        "image_wh": [160, 120],
        "images": 50,
        "validation_images": 24,
        "people": [1, 3],
        "height_px": [30, 70],
        "validation_identities": 3,
        "unlabelled_identities": 1,
    }
    spec.update(changes)
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


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


def test_identities_keep_apart(spec: Path) -> None:
    """Each label is one file's person, and no person is in both splits."""
    found = []
    for split in ("train", "validation"):
        dataset: Any = open_dataset(spec, split)
        numbers = dataset._material.crops.person_numbers
        people = [set(numbers[np.concatenate(group)].tolist()) for group in dataset._groups]
        assert all(len(person) == 1 for person in people)
        found.append(set().union(*people))
        found.append({int(numbers[np.concatenate(group)][0]) for group in dataset._passers_by})
    assert sum(len(group) for group in found) == len(set().union(*found)) == 8


def test_validation_asks_across_cameras(spec: Path) -> None:
    dataset: Any = open_dataset(spec, "validation")
    queries = dataset.queries
    assert 0 < len(queries) <= 3
    cameras = dataset._material.crops.camera_numbers
    for query in queries:
        assert query.image_index < 6
        assert query.gallery is not None and query.gallery.tolist() == list(range(6, 24))
        assert any(query.person_id in dataset[index].person_ids for index in query.gallery)
        first, others = dataset._groups[query.person_id]
        assert set(cameras[first]) == {1}
        assert set(cameras[others]) == {2}
    assert open_dataset(spec, "train").queries == ()


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


def test_people_of_a_background_are_not_lost(material: Path) -> None:
    backgrounds = load_backgrounds([material / "streets"], [9, 10])
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
    np.testing.assert_array_equal(sample.boxes_xyxy, [[100, 40, 130, 120]])
    assert dataset.frame_bgr(real[0]).shape == (180, 240, 3)
    assert (dataset.name, dataset.terms, dataset.person_count) == ("tiny-composites", "free", 4)
    # The others are pasted on that frame, and its person stays labelled where the view shows them.
    assert any(-1 in dataset[index].person_ids for index in range(50) if index not in real)
    assert all(sample.image_path is None for sample in (open_dataset(path, "validation")[i] for i in range(3)))


def test_hidden_people_lose_their_labels() -> None:
    finish = Finish(softness=1, feather_px=0.3, edge=0, tone=0, contrast=1, shadow=0)
    canvas = Canvas(np.zeros((40, 40, 3), np.uint8))
    white = np.full((20, 20, 3), 255, np.uint8)
    patch = scaled_patch(white, np.pad(np.full((16, 16), 255, np.uint8), 2), (20, 20), finish)
    canvas.paste(patch, 5, 5, finish, owner=0)
    whole = int((canvas.owner == 0).sum())
    canvas.paste(patch, 15, 5, finish, owner=1)
    assert whole == 16 * 16
    assert int((canvas.owner == 0).sum()) < 0.7 * whole
    # Over the edge, and wholly outside.
    canvas.paste(patch, -10, 30, finish, owner=2)
    canvas.paste(patch, 60, 60, finish, owner=3)
    assert {0, 1, 2, -1} == set(np.unique(canvas.owner).tolist())
    assert canvas.image_bgr[15, 12].min() > 200
    assert canvas.image_bgr[0, 20].max() == 0


def test_cutting_out(material: Path, tmp_path: Path) -> None:
    library = CropLibrary.open(material / "crops", tmp_path / "cache")
    assert library.bgra.shape == (32, 128, 64, 4)
    assert library.usable.all()
    np.testing.assert_array_equal(np.unique(library.person_numbers), range(1, 9))
    figure = np.zeros((128, 64), dtype=bool)
    figure[28:122, 20:45] = True
    for alpha in library.bgra[..., 3]:
        person = alpha > 127
        assert (person & figure).sum() > 0.85 * figure.sum()
        assert person[:, :8].mean() < 0.1
        assert person[6:24, 28:36].mean() > 0.7


def test_cutouts_are_cached_and_equal_for_folder_and_archive(material: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
        for path in (material / "crops").glob("*_c*.jpg"):
            archive.write(path, f"train/{path.name}")
    folder = CropLibrary.open(material / "crops", tmp_path / "one", crops_per_identity=2)
    archived = CropLibrary.open(tmp_path / "crops.zip", tmp_path / "two", crops_per_identity=2)
    np.testing.assert_array_equal(folder.bgra, archived.bgra)
    assert len(folder.bgra) == 16
    assert set(folder.camera_numbers.tolist()) == {1, 2}
    (cached,) = (tmp_path / "one").iterdir()
    before = cached.stat().st_mtime_ns
    CropLibrary.open(material / "crops", tmp_path / "one", crops_per_identity=2)
    assert cached.stat().st_mtime_ns == before


def test_masks_are_repeatable_and_borrow_lost_parts() -> None:
    crop = person_crop(100, np.random.default_rng(1))
    np.testing.assert_array_equal(grabcut_mask(crop), grabcut_mask(crop))
    # Two shapes; one mask of the first shape has lost its head.
    left, right = np.zeros((2, 128, 64), dtype=np.uint8)
    left[4:120, 8:24] = 1
    right[4:120, 40:56] = 1
    masks = np.stack([left] * 30 + [right] * 30)
    masks[3, :28] = 0
    expected = expected_masks(masks)
    assert expected[3, 10, 12] > 0.9
    assert expected[3, 10, 48] < 0.1


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


def test_a_crop_of_another_size_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0001_c1s1_000001_01.jpg"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"0001_c1s1_000001_01\.jpg: crop is 64x64"):
        CropLibrary.open(tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_damaged_archive_is_named(material: Path, tmp_path: Path) -> None:
    path = tmp_path / "crops.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for crop in sorted((material / "crops").glob("*_c*.jpg")):
            archive.write(crop, crop.name)
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"crops\.zip: cannot be read"):
        CropLibrary.open(path, tmp_path / "cache")


def test_a_label_map_must_fit(material: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a_labels.png"), np.zeros((10, 30), np.uint8))
    with pytest.raises(InputError, match=r"a_labels\.png: is no label map"):
        load_backgrounds([tmp_path], [9])
