"""A diagnosis of a whole split: records, the curve over gallery sizes, what is written, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from personsearch.benchmarks.accuracy import EvaluationOptions, score
from personsearch.benchmarks.collecting import Collected
from personsearch.benchmarks.diagnosis import diagnose, gallery_curve
from personsearch.benchmarks.diagnosis.strips import query_strip, worst_queries
from personsearch.benchmarks.stored_detections import read_detections, write_detections
from personsearch.cli.diagnose import diagnose as command
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.similarity import l2_normalise
from personsearch.data import Query, SearchDataset, open_dataset
from personsearch.data.index import IndexedDataset, QueryTable
from personsearch.data.readable import ReadableImages

IMAGES, PEOPLE, SPOTS, WIDTH = 24, 5, 3, 6


def write_folder(root: Path, *, pictures: bool = True) -> Path:
    """A data set of 24 images by two cameras, each with three of five people; the first image of each is a query."""
    rng = np.random.default_rng(3)
    (root / "annotations").mkdir(parents=True)
    (root / "frames").mkdir()
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    queries: dict[int, dict[str, Any]] = {}
    for index in range(IMAGES):
        frame = rng.integers(0, 255, (120, 200, 3), np.uint8)
        images.append({"id": index, "file_name": f"frames/{index:02d}.png", "width": 200, "height": 120,
                       "camera_id": index % 2, "frame_index": index})  # fmt: skip
        for spot, person in enumerate(rng.permutation(PEOPLE)[:SPOTS].tolist()):
            box = [10 + 60 * spot, 10, 40, 100]
            frame[10:110, 10 + 60 * spot : 50 + 60 * spot] = (50 * person, 200, 250 - 50 * person)
            rows.append({"id": len(rows), "image_id": index, "bbox": box, "category_id": 1,
                         "person_id": person if person else -1, "iscrowd": 0})  # fmt: skip
            if person:
                queries.setdefault(person, {"image_id": index, "bbox": box, "person_id": person})
        if pictures:
            cv2.imwrite(str(root / "frames" / f"{index:02d}.png"), frame)
    content = {"person_count": PEOPLE, "person_names": [f"p{n}" for n in range(PEOPLE)], "images": images,
               "annotations": rows, "categories": [{"id": 1, "name": "person"}],
               "queries": list(queries.values())}  # fmt: skip
    (root / "annotations" / "test.json").write_text(json.dumps(content))
    about = {"format": "personsearch/1", "name": "spots", "terms": "test", "generator": None,
             "splits": {"test": "annotations/test.json"}}  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def collect_roughly(dataset: SearchDataset, *, true_boxes: bool = True) -> Collected:
    """Detections that miss, shift and confuse some of the people, by a seeded choice."""
    rng = np.random.default_rng(5)
    people = l2_normalise(rng.normal(size=(PEOPLE + 1, WIDTH)).astype(np.float32))

    def embed(ids: Any) -> FloatArray:
        return l2_normalise((people[ids] + rng.normal(0, 0.35, (len(ids), WIDTH))).astype(np.float32))

    samples, found, true = [dataset[index] for index in range(len(dataset))], [], []
    for sample in samples:
        kept = rng.random(len(sample.person_ids)) < 0.8
        shift = rng.integers(-22, 23, (len(sample.person_ids), 1)) * [1, 0, 1, 0]
        boxes = (sample.boxes_xyxy + shift)[kept].astype(np.float32)
        found.append(
            Detections(boxes, rng.uniform(0.5, 1, kept.sum()).astype(np.float32), embed(sample.person_ids[kept]))
        )
        true.append(Detections(sample.boxes_xyxy, np.ones(len(kept), np.float32), embed(sample.person_ids)))
    asked = embed(np.array([query.person_id for query in dataset.queries]))
    return Collected("rough", "", 0.5, samples, found, true if true_boxes else None, asked)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("spots") / "set")


@pytest.fixture(scope="module")
def dataset(root: Path) -> SearchDataset:
    return open_dataset(root, "test")


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "compat"}, {"weighted_by_score": True}, {"query_features": "detection"}, {"context": (5, 2)}],
)
def test_costs_add_up_to_what_evaluation_says(dataset: SearchDataset, root: Path, options: dict[str, Any]) -> None:
    if "context" in options:
        pytest.importorskip("scipy")
    chosen, collected = EvaluationOptions(**options), collect_roughly(dataset)
    diagnosis = diagnose(collected, dataset, root, options=chosen)
    search = score(collected, dataset, options=chosen).search
    assert search is not None
    assert diagnosis.summary.mean_ap == search.mean_ap
    assert sum(diagnosis.summary.costs.values()) == pytest.approx(1 - search.mean_ap)
    by_whom = sum(diagnosis.summary.costs_by_whom.values())
    assert by_whom == pytest.approx(diagnosis.summary.costs["confused"] + diagnosis.summary.costs["ranked late"])
    for record in diagnosis.queries:
        assert record.found + record.missed == record.answers
        assert record.average_precision is not None
        assert record.average_precision + sum(record.costs.values()) == pytest.approx(1)
        assert len(record.errors) == sum(count for kind, count in record.kinds.items() if kind != "right")


def test_records_name_people_and_places(dataset: SearchDataset, root: Path) -> None:
    diagnosis = diagnose(collect_roughly(dataset), dataset, root)
    record = diagnosis.queries[0]
    query = dataset.queries[0]
    assert (record.person_name, record.image) == (f"p{query.person_id}", query.image_index)
    assert record.image_name == f"frames/{query.image_index:02d}.png"
    assert (record.protocol, record.detected) == ("default", True)
    whom = {confuser.who for one in diagnosis.queries for confuser in one.confusers}
    assert "person without identity" in whom
    assert any(name.startswith("person p") for name in whom)
    kinds = {answer.kind for one in diagnosis.queries for answer in one.errors}
    assert {"missed", "mislocalised", "confused"} <= kinds
    pair = diagnosis.summary.confused_pairs[0]
    assert pair.person_id != pair.taken_for_id
    assert diagnosis.summary.true_boxes_mean_ap is not None
    assert diagnosis.summary.true_boxes_mean_ap > diagnosis.summary.mean_ap


def test_a_query_that_was_not_detected_is_told(dataset: SearchDataset, root: Path) -> None:
    collected = collect_roughly(dataset)
    assert collected.found is not None
    own = dataset.queries[0].image_index
    collected.found[own] = collected.found[own][:0]
    diagnosis = diagnose(collected, dataset, root, options=EvaluationOptions(query_features="detection"))
    first = diagnosis.queries[0]
    assert (first.detected, first.average_precision, first.costs["query not detected"]) == (False, 0, 1)
    strip = query_strip(first, dataset)
    assert strip.note == "the query itself was not detected"


def test_without_queries_there_is_nothing_to_diagnose(root: Path) -> None:
    opened = open_dataset(root, "test")
    assert isinstance(opened, IndexedDataset)
    dataset = IndexedDataset(root, replace(opened.index, protocols={}))
    with pytest.raises(InputError, match="spots, split test: the split has no queries"):
        diagnose(collect_roughly(opened), dataset, root)


def test_worst_queries_are_one_a_person(dataset: SearchDataset, root: Path) -> None:
    records = diagnose(collect_roughly(dataset), dataset, root).queries
    again = records[0].model_copy(update={"query": 99, "average_precision": 0.0})
    lonely = records[1].model_copy(update={"average_precision": None, "person_id": 77})
    worst = worst_queries([*records, again, lonely], 3)
    assert worst[0].query == 99
    assert len({one.person_id for one in worst}) == 3
    assert [one.average_precision for one in worst] == sorted(one.average_precision or 0 for one in worst)


def test_strips_show_the_people_that_they_name(dataset: SearchDataset, root: Path) -> None:
    record = diagnose(collect_roughly(dataset), dataset, root).queries[0]
    strip = query_strip(record, dataset, answers=3, wrong=2)
    assert len(strip.answers) == min(3, len(record.errors))
    assert len(strip.wrong) <= 2
    middle = strip.query.picture[104, 60].tolist()
    assert middle == [50 * record.person_id, 200, 250 - 50 * record.person_id]
    for cell in strip.answers:
        assert cell.mark == ("good" if cell.first.startswith("rank") else "lost")


def test_galleries_are_nested_and_hold_the_answers(dataset: SearchDataset) -> None:
    collected = collect_roughly(dataset)
    largest = max(int((sample.person_ids > 0).sum()) for sample in collected.samples)
    assert largest > 0
    curve = gallery_curve(collected, dataset, sizes=(2, 16, 18, 21, 500), draws=3, seed=1)
    assert [point.name for point in curve.points] == ["16", "18", "21", "all"]  # 2 holds no answers, 500 is too many
    search = score(collected, dataset).search
    assert search is not None
    assert curve.points[-1].mean_ap.mean == search.mean_ap
    assert (curve.points[-1].draws, curve.points[-1].images) == (1, IMAGES - 1)
    # More images among the same answers never raise an average precision, whatever the draw.
    for few, many in zip(curve.points, curve.points[1:], strict=False):
        assert few.mean_ap.low >= many.mean_ap.low
        assert few.mean_ap.high >= many.mean_ap.high
    assert all(point.images == float(point.name) for point in curve.points[:-1] if not point.queries_above)
    assert curve == gallery_curve(collected, dataset, sizes=(16, 18, 21), draws=3, seed=1)
    assert curve != gallery_curve(collected, dataset, sizes=(16, 18, 21), draws=3, seed=2)


def test_a_gallery_of_answers_alone(dataset: SearchDataset) -> None:
    """All other images are left out where a query has as many answers as the gallery has images."""
    collected = collect_roughly(dataset)
    answers = [
        sum(query.person_id in sample.person_ids for sample in collected.samples) - 1 for query in dataset.queries
    ]
    size = int(np.median(answers))
    (point, _) = gallery_curve(collected, dataset, sizes=(size,), draws=2).points
    assert point.queries_above == sum(count > size for count in answers)
    assert point.images == pytest.approx(np.mean([max(size, count) for count in answers]))


def test_published_galleries_are_searched_as_they_are(dataset: SearchDataset) -> None:
    """Protocols named as CUHK-SYSU's, their queries in different orders."""
    assert isinstance(dataset, IndexedDataset)
    everything = list(range(IMAGES))

    def gallery(query: Query, size: int) -> Query:
        images = [image for image in everything if image != query.image_index]
        shows = [query.person_id in dataset[image].person_ids for image in images]
        images = [images[row] for row in np.argsort(np.logical_not(shows), kind="stable")]
        return Query(query.image_index, query.box_xyxy, query.person_id, np.array(images[:size]))

    queries = dataset.queries
    protocols = {
        "g22": QueryTable.of([gallery(query, 22) for query in queries]),
        "g18": QueryTable.of([gallery(query, 18) for query in reversed(queries)]),
        "full": QueryTable.of(queries),
        "cross-camera": QueryTable.of(queries),
    }
    index = replace(dataset.index, protocols=protocols)
    collected = collect_roughly(dataset)
    curve = gallery_curve(collected, IndexedDataset(dataset.root, index, "g22"), sizes=(5,))
    assert (curve.galleries, curve.seed) == ("published", None)
    assert [(point.name, point.images) for point in curve.points] == [("g18", 18), ("g22", 22), ("full", 23)]
    search = score(collected, dataset).search
    assert search is not None
    assert curve.points[-1].mean_ap.mean == search.mean_ap
    assert curve.points[0].mean_ap.mean >= curve.points[1].mean_ap.mean >= search.mean_ap
    fewer = replace(index, protocols={**protocols, "g22": QueryTable.of(queries[:2])})
    assert collected.query_embeddings is not None
    part = replace(collected, query_embeddings=collected.query_embeddings[:2])
    with pytest.raises(InputError, match="2 queries of protocol `g18` are not among those of `g22`"):
        gallery_curve(part, IndexedDataset(dataset.root, fewer, "g22"))


