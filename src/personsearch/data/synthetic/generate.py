"""Writes a generated data set folder: frames, annotations, video."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance, draw_appearances
from personsearch.data.synthetic.crowd import PASSER_BY, schedule, spread
from personsearch.data.synthetic.labels import label
from personsearch.data.synthetic.response import expose, jpeg
from personsearch.data.synthetic.scene import Scene, Seen, compose, scene_of
from personsearch.data.synthetic.settings import SyntheticSettings
from personsearch.data.synthetic.video import write_video

SPLITS = ("train", "test")
Complete = Callable[[Sequence[Callable[[], Any]]], Iterator[tuple[int, Any]]]
# Raised whenever the same settings give other bytes.
VERSION = 1
# A query must show its person: nearly whole, and large enough to tell a pattern.
_QUERY_VISIBLE, _QUERY_HEIGHT = 0.85, 60 / 224
VIDEO_CAMERA, VIDEO_DAY = 0, 0  # the first test camera, on its first day


@dataclass(frozen=True)
class _Candidate:
    image_id: int
    camera: int
    day: int
    height_px: float
    visible: float
    bbox: list[float]


@dataclass(frozen=True)
class _Still:
    """One still frame to draw: its number, camera (counted within the split), day and identities."""

    index: int
    camera: int
    day: int
    person_ids: tuple[int, ...]


def generate(
    root: Path,
    settings: SyntheticSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    processes: int = 1,
) -> None:
    """Writes the folder of ``docs/conventions.md`` at ``root``, whole or not at all.

    Equal settings give equal bytes, whatever the number of processes. Identities and cameras of the two splits are
    disjoint; the video is seen by the first test camera, its query image by the same camera that day.

    Args:
        root: folder to write; what stood there is replaced.
        settings: what to generate.
        progress: called with frames done and frames in all.
        processes: that draw at once; above 1 they are fresh interpreters, so a script that calls this needs its
            ``if __name__ == "__main__"``.

    Raises:
        InputError: this OpenCV cannot write JPEG or MPEG-4, or there are too few test frames for a query.
    """
    total = settings.train_frames + settings.test_frames + settings.video_frames
    done = 0

    def step(frames: int = 1) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(done, total)

    with atomic_dir(root) as part, _workers(processes) as complete:
        # The test split first: it decides whom the video shows.
        test, candidates = _write_split(part, settings, "test", complete, step)
        test["queries"] = _queries(candidates, settings)
        query = _video_query(test, candidates, settings)
        video = partial(write_video, part / "video", settings, people_of(settings, "test"), query)
        train, _ = _write_split(part, settings, "train", complete, step, beside=video)
        for split, annotations in (("train", train), ("test", test)):
            write_json(part / "annotations" / f"{split}.json", annotations)
        write_json(part / "dataset.json", _description(settings))


@contextmanager
def _workers(processes: int) -> Iterator[Complete]:
    """Yields a function that does pieces of work and yields the number and outcome of each as it is done."""
    if processes <= 1:
        yield lambda work: ((number, piece()) for number, piece in enumerate(work))
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def complete(work: Sequence[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
            futures = {pool.submit(piece): number for number, piece in enumerate(work)}
            for future in as_completed(futures):
                yield futures[future], future.result()

        try:
            yield complete
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)  # else leaving would first finish what is queued
            raise


def people_of(settings: SyntheticSettings, split: str) -> tuple[Appearance, ...]:
    """The labelled people of a split, by ``person_id``."""
    count = settings.train_identities if split == "train" else settings.test_identities
    return draw_appearances(settings.seed, split, count)


def scene_for(settings: SyntheticSettings, split: str, camera: int, day: int, frame_wh: tuple[int, int]) -> Scene:
    """The scene of a split's camera; the test cameras come after those of training."""
    number = _camera_id(settings, split, camera)
    return scene_of(settings.seed, f"camera{number}", number, day, frame_wh)


def _write_split(
    root: Path,
    settings: SyntheticSettings,
    split: str,
    complete: Complete,
    step: Callable[[int], None],
    *,
    beside: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], dict[int, list[_Candidate]]]:
    """Draws the frames of a split, and ``beside`` (the video), which is the longest piece and hence begun first."""
    people = people_of(settings, split)
    (root / "frames" / split).mkdir(parents=True)
    groups: dict[tuple[int, int], list[_Still]] = {}
    for index, (camera, day, ids) in enumerate(schedule(settings, split)):
        groups.setdefault((camera, day), []).append(_Still(index, camera, day, ids))
    # Frames of one camera and day share a scene, which takes longer to draw than a frame.
    work = [partial(_draw_stills, root, settings, split, stills) for stills in groups.values()]
    drawn: dict[int, list[Seen]] = {}
    for number, seen in complete([beside, *work] if beside else work):
        if beside and number == 0:
            step(settings.video_frames)
        else:
            drawn.update(seen)
            step(len(seen))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    candidates: dict[int, list[_Candidate]] = {}
    for still in sorted((still for stills in groups.values() for still in stills), key=lambda still: still.index):
        camera_id, (width, height) = _camera_id(settings, split, still.camera), settings.frame_wh
        images.append(
            {
                "id": still.index,
                "file_name": _file_name(split, camera_id, still.index),
                "width": width,
                "height": height,
                "camera_id": camera_id,
                "frame_index": still.index,
            }
        )
        for entry in drawn[still.index]:
            annotation = _annotate(entry, len(annotations), still.index, settings)
            if annotation is None:
                continue
            annotations.append(annotation)
            if annotation["person_id"] >= 0:
                bbox = annotation["bbox"]
                candidates.setdefault(entry.person_id, []).append(
                    _Candidate(still.index, still.camera, still.day, bbox[3], entry.visible, bbox)
                )
    return {
        "person_count": len(people),
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
        "queries": [],
    }, candidates


