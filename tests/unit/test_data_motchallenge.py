"""MOTChallenge sequences: who counts as a person, who is ignored, which tracks are one identity."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data.motchallenge import MotDataset

MOT17 = """\
1,1,10,10,10,30,1,1,1.0
1,2,40,10,10,30,1,1,0.2
1,3,60,10,10,30,0,1,1.0
1,4,70,10,10,30,1,3,1.0
1,5,20,10,10,30,1,7,1.0
1,6,30,10,10,30,0,8,1.0
1,7,-20,10,10,30,1,1,1.0
3,1,90,10,20,30,1,1,0.5
2,1,11,10,10,30,1,1,1.0
"""


def write_sequence(folder: Path, truth: str, frames: tuple[int, ...] = (1, 3)) -> Path:
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "gt/gt.txt").write_text(truth)
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=X\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=100\nimHeight=80\nimExt=.jpg\n"
    )
    for frame in frames:
        cv2.imwrite(str(folder / f"img1/{frame:06d}.jpg"), np.full((80, 100, 3), frame * 20, np.uint8))
    return folder


def test_people_ignored_regions_and_others(tmp_path: Path) -> None:
    dataset = MotDataset(write_sequence(tmp_path / "A", MOT17))
    assert (len(dataset), dataset.person_count, dataset.name) == (2, 0, "A")
    # Track 4 is a car; track 7 lies outside the frame; tracks 2, 3, 5 and 6 are hidden, unflagged or ambiguous.
    np.testing.assert_array_equal(dataset[0].boxes_xyxy[:, 0], [10, 40, 60, 20, 30])
    np.testing.assert_array_equal(dataset[0].person_ids, [-1, -2, -2, -2, -2])
    np.testing.assert_array_equal(dataset[1].boxes_xyxy, [[90, 10, 100, 40]])
    assert [dataset[i].frame_index for i in range(2)] == [1, 3]
    assert abs(int(dataset.frame_bgr(1).mean()) - 60) <= 2


def test_sequences_are_cameras_and_tracks_identities(tmp_path: Path) -> None:
    write_sequence(tmp_path / "B", "1,5,10,10,10,30,1,1,1.0\n1,9,30,10,10,30,1,1,1.0\n")
    write_sequence(tmp_path / "A", "1,5,10,10,10,30,1,1,1.0\n")
    dataset = MotDataset(tmp_path, identities=True)
    assert [dataset[i].camera_id for i in range(len(dataset))] == [0, 0, 1, 1]
    assert dataset.person_count == 3
    assert dataset.index.person_names == ("A:5", "B:5", "B:9")
    assert dataset[2].person_ids.tolist() == [1, 2]


def test_a_person_map_joins_tracks(tmp_path: Path) -> None:
    # MOT15's ten columns, as PETS has them: the last three are world coordinates.
    truth = "".join(f"1,{track},{track * 8},10,6,30,1,-4.1,-7.3,0\n" for track in (1, 2, 4, 6))
    root = write_sequence(tmp_path / "pets", truth)
    people = {"persons": [{"person": "A", "L1": [1, 6], "S3": []}, {"L1": [2]}, {"L1": [], "S3": [9]}]}
    (tmp_path / "map.json").write_text(json.dumps(people).replace("L1", "Pet"))
    dataset = MotDataset(root, identities=True, person_map=tmp_path / "map.json", terms="research")
    assert dataset.index.person_names == ("A", "pets:2", "pets:4")
    assert dataset.person_count == 3
    assert dataset[0].person_ids.tolist() == [0, 1, 2, 0]
    assert dataset.terms == "research"


def test_a_frame_without_people(tmp_path: Path) -> None:
    sample = MotDataset(write_sequence(tmp_path / "A", "", frames=(4,)))[0]
    assert sample.boxes_xyxy.shape == (0, 4)


def test_bad_sequences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sequence"):
        MotDataset(tmp_path)
    root = write_sequence(tmp_path / "A", "1,1,10,10\n")
    with pytest.raises(InputError, match=r"gt\.txt: line 1 is `1,1,10,10`"):
        MotDataset(root)
    (root / "gt/gt.txt").write_text("1,1,10,10,5,five,1,1,1\n")
    with pytest.raises(InputError, match="line 1 is"):
        MotDataset(root)
    (root / "gt/gt.txt").unlink()
    with pytest.raises(InputError, match=r"gt\.txt: cannot be read"):
        MotDataset(root)
    (root / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\n")
    (root / "gt/gt.txt").write_text("")
    with pytest.raises(InputError, match=r"seqinfo\.ini: cannot be read.*imWidth"):
        MotDataset(root)
