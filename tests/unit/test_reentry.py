"""Re-entry on a small sequence: which boxes ask, which answer, and what a broken folder gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from walk_sequence import VISITS, write_walk

from personsearch.benchmarks.histogram import HistogramEmbedder
from personsearch.benchmarks.reentry import measure_reentry, read_sequence, split_visits
from personsearch.core.errors import InputError


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    return write_walk(tmp_path / "walk")


def test_first_visits_ask_and_all_others_answer(sequence: Path) -> None:
    frames = read_sequence(sequence)
    assert len(frames) == 7  # the last one shows nobody
    queries, gallery = split_visits(frames)
    tracks = np.concatenate([frame.track_ids for frame in frames])
    assert set(tracks[queries]) == {9, 8}  # first by time, not by number
    assert set(tracks[gallery]) == {4, 2, 1, 5}  # the single visit of person 2 distracts


def test_clothing_colours_find_everybody(sequence: Path) -> None:
    result = measure_reentry(
        HistogramEmbedder(), read_sequence(sequence), name="histogram", sequence="walk", detector=None
    )
    assert (result.queries, result.gallery_boxes) == (4, 4)
    assert (result.rank_1, result.mean_ap) == (1.0, 1.0)
    assert result.chance_rank_1 == pytest.approx(3 / 8, abs=0.3)  # mean of 2/4 and 1/4
    assert result.detection_recall is None


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("seqinfo.ini", None, "is not a sequence"),
        ("seqinfo.ini", "nothing", "is not a sequence"),
        ("seqinfo.ini", "[Sequence]\nimDir=elsewhere\n", "holds no numbered image"),
        ("gt/gt.txt", None, "cannot be read as ground truth"),
        ("gt/gt.txt", "1,2,three,4,5,6\n", "cannot be read as ground truth"),
        ("gt/gt.txt", "1,77,0,0,9,9\n", "track 77 belongs to no person"),
        ("person_map.json", None, "cannot be read as a person map"),
        ("person_map.json", "{}", "cannot be read as a person map"),
    ],
)
def test_a_broken_folder_is_named(sequence: Path, path: str, content: str | None, message: str) -> None:
    if content is None:
        (sequence / path).unlink()
    else:
        (sequence / path).write_text(content)
    with pytest.raises(InputError, match=message):
        read_sequence(sequence)


def test_nobody_comes_back(sequence: Path) -> None:
    persons = [{"person": str(track), "L1": [track]} for track, *_ in VISITS]
    (sequence / "person_map.json").write_text(json.dumps({"persons": persons}))
    with pytest.raises(InputError, match="nobody comes back"):
        measure_reentry(HistogramEmbedder(), read_sequence(sequence), name="h", sequence="walk", detector=None)
