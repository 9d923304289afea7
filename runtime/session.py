"""One search of one source: outputs written beside, published whole, with a summary."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import cv2
import numpy as np

from personsearch import __version__
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.runtime.channel import Mode
from personsearch.runtime.engine import Engine
from personsearch.runtime.frames import Source
from personsearch.runtime.gallery import Gallery
from personsearch.runtime.matching import Matcher, Visit, VisitTracker
from personsearch.runtime.pipeline import Outcome, run_pipeline
from personsearch.runtime.query import PersonQuery
from personsearch.runtime.sinks import (
    AnnotatedVideo,
    CropPictures,
    DetectionLines,
    FrameResult,
    MatchLines,
    Sink,
    figures_of,
    place_of,
)
from personsearch.runtime.timings import StageTimings

FORMAT = "personsearch-stream/1"
SUMMARY = "summary.json"
# The newest people, for the ranked sightings at the end: 20 MB at 256 values each.
_GALLERY_ROWS = 20_000
_SIGHTINGS = 5
_LIVE_RATE_HZ = 15.0


@dataclass(frozen=True)
class SearchSettings:
    """What a search can be told.

    Attributes:
        mode: ``auto`` is ``latest`` for a live source and ``every`` for the others.
        threshold: cosine from which on a detection is a match, or none for the artifact's own.
        max_frames: frames to process at most.
        video: write the annotated video.
        all_detections: write every detection, not only matches.
        embeddings: write the embeddings of all detections.
        crops: write pictures of the best matches.
        visit_gap_s: a pause in matches longer than this ends a visit.
        visit_frames: a visit with fewer matched frames is only counted.
    """

    mode: Literal["auto", "every", "latest"] = "auto"
    threshold: float | None = None
    max_frames: int | None = None
    video: bool = True
    all_detections: bool = False
    embeddings: bool = False
    crops: bool = False
    visit_gap_s: float = 2.0
    visit_frames: int = 2


def check_output(out: Path) -> Path:
    """The absolute output folder: new, empty, or one that an earlier search wrote and this one may replace.

    Raises:
        InputError: there is something else, which replacing the folder would delete.
    """
    resolved = out.expanduser().resolve()
    if resolved.exists() and not resolved.is_dir():
        raise InputError("is a file", where=str(out), expected="a folder to write, new or of an earlier search")
    if resolved in (Path.cwd(), *Path.cwd().parents):
        raise InputError("is the folder you are in, or above it", where=str(out), expected="a folder of its own")
    if not resolved.is_dir() or not any(resolved.iterdir()):
        return resolved
    try:
        content = json.loads((resolved / SUMMARY).read_text(encoding="utf-8"))
        ours = isinstance(content, dict) and content.get("format") == FORMAT
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise InputError(
            "holds other files, which would be lost",
            where=str(out),
            expected="a new or empty folder, or one of an earlier search",
            remedy="choose another `--out`",
        )
    return resolved


def search_source(
    engine: Engine,
    source: Source,
    queries: Sequence[PersonQuery],
    out: Path,
    settings: SearchSettings,
    *,
    stop: threading.Event,
    on_frame: Callable[[FrameResult], None] = lambda result: None,
) -> dict[str, Any]:
    """Searches ``source`` and publishes the results as the folder ``out``; returns its summary.

    The folder appears whole when the source has ended or ``stop`` was set. On any error there is none, and what
    an earlier search left there stays.

    Args:
        engine: stays open.
        source: is closed.
        queries: at least one.
        out: see `check_output`.
        settings: what to write, and how.
        stop: ends the search early.
        on_frame: called with each result in the calling thread.

    Raises:
        InputError: the source gives no frame or is cut short, or a result cannot be written.
        KeyboardInterrupt: ``stop`` was set before the first frame: there is nothing to publish.
    """
    out = check_output(out)
    mode: Mode = ("latest" if source.live else "every") if settings.mode == "auto" else settings.mode
    threshold = engine.spec.match_threshold if settings.threshold is None else settings.threshold
    timings, matcher = StageTimings(), Matcher(queries, threshold)
    record = _Record(engine, queries, settings)
    with atomic_dir(out) as folder:
        video, sinks = _open_sinks(folder, engine, source, queries, settings, mode, timings)

        def take(result: FrameResult) -> None:
            record.add(result)
            on_frame(result)

        started = perf_counter()
        outcome = run_pipeline(
            engine,
            source,
            matcher,
            sinks,
            mode=mode,
            timings=timings,
            stop=stop,
            max_frames=settings.max_frames,
            on_frame=take,
        )
        wall_s = perf_counter() - started
        if outcome.counters.processed == 0:
            if outcome.stopped:
                raise KeyboardInterrupt
            raise InputError("gives no frame", where=source.label, expected="at least one frame that can be decoded")
        summary = {
            "format": FORMAT,
            **_how(engine, source, settings, mode, threshold, outcome),
            "wall_s": round(wall_s, 3),
            "processed_per_s": round(outcome.counters.processed / wall_s, 2),
            "stages": timings.summary(),
            "queries": record.summary(),
            "video": None
            if video is None or video.video is None
            else {
                "codec": video.video.codec,
                "frames": video.video.count,
                "rate_hz": round(video.rate_hz, 3),
            },
            "files": sorted(path.name for path in folder.iterdir()),
            "notes": [note for query in queries for note in query.notes] + _notes(source, outcome),
        }
        write_json(folder / SUMMARY, summary)
    return summary


def _open_sinks(
    folder: Path,
    engine: Engine,
    source: Source,
    queries: Sequence[PersonQuery],
    settings: SearchSettings,
    mode: Mode,
    timings: StageTimings,
) -> tuple[AnnotatedVideo | None, list[Sink]]:
    sinks: list[Sink] = [MatchLines(folder, queries)]
    if settings.all_detections or settings.embeddings:
        sinks.append(
            DetectionLines(folder, queries, embedding_dim=engine.spec.embedding_dim, embeddings=settings.embeddings)
        )
    if settings.crops:
        sinks.append(CropPictures(folder, queries))
    if not settings.video:
        return None, sinks
    rate_hz = min(source.rate_hz, _LIVE_RATE_HZ) if mode == "latest" else source.rate_hz
    video = AnnotatedVideo(folder, queries, rate_hz=rate_hz, real_time=mode == "latest", timings=timings)
    return video, [*sinks, video]


def _how(
    engine: Engine, source: Source, settings: SearchSettings, mode: Mode, threshold: float, outcome: Outcome
) -> dict[str, Any]:
    spec = engine.spec
    limited = settings.max_frames is not None and outcome.counters.processed == settings.max_frames
    return {
        "ended_by": "user" if outcome.stopped else "max_frames" if limited else "source",
        "source": {
            "label": source.label,
            "live": source.live,
            "frame_count": source.frame_count,
            "rate_hz": round(source.rate_hz, 3),
        },
        "artifact": {
            "name": spec.name,
            "precision": spec.precision,
            "search_sha256": spec.detector_graph.sha256,
            "score_threshold": spec.score_threshold,
        },
        "settings": {**asdict(settings), "mode": mode, "threshold": threshold},
        "engine": engine.label,
        "versions": {"personsearch": __version__, "numpy": np.__version__, "opencv": cv2.__version__},
        "frames": asdict(outcome.counters),
    }


def _notes(source: Source, outcome: Outcome) -> list[str]:
    notes = list(source.notes)
    if outcome.counters.undrawn:
        notes.append(f"{outcome.counters.undrawn} frames are not in the video: the encoder was too slow for the source")
    if outcome.hung:
        notes.append("the source did not react when it was closed, and was left behind")
    return notes


class _Record:
    """Per query: visits, and the most similar people of the stream whatever the threshold."""

    def __init__(self, engine: Engine, queries: Sequence[PersonQuery], settings: SearchSettings) -> None:
        self._queries, self._gap_s = queries, settings.visit_gap_s
        self._visits = [VisitTracker(settings.visit_gap_s, settings.visit_frames) for _ in queries]
        self._matched = [0] * len(queries)
        self._gallery = Gallery(engine.spec.embedding_dim, _GALLERY_ROWS)
        self._places: dict[int, dict[str, Any]] = {}
        self._step = 0

    def add(self, result: FrameResult) -> None:
        """Takes one frame."""
        for match in result.matches:
            if match.is_best:
                self._matched[match.query] += 1
                self._visits[match.query].add(self._step, result.index, result.time_s, match.similarity, result.name)
        self._step += 1
        ids = self._gallery.add(result.detections.embeddings, result.time_s)
        for row, id_ in enumerate(ids):
            self._places[id_] = {**place_of(result), "box_xyxy": figures_of(result, row)["box_xyxy"]}
        # Times rise, so the gallery forgets the lowest ids first, and so does this.
        while len(self._places) > len(self._gallery):
            del self._places[next(iter(self._places))]

    def summary(self) -> list[dict[str, Any]]:
        """One entry a query."""
        entries = []
        for query, tracker, matched in zip(self._queries, self._visits, self._matched, strict=True):
            visits, brief = tracker.finish()
            entries.append(
                {
                    "name": query.name,
                    "crops": list(query.crops),
                    "matched_frames": matched,
                    "visits": [_visit(visit) for visit in visits],
                    "brief_visits": brief,
                    "most_similar": self._sightings(query),
                }
            )
        return entries

    def _sightings(self, query: PersonQuery) -> list[dict[str, Any]]:
        """The most similar people, at most one for each stretch of ``visit_gap_s``."""
        best: dict[int, float] = {}
        for hits in self._gallery.search(query.mean_embedding, limit=len(self._gallery)):
            best.update((hit.id, hit.similarity) for hit in hits)
        chosen: list[dict[str, Any]] = []
        for id_, similarity in sorted(best.items(), key=lambda item: (-item[1], item[0])):
            place = self._places[id_]
            if all(abs(place["time_s"] - other["time_s"]) > self._gap_s for other in chosen):
                chosen.append({**place, "similarity": round(similarity, 4)})
                if len(chosen) == _SIGHTINGS:
                    break
        return chosen


def _visit(visit: Visit) -> dict[str, Any]:
    name = {"best_name": visit.best_name} if visit.best_name else {}
    return {
        "start_s": round(visit.start_s, 3),
        "end_s": round(visit.end_s, 3),
        "frames": visit.frames,
        "best_similarity": round(visit.best_similarity, 4),
        "best_frame": visit.best_frame,
        "best_time_s": round(visit.best_time_s, 3),
        **name,
    }
