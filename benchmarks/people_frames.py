"""Frames in which a known number of people is visible, for timing: the work of a frame grows with its people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance, draw_appearances
from personsearch.data.synthetic.crowd import spread
from personsearch.data.synthetic.props import Prop
from personsearch.data.synthetic.response import expose
from personsearch.data.synthetic.scene import Actor, Scene, compose, scene_of
from personsearch.data.synthetic.texture import F32

MIN_VISIBLE = 0.4
FRAMES_A_SCENE = 8
_ATTEMPTS = 24
_ATTEMPTS_A_SCENE = 4
_HALF_M = 0.25
_MIN_BOARD = 0.5  # of a board: arms and legs let more be seen, what stands in the scene less


def people_frames(count: int, frame_wh: tuple[int, int], people: int, *, seed: int = 0) -> list[Frame]:
    """Distinct generated frames, ``(H, W, 3)`` uint8 BGR, each with exactly ``people`` people in view.

    Each person shows at least two fifths of the body. Scenes change every eight frames. The same arguments give the
    same frames.

    Args:
        count: of frames.
        frame_wh: their size in pixels.
        people: in each frame, 0 or more.
        seed: of scenes, people and places.

    Raises:
        InputError: so many do not find room in a scene.
    """
    with StageProgress("frames with people", count) as progress:
        frames = []
        for frame in _generate(count, frame_wh, people, seed):
            frames.append(frame)
            progress.advance()
    return frames


def _generate(count: int, frame_wh: tuple[int, int], people: int, seed: int) -> Iterator[Frame]:
    crowd = draw_appearances(seed, "timing", max(people, 1) * 4)
    for number in range(count):
        rng = rng_for(seed, "timing", number)
        for attempt in range(_ATTEMPTS):
            # Some scenes have no room for so many: after a few throws the next one is tried.
            place = number // FRAMES_A_SCENE + attempt // _ATTEMPTS_A_SCENE
            scene = scene_of(seed, f"timing {place}", place, 0, frame_wh)
            # Chosen from the farthest on, more find room; otherwise near and far people are mixed as they come.
            light = _crowded(rng, scene, crowd, people, far_first=attempt % 2 == 1)
            if light is not None:
                yield expose(light, scene.response, seed, ("timing", number), number / count)
                break
        else:
            raise InputError(
                f"{people} people do not find room in a generated frame of {frame_wh[0]}x{frame_wh[1]}",
                expected="fewer people",
                remedy="or frames of your own, with `--source`",
            )


def _crowded(
    rng: np.random.Generator, scene: Scene, crowd: Sequence[Appearance], people: int, *, far_first: bool
) -> F32 | None:
    """The scene's light with ``people`` people in view, or none where this throw of the dice hid too many."""
    actors = spread(rng, scene, [(crowd[int(index)], int(index)) for index in rng.permutation(len(crowd))])
    if far_first:
        actors.sort(key=lambda actor: -actor.stance.z)
    chosen: list[Actor] = []
    for actor in actors:
        if len(chosen) < people and _all_shown(scene, [*chosen, actor]):
            chosen.append(actor)
    if len(chosen) < people:
        return None
    light, seen = compose(scene, chosen)
    return light if all(one.visible >= MIN_VISIBLE for one in seen) else None


def _all_shown(scene: Scene, actors: Sequence[Actor]) -> bool:
    """Whether enough is left of each by people and things before, bodies taken as boards.

    To draw every trial instead would take seconds.

    Args:
        scene: its camera and what stands there.
        actors: in any order.
    """
    camera = scene.camera
    width, height = camera.frame_wh
    covered = np.zeros((height, width), bool)
    standing: list[tuple[float, Actor | Prop]] = [(one.stance.z, one) for one in actors]
    standing += [(one.z, one) for one in scene.props]
    for _, entry in sorted(standing, key=itemgetter(0)):
        if isinstance(entry, Prop):
            left, top = max(entry.sprite.left, 0), max(entry.sprite.top, 0)
            mask = entry.sprite.alpha[top - entry.sprite.top :, left - entry.sprite.left :] > 0.5
            part = covered[top : top + mask.shape[0], left : left + mask.shape[1]]
            part |= mask[: part.shape[0], : part.shape[1]]
            continue
        x, z = entry.stance.x, entry.stance.z
        columns, rows = camera.project(np.array([x - _HALF_M, x + _HALF_M]), np.array([entry.person.height_m, 0.0]), z)
        left, right = np.clip(columns, 0, width).astype(int)
        top, bottom = np.clip(rows, 0, height).astype(int)
        board = covered[top:bottom, left:right]
        if not board.size or 1 - board.mean() < _MIN_BOARD:
            return False
        board[:] = True
    return True
