"""Options of an accuracy measurement, detections kept in a file, and the evaluator at size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from personsearch.benchmarks.accuracy import EvaluationOptions, camera_rule, prepare_search, query_outcomes, score
from personsearch.benchmarks.collecting import Collected
from personsearch.benchmarks.evaluation_scale import Workload, draw, measure_growth
from personsearch.benchmarks.results import read_results
from personsearch.benchmarks.stored_detections import read_detections, write_detections
from personsearch.cli.bench import app as bench
from personsearch.cli.evaluate import evaluate
from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.data import Query, Sample
from personsearch.evaluation import SearchEvaluator

ROOT = Path("set")
A, B = (0, 0, 40, 100), (100, 0, 140, 100)


def sample(index: int, camera: int, *rows: tuple[tuple[float, ...], int]) -> Sample:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    path = ROOT / "frames" / f"{index}.jpg"
    return Sample(path, boxes, np.array([person for _, person in rows], np.int64), camera, index, (200, 100))


def found(*rows: tuple[tuple[float, ...], float, tuple[float, float]]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.float32).reshape(-1, 2),
    )


@dataclass
class Split:
    """Persons 0 and 1 at home, person 0 in image 1 beside a look-alike, and in image 2, where nobody is found."""

    queries: tuple[Query, ...] = (Query(0, np.array(A, np.float32), 0),)
    name, terms, person_count, protocol = "three", "test", 2, "all"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return [sample(0, 1, (A, 0), (B, 1)), sample(1, 1, (A, 0), (B, -1)), sample(2, 2, (A, 0))][index]

    def frame_bgr(self, index: int) -> Any:
        raise AssertionError("figures of what was collected need no pixels")


def collected(**changes: Any) -> Collected:
    fields: dict[str, Any] = {
        "system": "guess",
        "sha256": "",
        "score_threshold": 0.5,
        "samples": [Split()[index] for index in range(3)],
        "found": [
            found((A, 0.9, (0.6, 0.8)), (B, 0.8, (0, 1))),
            found((A, 0.9, (0.8, 0.6)), (B, 0.6, (1, 0))),
            found(),
        ],
        "true_boxes": None,
        "query_embeddings": np.array([[1, 0]], np.float32),
    }
    return Collected(**{**fields, **changes})


def mean_ap(**options: Any) -> float:
    result = score(collected(), Split(), options=EvaluationOptions(**options))
    assert result.search is not None
    return result.search.mean_ap


def test_every_option_changes_what_it_says() -> None:
    # Found behind the look-alike (similarities .8 and 1), and missed in image 2: 1/4.
    assert mean_ap() == 0.25
    # Weighted by the scores: .72 against .6. From the detection at home: .96 against .6.
    assert mean_ap(weighted_by_score=True) == 0.5
    assert mean_ap(query_features="detection") == 0.5
    # The company at home, (0, 1), takes the right detection, so the look-alike keeps its 1.
    assert mean_ap(context=(2, 2)) == 0.25
    assert mean_ap(score_threshold=0.7) == 0.5


def test_figures_state_how_they_were_reached() -> None:
    pytest.importorskip("pycocotools")
    options = EvaluationOptions(mode="compat", coco=True)
    result = score(collected(), Split(), split="val", options=options)
    assert (result.protocol, result.split, result.score_threshold) == ("all", "val", 0.5)
    assert (result.camera_rule, result.options) == ("same camera included", options)
    assert result.detection is not None
    assert result.detection.labelled_recall == pytest.approx(3 / 4)
    assert result.detection.coco_ap_50 == pytest.approx(81 / 101)
    assert result.search is not None
    assert (result.search.gallery_images, result.search.gallery_boxes, result.search.queries_scored) == (2, 2, 1)


def test_galleries_of_other_cameras_are_recognised() -> None:
    samples = [Split()[index] for index in range(3)]
    box = np.array(A, np.float32)
    assert camera_rule([Query(0, box, 0, np.array([0, 2]))], samples) == "other cameras only"
    assert camera_rule([Query(0, box, 0, np.array([2])), Query(1, box, 0)], samples) == "same camera included"
    assert camera_rule([], samples) is None


def test_outcomes_of_queries() -> None:
    lonely = Query(0, np.array(B, np.float32), 1)  # person 1 is nowhere else
    split = Split(queries=(*Split().queries, lonely))
    asked = collected(query_embeddings=np.array([[1, 0], [0, 1]], np.float32))
    search = prepare_search(asked, split, EvaluationOptions(), score_threshold=0.5)
    first, second = query_outcomes(split.queries, search.scores())
    assert (first.average_precision, first.first_hit_rank, first.answers) == (0.25, 2, 2)
    assert (second.average_precision, second.first_hit_rank, second.answers) == (None, None, 0)
    assert search.ranking(0, limit=1).right.tolist() == [False]


def test_what_was_not_collected_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="three, split test: the queries' true boxes have no embeddings"):
        score(collected(query_embeddings=None), Split())
    with pytest.raises(InputError, match=r"score threshold is 0\.3, but guess reports nothing below 0\.5"):
        score(collected(), Split(), options=EvaluationOptions(score_threshold=0.3))
    broken = [found(), found((A, 0.9, (np.nan, 0))), found()]
    with pytest.raises(InputError, match="image 1: embeddings holds a value that is not finite"):
        score(collected(found=broken), Split())


def test_detections_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    write_detections(path, collected(), ROOT)
    back = read_detections(path, Split(), ROOT)
    assert (back.system, back.score_threshold, len(back.sha256)) == ("guess", 0.5, 64)
    original = collected().found
    assert original is not None
    assert back.found is not None
    for ours, theirs in zip(original, back.found, strict=True):
        for field in ("boxes_xyxy", "scores", "embeddings"):
            assert getattr(ours, field).tolist() == getattr(theirs, field).tolist()
    assert score(back, Split()).search == score(collected(), Split()).search


def stored(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "found.npz"
    write_detections(path, collected(), ROOT)
    with np.load(path) as archive:
        fields = {name: archive[name] for name in archive.files}
    np.savez(path, **{name: value for name, value in {**fields, **changes}.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "found.npz: `scores` is missing"),
        ({"format": np.array("other")}, "`format` is `other`"),
        ({"image_names": np.array(["frames/0.jpg", "frames/1.jpg", "frames/9.jpg"])},
         r"names image `frames/9.jpg`, which the data set does not have \(1 such\)"),
        ({"image_names": np.array(["frames/0.jpg", "frames/1.jpg"]), "counts": np.array([2, 2])},
         r"has no entry for image `frames/2.jpg` \(1 such\)"),
        ({"image_names": np.array(["frames/0.jpg"] * 3)}, "`frames/0.jpg` stands there twice"),
        ({"counts": np.array([2, 2])}, r"`counts` has shape \(2,\); expected \(3,\)"),
        ({"counts": np.array([2, -1, 3])}, "`counts` holds -1"),
        ({"scores": np.ones(3, np.float32)}, r"`scores` has shape \(3,\); expected \(4,\)"),
        ({"embeddings": np.ones((4, 0, 2), np.float32)}, "`embeddings` has shape"),
        ({"embeddings": np.array(1.0)}, "`embeddings` has shape"),
        ({"boxes_xyxy": np.array(["a"])}, "`boxes_xyxy` is of type <U1; expected numbers"),
        ({"embeddings": np.array([[0, 1], [0, 1], [0, 1], [0, np.inf]], np.float32)},
         "embeddings of `frames/1.jpg` holds a value that is not finite"),
        ({"query_embeddings": np.ones((2, 2))}, r"`query_embeddings` has shape \(2, 2\); expected \(1, 2\)"),
        ({"query_embeddings": np.ones((1, 3))}, r"`query_embeddings` has shape \(1, 3\); expected \(1, 2\)"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_detections(stored(tmp_path, **changes), Split(), ROOT)


def test_what_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    path.write_bytes(b"not an archive")
    for place in (path, tmp_path / "absent.npz"):
        with pytest.raises(InputError, match=r"cannot be read; expected an \.npz file of detections"):
            read_detections(place, Split(), ROOT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`Split` as a data set folder; its images are never read."""
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for index in range(3):
        one = Split()[index]
        images.append(
            {"id": index, "file_name": f"frames/{index}.jpg", "width": 200, "height": 100,
             "camera_id": one.camera_id, "frame_index": index}
        )  # fmt: skip
        for (x1, y1, x2, y2), person in zip(one.boxes_xyxy.tolist(), one.person_ids.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append(
                {"id": len(rows), "image_id": index, "bbox": box, "category_id": 1, "person_id": person, "iscrowd": 0}
            )
    content = {
        "person_count": 2, "images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}],
        "queries": [{"image_id": 0, "bbox": [0, 0, 40, 100], "person_id": 0}],
    }  # fmt: skip
    (root / "annotations" / "test.json").write_text(json.dumps(content))
    about = {
        "format": "personsearch/1", "name": "three", "terms": "test", "generator": None,
        "splits": {"test": "annotations/test.json"},
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def run(*arguments: object) -> str:
    command = typer.Typer()
    command.command()(evaluate)
    outcome = CliRunner().invoke(command, [str(word) for word in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_a_file_of_detections_is_scored_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    path, results, outcomes = tmp_path / "found.npz", tmp_path / "results", tmp_path / "outcomes.json"
    write_detections(path, collected(), ROOT)
    shown = run(path, folder, "--mode", "compat", "--cws", "--cbgm", "10,1", "--save", results, "--per-query", outcomes)
    for words in ("mAP 50.0%", "mode compat", "same camera included", "(CWS)", "k1 10, k2 1", "protocol default",
                  "2 boxes in 2 images a query", "recall over labelled people"):  # fmt: skip
        assert words in shown
    (record,) = read_results(results)
    wanted = {"mode": "compat", "cws": "True", "cbgm": "(10, 1)", "query_features": "gt_box", "gallery_images": "2.0",
              "score_threshold": "0.5", "camera_rule": "same camera included", "protocol": "default"}  # fmt: skip
    assert wanted.items() <= record.settings.items()
    assert json.loads(outcomes.read_text())[0]["average_precision"] == 0.5
    assert json.loads(run(path, folder, "--json"))[0]["search"]["mean_ap"] == 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "loose"], "--mode is `loose`"),
        (["--query-features", "mean"], "--query-features is `mean`"),
        (["--cbgm", "10"], "--cbgm is `10`"),
        (["--cbgm", "10,0"], "--cbgm is `10,0`"),
        (["--protocol", "g100"], "protocol `g100`"),
    ],
)
def test_unknown_options_are_refused(folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    write_detections(tmp_path / "found.npz", collected(), ROOT)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "found.npz", folder, *words)


