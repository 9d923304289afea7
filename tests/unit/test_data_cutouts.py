"""Cut-outs and how they are pasted: whole people, no old surroundings, nothing lost when the work is killed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from composite_material import person_crop, write_material

from personsearch.core.errors import InputError
from personsearch.data.crops import CropLibrary
from personsearch.data.cutouts import expected_masks, grabcut_mask, half_size
from personsearch.data.painting import Canvas, Finish, Patch, scaled_patch

FINISH = Finish(softness=1, feather_px=0.3, edge=0, tone=0, contrast=1, shadow=0)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("material")
    write_material(root)
    return root


def patch_of(bgr: Any, alpha: Any, finish: Finish = FINISH) -> Patch:
    made = scaled_patch(bgr, alpha, (bgr.shape[1], bgr.shape[0]), finish)
    assert made is not None
    return made


def test_hidden_people_lose_their_labels() -> None:
    canvas = Canvas(np.zeros((40, 40, 3), np.uint8))
    patch = patch_of(np.full((20, 20, 3), 255, np.uint8), np.pad(np.full((16, 16), 255, np.uint8), 2))
    assert patch.extent_xyxy == (2, 2, 18, 18)
    assert canvas.paste(patch, 5, 5, FINISH) == 1
    assert canvas.visible[1] == (canvas.owner == 1).sum() == 16 * 16
    assert canvas.paste(patch, 15, 5, FINISH) == 2
    assert canvas.visible[1] == (canvas.owner == 1).sum() < 0.7 * 256
    # Over the edge, and wholly outside.
    canvas.paste(patch, -10, 30, FINISH)
    canvas.paste(patch, 60, 60, FINISH)
    assert set(np.unique(canvas.owner).tolist()) == {0, 1, 2, 3}
    assert canvas.visible[4] == 0
    assert canvas.image_bgr[15, 12].min() > 200
    assert canvas.image_bgr[0, 20].max() == 0
    hidden = np.zeros((20, 20), dtype=bool)
    hidden[:, :10] = True
    canvas.paste(patch, 10, 18, FINISH, hidden)
    assert 0.4 < canvas.visible[5] / 256 < 0.6
    assert (canvas.owner[20:, :19] != 5).all()


def test_the_old_surroundings_stay_behind() -> None:
    """A white square cut loosely out of black, on white, leaves no dark rim."""
    crop = np.zeros((30, 30, 3), dtype=np.uint8)
    crop[8:22, 8:22] = 250
    alpha = np.zeros((30, 30), dtype=np.uint8)
    alpha[8:22, 8:22] = 255
    canvas = Canvas(np.full((30, 30, 3), 250, np.uint8))
    canvas.paste(patch_of(crop, cv2.GaussianBlur(alpha, (0, 0), 1.5)), 0, 0, FINISH)
    assert canvas.image_bgr.min() > 235


def test_cutting_out(material: Path, tmp_path: Path) -> None:
    library = CropLibrary.open(material / "crops", tmp_path / "cache")
    assert len(library) == 32
    assert library.usable.all()
    np.testing.assert_array_equal(np.unique(library.person_numbers), range(1, 9))
    figure = np.zeros((128, 64), dtype=bool)
    figure[28:122, 20:45] = True
    for row in range(32):
        person = library.alpha(row) > 127
        assert (person & figure).sum() > 0.85 * figure.sum()
        assert person[:, :8].mean() < 0.1
        assert person[6:24, 28:36].mean() > 0.7
        left, right = library.margins[row]
        assert person[:, :left].sum() == person[:, 64 - right :].sum() == 0
    name = sorted((material / "crops").glob("*_c*.jpg"))[5]
    np.testing.assert_array_equal(library.pixels(5), cv2.imread(str(name)))


def test_cutting_out_goes_on_where_it_was(material: Path, tmp_path: Path) -> None:
    """What a killed process had finished is used: a marked mask of it ends up in the cut-outs."""
    whole = CropLibrary.open(material / "crops", tmp_path / "whole")
    (made,) = (tmp_path / "whole").iterdir()
    parts = tmp_path / "resumed" / f"{made.stem}.parts"
    parts.mkdir(parents=True)
    alphas = np.stack([whole.alpha(row) for row in range(32)])
    alphas[7] = 0
    np.save(parts / "alpha-000000.npy", alphas)
    resumed = CropLibrary.open(material / "crops", tmp_path / "resumed")
    assert resumed.alpha(7).max() == 0
    assert resumed.usable.tolist() == [row != 7 for row in range(32)]
    np.testing.assert_array_equal(resumed.alpha(8), whole.alpha(8))
    assert [path.name for path in (tmp_path / "resumed").iterdir()] == [made.name]


def test_nobody_is_no_identity(material: Path, tmp_path: Path) -> None:
    for path in list((material / "crops").glob("0001_*.jpg")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / f"0000{path.name[4:]}").write_bytes(path.read_bytes())
    library = CropLibrary.open(tmp_path, tmp_path / "cache")
    assert set(library.person_numbers[library.usable].tolist()) == {1}
    assert len(library) == 8


def test_cutouts_are_cached_and_equal_for_folder_and_archive(material: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
        for path in (material / "crops").glob("*_c*.jpg"):
            archive.write(path, f"train/{path.name}")
    folder = CropLibrary.open(material / "crops", tmp_path / "one", crops_per_identity=2)
    archived = CropLibrary.open(tmp_path / "crops.zip", tmp_path / "two", crops_per_identity=2)
    np.testing.assert_array_equal(folder.files, archived.files)
    assert len(folder) == 16
    assert set(folder.camera_numbers.tolist()) == {1, 2}
    (cached,) = (tmp_path / "one").iterdir()
    before = cached.stat().st_mtime_ns
    CropLibrary.open(material / "crops", tmp_path / "one", crops_per_identity=2)
    assert cached.stat().st_mtime_ns == before


def test_masks_are_repeatable_and_borrow_lost_parts() -> None:
    crop = half_size(person_crop(100, np.random.default_rng(1)))
    np.testing.assert_array_equal(grabcut_mask(crop), grabcut_mask(crop))
    # Two shapes; one mask of the first shape has lost its head.
    left, right = np.zeros((2, 64, 32), dtype=np.uint8)
    left[2:60, 4:12] = 1
    right[2:60, 20:28] = 1
    masks = np.stack([left] * 30 + [right] * 30)
    masks[3, :14] = 0
    expected = expected_masks(masks)
    assert expected[3, 5, 6] > 0.9
    assert expected[3, 5, 24] < 0.1


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