def run(*words: object) -> str:
    app = typer.Typer()
    app.command()(command)
    outcome = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def store(dataset: SearchDataset, root: Path, folder: Path) -> Path:
    path = folder / "found.npz"
    write_detections(path, collect_roughly(dataset), root)
    return path


def test_the_command_writes_a_folder_and_the_same_again(dataset: SearchDataset, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found, out = store(dataset, root, tmp_path), tmp_path / "out"
    shown = run(found, root, "--out", out, "--sizes", "18", "--draws", 2, "--worst", 2)
    for words in ("mAP", "missed", "mislocalised", "people without identity", "(drawn): 18 "):
        assert words in shown
    names = {"diagnosis.json", "queries.json", "index.html", "worst.png", "gallery_size.svg"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "diagnosis.json").read_text())
    assert summary["repaired_rank"] == "first: no embeddings of true boxes"
    assert [point["name"] for point in summary["gallery_size"]["points"]] == ["18", "all"]
    queries = json.loads((out / "queries.json").read_text())
    assert [query["query"] for query in queries] == list(range(PEOPLE - 1))
    assert np.mean([query["average_precision"] for query in queries]) == pytest.approx(summary["mean_ap"])
    picture = cv2.imread(str(out / "worst.png"))
    assert picture is not None
    assert picture.shape[1] > 600
    page = (out / "index.html").read_text()
    assert page.count('class="case"') == 2
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert (out / "gallery_size.svg").read_text().startswith("<?xml")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    run(found, root, "--out", out, "--sizes", "18", "--draws", 2, "--worst", 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_parts_can_be_left_out(dataset: SearchDataset, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    shown = run(store(dataset, root, tmp_path), root, "--out", out, "--sizes", "", "--worst", 0, "--json")
    assert json.loads(shown)["queries_scored"] == PEOPLE - 1
    assert {path.name for path in out.iterdir()} == {"diagnosis.json", "queries.json", "index.html"}


def test_an_image_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = write_folder(tmp_path / "set")
    whole = open_dataset(root, "test")
    shown = {query.image_index for query in whole.queries}
    broken = whole[next(index for index in range(len(whole)) if index not in shown)].image_path
    assert broken is not None
    broken.write_bytes(b"no image")
    found = store(ReadableImages(whole), root, tmp_path)
    text = run(found, root, "--out", tmp_path / "out", "--sizes", "", "--worst", 0, "--skip-bad")
    assert "without 1 images that cannot be read" in text
    summary = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert (summary["images"], summary["skipped_images"]) == (len(whole) - 1, 1)


def test_nothing_else_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = write_folder(tmp_path / "set", pictures=False)
    dataset = open_dataset(root, "test")
    found, out = store(dataset, root, tmp_path), tmp_path / "out"
    with pytest.raises(InputError, match="frames/"):
        run(found, root, "--out", out)
    assert not out.exists()
    with pytest.raises(InputError, match="exists and is not a diagnosis"):
        run(found, root, "--out", root)
    with pytest.raises(InputError, match="exists and is not a folder"):
        run(found, root, "--out", found)
    with pytest.raises(InputError, match="--sizes is `many`"):
        run(found, root, "--out", out, "--sizes", "many")


def test_a_file_of_detections_repairs_to_the_first_rank(dataset: SearchDataset, root: Path, tmp_path: Path) -> None:
    stored = read_detections(store(dataset, root, tmp_path), dataset, root)
    first = diagnose(stored, dataset, root).summary
    own = diagnose(collect_roughly(dataset), dataset, root).summary
    assert first.mean_ap == own.mean_ap
    assert first.costs["missed"] >= own.costs["missed"]
    assert first.true_boxes_mean_ap is None