@pytest.mark.parametrize("gallery", [None, 8])
def test_a_drawn_workload_can_be_searched(gallery: int | None) -> None:
    small = Workload(images=40, boxes=150, identities=10, labelled=0.6, queries=12, gallery=gallery, embedding_dim=32)
    queries, embeddings, predictions, truths = draw(small)
    assert (len(queries), len(predictions), len(truths)) == (12, 40, 40)
    scores = SearchEvaluator(queries, predictions, truths).scores(embeddings)
    chance = SearchEvaluator(queries, predictions, truths).chance(rounds=2)
    assert scores.mean_ap > 2 * chance.mean_ap
    grown = small.grown(queries=10, detections=2)
    assert (grown.queries, grown.boxes, grown.gallery) == (120, 300, gallery and 16)


def test_queries_and_detections_grow_tenfold_apart_and_together() -> None:
    small = Workload(images=40, boxes=150, identities=10, labelled=0.6, queries=12, gallery=None, embedding_dim=32)
    runs = measure_growth(small)
    assert list(runs) == ["1x", "10x_queries", "10x_detections", "10x_both"]
    assert [run.queries for run in runs.values()] == [12, 120, 12, 120]
    assert [run.images for run in runs.values()] == [40, 40, 400, 400]
    detections = [run.detections for run in runs.values()]
    assert detections[0] == detections[1] < detections[2] == detections[3]
    for run in runs.values():
        assert 0 < run.input_gib <= run.peak_gib


def test_an_unknown_workload_is_refused() -> None:
    with pytest.raises(InputError, match="workload is `huge`; expected one of prw, cuhk-sysu-100, cuhk-sysu-4000"):
        CliRunner().invoke(bench, ["evaluator", "huge"], catch_exceptions=False)
