"""Who is where: people spread over a still frame, and people who walk through a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance
from personsearch.data.synthetic.camera import Camera
from personsearch.data.synthetic.figure import Stance
from personsearch.data.synthetic.pose import Activity
from personsearch.data.synthetic.scene import Actor, Scene
from personsearch.data.synthetic.settings import SyntheticSettings

ACTIVITIES: tuple[Activity, ...] = ("walk", "stand", "phone")
PASSER_BY = -1


def schedule(settings: SyntheticSettings, split: str) -> list[tuple[int, int, tuple[int, ...]]]:
    """For each still frame: camera (counted within the split), day, and the identities in it.

    Every identity belongs to some cameras (of the test split: to all) and comes up equally often in each, a passer-by
    is -1. Frames of a camera are ordered in time.
    """
    train = split == "train"
    cameras = settings.train_cameras if train else settings.test_cameras
    identities = settings.train_identities if train else settings.test_identities
    frames = settings.train_frames if train else settings.test_frames
    members: list[list[int]] = [[] for _ in range(cameras)]
    for person in range(identities):
        count = settings.cameras_per_identity if train else cameras
        chosen = rng_for(settings.seed, "cameras of", split, person).permutation(cameras)[:count]
        for camera in chosen:
            members[int(camera)].append(person)
    rng = rng_for(settings.seed, "schedule", split)
    decks: list[list[int]] = [[] for _ in range(cameras)]
    plan = []
    for frame in range(frames):
        camera = frame % cameras
        day = frame * settings.days // frames
        people: list[int] = []
        for _ in range(int(rng.integers(settings.people[0], settings.people[1] + 1))):
            if rng.random() < settings.passer_by_share or not members[camera]:
                people.append(PASSER_BY)
                continue
            if not decks[camera]:
                decks[camera] = [members[camera][int(i)] for i in rng.permutation(len(members[camera]))]
            if decks[camera][-1] not in people:
                people.append(decks[camera].pop())
        plan.append((camera, day, tuple(people)))
    return plan


def spread(rng: np.random.Generator, scene: Scene, people: Sequence[tuple[Appearance, int]]) -> list[Actor]:
    """Gives each person a place, a heading and a moment of the walk; some walk in pairs, some stand."""
    actors: list[Actor] = []
    for number, (person, person_id) in enumerate(people):
        heading = float(rng.uniform(-np.pi, np.pi))
        together = number > 0 and rng.random() < 0.2
        stance = _free_place(rng, scene, actors, heading, actors[-1].stance if together and actors else None)
        if stance is None:
            continue
        activity = ACTIVITIES[int(rng.choice(len(ACTIVITIES), p=(0.78, 0.14, 0.08)))]
        actors.append(Actor(person, person_id, stance, float(rng.uniform(0, 2 * np.pi)), activity))
    return actors


def _free_place(
    rng: np.random.Generator, scene: Scene, others: Sequence[Actor], heading: float, companion: Stance | None
) -> Stance | None:
    camera = scene.camera
    width = camera.frame_wh[0]
    for _ in range(40):
        # Even in image height: far people are many in real frames, but too small to learn from.
        z = 1 / float(rng.uniform(1 / camera.far_m, 1 / camera.near_m))
        x = camera.ground_x(float(rng.uniform(0.03, 0.97)) * width, z)
        if companion is not None:
            side = 0.62 if rng.random() < 0.5 else -0.62
            heading = companion.heading + float(rng.normal(0, 0.15))
            x = companion.x + side * float(np.cos(heading))
            z = companion.z + side * float(np.sin(heading))
            companion = None
            if not camera.near_m <= z <= camera.far_m:
                continue
        if any(np.hypot(x - prop.x, z - prop.z) < prop.radius_m + 0.3 for prop in scene.props):
            continue
        if any(np.hypot(x - o.stance.x, z - o.stance.z) < 0.55 for o in others):
            continue
        column = width / 2 + x * camera.scale(z)
        hidden = any(
            abs(column - width / 2 - o.stance.x * camera.scale(o.stance.z)) < 0.4 * camera.scale(max(z, o.stance.z))
            for o in others
        )
        # People behind each other happen, but less than chance would have it in so small a view.
        if hidden and rng.random() < 0.6:
            continue
        return Stance(x, z, heading)
    return None


def stroll(
    person: Appearance,
    person_id: int,
    camera: Camera,
    share: float,
    path: tuple[float, float, float, float],
    phase: float,
) -> Actor:
    """A walker at ``share`` (0..1) of a straight path.

    ``path`` is from column, from Z, to column, to Z; columns are shares of the frame's width.

    The phase of the gait follows from the distance walked, so that feet do not slide.
    """
    start_x = camera.ground_x(path[0] * camera.frame_wh[0], path[1])
    end_x = camera.ground_x(path[2] * camera.frame_wh[0], path[3])
    across, away = end_x - start_x, path[3] - path[1]
    walked = share * float(np.hypot(across, away))
    leg = 0.52 * person.height_m
    stride_m = 4 * leg * float(np.sin(person.stride_rad))
    stance = Stance(start_x + share * across, path[1] + share * away, float(np.arctan2(across, -away)))
    return Actor(person, person_id, stance, phase + 2 * np.pi * walked / stride_m)
