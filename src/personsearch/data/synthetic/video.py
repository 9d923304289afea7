"""A video of a test camera through which test people walk; one of them, the query, leaves and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from personsearch.core.errors import InputError
from personsearch.core.files import write_json
from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance, draw_appearances
from personsearch.data.synthetic.camera import Camera
from personsearch.data.synthetic.crowd import PASSER_BY, stroll
from personsearch.data.synthetic.labels import label
from personsearch.data.synthetic.response import expose
from personsearch.data.synthetic.scene import Actor, compose, scene_of
from personsearch.data.synthetic.settings import SyntheticSettings


@dataclass(frozen=True)
class Walk:
    """One crossing of the view.

    Attributes:
        person: who walks, under ``person_id``.
        begin: share of the video at which the walk begins (negative: before it), and ``end``.
        path: from column, from Z, to column, to Z; columns as shares of the frame's width.
        phase: of the gait at the beginning.
    """

    person: Appearance
    person_id: int
    begin: float
    end: float
    path: tuple[float, float, float, float]
    phase: float

    def at(self, moment: float, camera: Camera) -> Actor | None:
        """The walker at ``moment`` (share of the video), or none when the walk is not on."""
        if not self.begin <= moment <= self.end:
            return None
        share = (moment - self.begin) / (self.end - self.begin)
        return stroll(self.person, self.person_id, camera, share, self.path, self.phase)


def plan_walks(
    settings: SyntheticSettings, people: tuple[Appearance, ...], query_id: int, camera: Camera
) -> list[Walk]:
    """The query's two crossings, and those of some other test people and passers-by."""
    rng = rng_for(settings.seed, "video")
    span = camera.far_m - camera.near_m
    seconds = settings.video_frames / settings.video_fps
    # Deep enough that a crossing at a walking pace takes about a third of the video.
    wanted = 1.3 * 0.36 * seconds / 1.2 * camera.focal_px / camera.frame_wh[0]
    z = min(max(wanted, camera.near_m + 0.12 * span), camera.near_m + 0.5 * span)
    query = people[query_id]
    walks = [
        Walk(query, query_id, 0.06, 0.42, (-0.1, z, 1.1, z + 0.08 * span), 0.0),
        Walk(query, query_id, 0.60, 0.96, (1.1, z + 0.2 * span, -0.1, z), 1.0),
    ]
    others = [int(i) for i in rng.permutation(len(people)) if int(i) != query_id][:5]
    passers_by = draw_appearances(settings.seed, "test passers-by", settings.passers_by)
    extras = [(people[i], i) for i in others]
    extras += [(passers_by[int(i)], PASSER_BY) for i in rng.permutation(len(passers_by))[:4]]
    for number, (person, person_id) in enumerate(extras):
        begin = -0.25 + 1.05 * number / len(extras) + float(rng.uniform(-0.04, 0.04))
        depths = camera.near_m + span * rng.uniform(0.15, 0.85, 2)
        columns = (-0.12, 1.12) if rng.random() < 0.5 else (1.12, -0.12)
        length = 0.36 * float(rng.uniform(0.95, 1.3)) * float(depths.mean()) / z
        path = (columns[0], float(depths[0]), columns[1], float(depths[1]))
        walks.append(Walk(person, person_id, begin, begin + length, path, float(rng.uniform(0, 6))))
    return walks


def write_video(
    folder: Path,
    settings: SyntheticSettings,
    people: tuple[Appearance, ...],
    query: dict[str, Any],
) -> None:
    """Writes ``search.mp4`` and ``search.json`` into ``folder``.

    Args:
        folder: made here.
        settings: size, length and rate of the video.
        people: the test people, by ``person_id``.
        query: as in the annotations: image, box and person.

    Raises:
        InputError: this OpenCV cannot write MPEG-4, or not so that it can be read again.
    """
    folder.mkdir(parents=True)
    number = settings.train_cameras
    scene = scene_of(settings.seed, f"camera{number}", number, 0, settings.video_wh)
    walks = plan_walks(settings, people, query["person_id"], scene.camera)
    path = folder / "search.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), settings.video_fps, settings.video_wh)
    if not writer.isOpened():
        raise _no_codec(path)
    frames = []
    try:
        for index in range(settings.video_frames):
            moment = index / settings.video_frames
            actors = [actor for walk in walks if (actor := walk.at(moment, scene.camera)) is not None]
            light, seen = compose(scene, actors)
            writer.write(expose(light, scene.response, settings.seed, ("video", index), 0.2 + 0.1 * moment))
            labelled = [(entry.box_xyxy, label(entry, settings.min_visible)) for entry in seen]
            kept = [(box, person_id) for box, person_id in labelled if person_id is not None]
            frames.append(
                {
                    "index": index,
                    "boxes": [[round(v, 2) for v in box] for box, _ in kept],
                    "person_ids": [person_id for _, person_id in kept],
                }
            )
    finally:
        writer.release()
    _check_readable(path, settings.video_frames)
    write_json(folder / "search.json", {"fps": settings.video_fps, "frames": frames, "query": query})


def _check_readable(path: Path, frames: int) -> None:
    reader = cv2.VideoCapture(str(path))
    try:
        count = 0
        while reader.grab():
            count += 1
    finally:
        reader.release()
    if count != frames:
        raise _no_codec(path)


def _no_codec(path: Path) -> InputError:
    return InputError(
        "this OpenCV cannot write MPEG-4 video (mp4v)",
        where=path.name,
        expected="a build with FFmpeg",
        remedy="pip install opencv-python",
    )