def _draw_stills(
    root: Path, settings: SyntheticSettings, split: str, stills: list[_Still]
) -> list[tuple[int, list[Seen]]]:
    """Writes the frames of one camera and day; returns who is seen in each, by number of the frame."""
    people = people_of(settings, split)
    passers_by = draw_appearances(settings.seed, f"{split} passers-by", settings.passers_by)
    frames = settings.train_frames if split == "train" else settings.test_frames
    drawn = []
    for still in stills:
        scene = scene_for(settings, split, still.camera, still.day, settings.frame_wh)
        rng = rng_for(settings.seed, "frame", split, still.index)
        cast = [
            (passers_by[int(rng.integers(len(passers_by)))] if person == PASSER_BY else people[person], person)
            for person in still.person_ids
        ]
        light, seen = compose(scene, spread(rng, scene, cast))
        drift = still.index * settings.days / frames % 1.0
        picture = expose(light, scene.response, settings.seed, (split, still.index), drift)
        name = _file_name(split, _camera_id(settings, split, still.camera), still.index)
        (root / name).write_bytes(jpeg(picture, scene.response))
        drawn.append((still.index, list(seen)))
    return drawn


def _camera_id(settings: SyntheticSettings, split: str, camera: int) -> int:
    return camera + (settings.train_cameras if split == "test" else 0)


def _file_name(split: str, camera_id: int, index: int) -> str:
    return f"frames/{split}/c{camera_id}_{index:05d}.jpg"


def _annotate(entry: Seen, number: int, image_id: int, settings: SyntheticSettings) -> dict[str, Any] | None:
    person_id = label(entry, settings.min_visible)
    if person_id is None:
        return None
    x1, y1, x2, y2 = entry.box_xyxy
    return {
        "id": number,
        "image_id": image_id,
        "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        "category_id": 1,
        "person_id": person_id,
        "iscrowd": 0,
    }


def _queries(candidates: dict[int, list[_Candidate]], settings: SyntheticSettings) -> list[dict[str, Any]]:
    """One query for each identity that another camera sees, too; the cameras take turns."""
    tall = _QUERY_HEIGHT * settings.frame_wh[1]
    queries = []
    for person, found in sorted(candidates.items()):
        if len({each.camera for each in found}) < 2:
            continue
        wanted = person % settings.test_cameras

        def fitness(each: _Candidate, wanted: int = wanted) -> tuple[bool, bool, bool, float]:
            clear = each.visible >= _QUERY_VISIBLE
            return clear, each.height_px >= tall, each.camera == wanted, each.height_px

        best = max(found, key=fitness)
        queries.append({"image_id": best.image_id, "bbox": best.bbox, "person_id": person})
    return queries


def _video_query(
    annotations: dict[str, Any], candidates: dict[int, list[_Candidate]], settings: SyntheticSettings
) -> dict[str, Any]:
    """The clearest and tallest picture of a test person that the video's camera took on the video's day.

    That is what somebody at a camera has in hand: a picture of the person from before, another pose at another place
    in the same light. Search across cameras and days is what the test split measures.
    """
    found = [
        (each.visible >= _QUERY_VISIBLE, each.height_px, -person, each)
        for person, seen in candidates.items()
        for each in seen
        if (each.camera, each.day) == (VIDEO_CAMERA, VIDEO_DAY)
    ]
    if not found:
        raise InputError(
            "the video's camera took no picture of a test person, so the video has no query",
            where="test_frames",
            expected="more frames than " + str(settings.test_frames),
            remedy="raise it",
        )
    _, _, person, best = max(found, key=lambda each: each[:3])
    x, y, width, height = best.bbox
    return {
        "image": annotations["images"][best.image_id]["file_name"],
        "box": [x, y, round(x + width, 2), round(y + height, 2)],
        "person_id": -person,
    }


def _description(settings: SyntheticSettings) -> dict[str, Any]:
    return {
        "format": "personsearch/1",
        "name": "synthetic",
        "terms": "Generated by this project's code; no rights of third parties.",
        "splits": {split: f"annotations/{split}.json" for split in SPLITS},
        "videos": {"search": {"file": "video/search.mp4", "annotations": "video/search.json"}},
        "generator": {
            "name": "personsearch.data.synthetic",
            "version": VERSION,
            "settings": settings.model_dump(mode="json"),
        },
    }
