"""MOTChallenge sequences: who counts as a person, who is ignored, which tracks are one identity."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data import open_dataset
from personsearch.data.index import IndexedDataset
from personsearch.data.motchallenge import MotDataset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


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
    (root / "seqinfo.ini").write_text("[Sequence]\nimDir=../img1\nimWidth=9\nimHeight=9\nimExt=.jpg\n")
    with pytest.raises(InputError, match=r"imDir \.\./img1, size 9x9"):
        MotDataset(root)
    cv2.imwrite(str(write_sequence(tmp_path / "B", "") / "img1/last.jpg"), np.zeros((80, 100, 3), np.uint8))
    with pytest.raises(InputError, match=r"image `last\.jpg` does not say which frame it is"):
        MotDataset(tmp_path / "B")


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    problems = MotDataset(write_sequence(tmp_path / "A", MOT17)).index.problems
    told = {problem.kind: problem for problem in problems}
    assert len(problems) == 3
    assert (told["dropped"].count, told["noted"].count, told["missing"].count) == (1, 1, 1)
    assert "frame 1, track 7, x,y,w,h -20,10,10,30" in told["dropped"].what
    assert "1 labelled boxes are in frames without an image" in told["missing"].what


def test_labels_without_images(tmp_path: Path) -> None:
    truth = "1,1,10,10,10,30,1,1,1.0\n"
    root = write_sequence(tmp_path / "A", truth, frames=())
    dataset = MotDataset(root, identities=True)
    # seqLength says how many frames there are, those without people included.
    assert [dataset[i].frame_index for i in range(len(dataset))] == [1, 2, 3]
    assert [(problem.kind, problem.count) for problem in dataset.index.problems] == [("missing", 3)]
    with pytest.raises(InputError, match="cannot be read"):
        dataset.frame_bgr(0)


def write_cvat(root: Path, rows: list[str], names: str = "person\n") -> Path:
    (root / "gt").mkdir(parents=True)
    (root / "gt/gt.txt").write_text("\n".join(rows))
    (root / "gt/labels.txt").write_text(names)
    return root


def test_cvat_export(tmp_path: Path) -> None:
    rows = [
        "2,1,10.5,5,8,30,1,2,1.0",
        "2,2,20,5,8,30,1,2,0.0",  # "occluded" in CVAT's window, a person all the same
        "2,-1,30,5,8,30,1,2,1.0",  # a box that is no track
        "2,3,40,5,8,30,1,1,1.0",  # a car
        "4,4,50,5,8,30,0,2,1.0",  # "ignored"
    ]
    root = write_cvat(tmp_path / "task", rows, "car\nPerson\n")
    dataset = open_dataset(root, "all")
    assert isinstance(dataset, IndexedDataset)
    index = dataset.index
    # Neither images nor seqinfo.ini: the frames are those that are labelled, their size nobody knows.
    assert index.image_paths == ("img1/000002.jpg", "img1/000004.jpg")
    assert index.image_wh.tolist() == [[0, 0], [0, 0]]
    assert index.person_ids.tolist() == [0, 1, -1, -2]
    assert index.person_names == ("task:1", "task:2")
    np.testing.assert_array_equal(index.boxes_xyxy[0], [10.5, 5, 18.5, 35])
    # Real visibilities count as everywhere.
    (root / "gt/gt.txt").write_text("\n".join([*rows, "4,5,60,5,8,30,1,2,0.6"]))
    assert MotDataset(root, identities=True).index.person_ids.tolist() == [0, -2, -1, -2, 1]


def test_cvat_zip_with_images(tmp_path: Path) -> None:
    root = write_cvat(tmp_path / "task", ["1,1,10,5,8,30,1,1,1.0"])
    (root / "img1").mkdir()
    cv2.imwrite(str(root / "img1/000001.PNG"), np.full((60, 90, 3), 77, np.uint8))
    path = tmp_path / "yard.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*.*"):
            archive.write(file, file.relative_to(root))
    dataset = open_dataset(path, "all")
    assert (dataset.name, dataset.person_count, dataset[0].image_wh) == ("yard", 1, (90, 60))
    assert (dataset.frame_bgr(0) == 77).all()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../out.txt", "x")
    with pytest.raises(InputError, match=r"yard\.zip: holds the name `\.\./out\.txt`"):
        open_dataset(path, "all")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="is not a data set"):
        open_dataset(path, "all")


def test_classes_of_cvat(tmp_path: Path) -> None:
    row = ["1,1,10,5,8,30,1,1,1.0"]
    assert MotDataset(write_cvat(tmp_path / "one", row, "visitor\n"), identities=True).person_count == 1
    with pytest.raises(InputError, match=r"labels\.txt: none of the classes car, dog is a person"):
        MotDataset(write_cvat(tmp_path / "two", row, "car\ndog\n"))


def test_people_across_cameras(tmp_path: Path) -> None:
    for name in ("door", "yard"):
        rows = "1,1,10,10,10,30,1,1,1.0\n3,2,30,10,10,30,1,1,1.0\n3,3,50,10,10,30,1,1,1.0\n"
        write_sequence(tmp_path / "set" / name, rows)
    people = {"persons": [{"person": "Ann", "door": [1], "yard": [2]}, {"yard": [1]}]}
    (tmp_path / "set/person_map.json").write_text(json.dumps(people))
    dataset = open_dataset(tmp_path / "set", "all")
    assert isinstance(dataset, IndexedDataset)
    assert dataset.index.person_names == ("Ann", "yard:1", "door:2", "door:3", "yard:3")
    assert dataset.index.person_ids.tolist() == [0, 2, 3, 1, 0, 4]
    # Ann comes back in the yard: her visit at the door is searched everywhere but in its own frame.
    (query,) = dataset.queries
    assert dataset.protocol == "re-entry"
    assert (query.image_index, query.person_id) == (0, 0)
    np.testing.assert_array_equal(np.asarray(query.gallery), [1, 2, 3])
    with pytest.raises(InputError, match="split `train` is unknown; expected `all`"):
        open_dataset(tmp_path / "set", "train")


def test_every_box_of_the_first_visit_is_a_query(tmp_path: Path) -> None:
    rows = "".join(f"{frame},{track},10,10,10,30,1,1,1\n" for frame, track in ((1, 8), (2, 8), (3, 5), (4, 6)))
    root = write_sequence(tmp_path / "A", rows, frames=(1, 2, 3, 4))
    (root / "person_map.json").write_text('{"persons": [{"A": [5, 8]}]}')
    queries = open_dataset(root, "all").queries
    assert [query.image_index for query in queries] == [0, 1]
    assert all(np.asarray(query.gallery).tolist() == [2, 3] for query in queries)


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ({"persons": 3}, "`persons` is no list of objects"),
        ({"persons": [{"A": [1]}, {"A": [1]}]}, "track 1 of `A` belongs to two people"),
        ({"persons": [{"A": ["1"]}]}, "person 1: `A` is ['1']; expected track ids"),
        ({"persons": [{"yar": [1], "ard": [2]}]}, "keys yar, ard could all mean the sequence yard"),
    ],
)
def test_wrong_person_maps(tmp_path: Path, people: dict[str, object], said: str) -> None:
    root = write_sequence(tmp_path / "yard", "1,1,10,10,10,30,1,1,1.0\n")
    (root / "person_map.json").write_text(json.dumps(people))
    with pytest.raises(InputError) as caught:
        open_dataset(root, "all")
    assert said in str(caught.value)
    assert "person_map.json" in str(caught.value)


def test_a_person_map_of_another_sequence_is_told(tmp_path: Path) -> None:
    root = write_sequence(tmp_path / "yard", "1,1,10,10,10,30,1,1,1.0\n")
    (root / "person_map.json").write_text('{"persons": [{"door": [1]}]}')
    problems = open_dataset(root, "all").index.problems  # type: ignore[attr-defined]  # of an IndexedDataset
    assert [(one.kind, one.file) for one in problems] == [("wrong", "person_map.json")]
    assert "no key means the sequence yard" in problems[0].what


def _footage(name: str) -> Path:
    place = os.environ.get("PERSON_SEARCH_DATA")
    if not place or not (Path(place) / name).is_dir():
        pytest.skip(f"PERSON_SEARCH_DATA names no folder with {name}")
    return Path(place) / name


def test_pets() -> None:
    dataset = open_dataset(_footage("pets09-s2l1"), "all")
    assert isinstance(dataset, IndexedDataset)
    counts = dataset.index.counts()
    assert (counts["images"], counts["boxes"] + counts["ignore"], counts["identities"]) == (398, 2329, 10)
    # 1,038 true boxes are of first visits; 84 of them are not flagged as to be found.
    assert counts["queries.re-entry"] == 954


def test_mot17() -> None:
    dataset = open_dataset(_footage("mot17-mini"), "all")
    assert isinstance(dataset, IndexedDataset)
    counts = dataset.index.counts()
    assert (counts["images"], counts["cameras"]) == (39, 7)
    assert counts["boxes"] > 600
