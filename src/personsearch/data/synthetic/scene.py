"""One camera's scene: backdrop, standing things, people, shadows; composed back to front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance
from personsearch.data.synthetic.backdrop import Place, draw_backdrop, place_of
from personsearch.data.synthetic.camera import Camera, draw_camera
from personsearch.data.synthetic.figure import Sprite, Stance, render_person
from personsearch.data.synthetic.pose import Activity, Pose, pose_at
from personsearch.data.synthetic.props import Prop, draw_props
from personsearch.data.synthetic.response import Response, draw_response
from personsearch.data.synthetic.solid import Light
from personsearch.data.synthetic.texture import F32


@dataclass(frozen=True)
class Actor:
    """A person at a moment; ``person_id`` is -1 for one without identity."""

    person: Appearance
    person_id: int
    stance: Stance
    phase: float
    activity: Activity = "walk"


@dataclass(frozen=True)
class Seen:
    """What the ground truth says of an actor: the box is amodal and cut at the frame."""

    person_id: int
    box_xyxy: tuple[float, float, float, float]
    visible: float


@dataclass(frozen=True)
class Scene:
    """One camera on one day.

    Attributes:
        camera: geometry.
        backdrop: the scene without people and without what stands in it.
        props: standing things.
        light: on people and things.
        sun: ground shift of a shadow for one metre of height (X, Z), and its darkness.
        response: of the camera.
    """

    camera: Camera
    place: Place
    backdrop: F32
    props: tuple[Prop, ...]
    light: Light
    sun: tuple[float, float, float]
    response: Response


@lru_cache(maxsize=24)
def scene_of(seed: int, name: str, number: int, day: int, frame_wh: tuple[int, int]) -> Scene:
    """The scene of the camera called ``name``, the ``number``-th of all, on a day."""
    camera = draw_camera(seed, name, frame_wh)
    place = place_of(number)
    rng = rng_for(seed, "day", name, day)
    indoors = place in ("mall", "platform")
    side = float(rng.uniform(-0.8, 0.8))
    light = Light(
        _unit((side, -0.75, float(rng.uniform(0.2, 0.7)))),
        float(rng.uniform(0.52, 0.66)) if indoors else float(rng.uniform(0.4, 0.6)),
        float(rng.uniform(0.35, 0.5)) if indoors else float(rng.uniform(0.45, 0.75)),
    )
    darkness = 0.0 if indoors else float(np.clip(rng.uniform(-0.15, 0.45), 0, 1))
    sun = (-side * float(rng.uniform(0.6, 1.2)), float(rng.uniform(0.15, 0.7)), darkness)
    props = tuple(draw_props(rng, place, camera, light))
    backdrop = _backdrop(seed, name, place, camera).copy()
    for prop in sorted(props, key=lambda each: -each.z):
        _prop_shadow(backdrop, camera, prop)
    backdrop *= np.float32(light.ambient + 0.55 * light.diffuse + 0.1)
    return Scene(camera, place, np.clip(backdrop, 0, 1), props, light, sun, draw_response(seed, name, day))


@lru_cache(maxsize=12)
def _backdrop(seed: int, name: str, place: Place, camera: Camera) -> F32:
    return draw_backdrop(seed, name, place, camera)


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    size = float(np.linalg.norm(vector))
    return vector[0] / size, vector[1] / size, vector[2] / size


def compose(scene: Scene, actors: Sequence[Actor]) -> tuple[F32, list[Seen]]:
    """The light that reaches the camera, ``(H, W, 3)`` float32 BGR 0..1, and what is seen of each actor."""
    camera = scene.camera
    frame = scene.backdrop.copy()
    sprites: list[tuple[float, int, Sprite]] = [(prop.z, -1, prop.sprite) for prop in scene.props]
    for number, actor in enumerate(actors):
        pose = pose_at(actor.person, actor.phase, actor.activity)
        _person_shadow(frame, scene, pose, actor)
        sprites.append((actor.stance.z, number, render_person(actor.person, pose, actor.stance, camera, scene.light)))
    owner = np.full(frame.shape[:2], -1, np.int16)
    whole = [0] * len(actors)
    boxes: list[tuple[float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0)] * len(actors)
    for _, number, sprite in sorted(sprites, key=lambda each: -each[0]):
        _lay(frame, owner, sprite, number)
        if number >= 0:
            whole[number] = int(np.count_nonzero(sprite.alpha > 0.5))
            boxes[number] = sprite.box_xyxy
    counts = np.bincount(owner.ravel() + 1, minlength=len(actors) + 1)[1:]
    width, height = camera.frame_wh
    seen = []
    for actor, box, total, count in zip(actors, boxes, whole, counts, strict=True):
        clipped = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
        seen.append(Seen(actor.person_id, clipped, count / max(total, 1)))
    return frame, seen


def _lay(frame: F32, owner: np.ndarray, sprite: Sprite, number: int) -> None:
    height, width = owner.shape
    left, top = max(0, sprite.left), max(0, sprite.top)
    right, bottom = min(width, sprite.left + sprite.alpha.shape[1]), min(height, sprite.top + sprite.alpha.shape[0])
    if left >= right or top >= bottom:
        return
    cut = (slice(top - sprite.top, bottom - sprite.top), slice(left - sprite.left, right - sprite.left))
    alpha = sprite.alpha[cut]
    area = frame[top:bottom, left:right]
    area *= (1 - alpha)[..., None]
    area += sprite.bgr[cut]
    owner[top:bottom, left:right][alpha > 0.5] = number


def _darken(frame: F32, polygons: Sequence[tuple[np.ndarray, float]], strength: float, blur_px: float) -> None:
    """Darkens the frame along thick lines (points in pixels, thickness in pixels) with soft edges."""
    points = np.concatenate([line for line, _ in polygons])
    margin = 3 * blur_px + max(thick for _, thick in polygons) + 2
    height, width = frame.shape[:2]
    left, top = (max(0, int(points[:, i].min() - margin)) for i in (0, 1))
    right, bottom = (min((width, height)[i], int(points[:, i].max() + margin) + 1) for i in (0, 1))
    if left >= right or top >= bottom:
        return
    mask = np.zeros((bottom - top, right - left), np.float32)
    for line, thick in polygons:
        shifted = np.round((line - np.array([left, top])) * 16).astype(np.int32)
        cv2.polylines(mask, [shifted], False, 1.0, max(1, round(thick)), cv2.LINE_AA, 4)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, blur_px)), np.float32)
    frame[top:bottom, left:right] *= (1 - np.float32(strength) * np.clip(mask, 0, 1))[..., None]


def _ground_points(camera: Camera, points: np.ndarray) -> np.ndarray:
    columns, rows = camera.project(points[:, 0], np.zeros(len(points)), np.maximum(points[:, 1], 0.5))
    return np.stack([columns, rows], 1)


def _person_shadow(frame: F32, scene: Scene, pose: Pose, actor: Actor) -> None:
    camera, stance = scene.camera, actor.stance
    unit = camera.scale(stance.z)
    cosine, sine = np.cos(stance.heading), np.sin(stance.heading)
    slant_x, slant_z, darkness = scene.sun

    def on_ground(names: Sequence[str], slanted: bool) -> np.ndarray:
        found = []
        for name in names:
            left, up, forward = pose.joints[name]
            x = stance.x + left * cosine + forward * sine
            z = stance.z - (-left * sine + forward * cosine)
            found.append((x + slant_x * up * slanted, z + slant_z * up * slanted))
        return _ground_points(camera, np.array(found))

    thick = 0.1 * unit
    if darkness > 0.02:
        lines = [(on_ground(("pelvis", "neck"), True), 0.3 * unit), (on_ground(("neck", "head"), True), 0.17 * unit)]
        for side in ("left", "right"):
            lines.append((on_ground([f"{side}_{part}" for part in ("hip", "knee", "ankle", "toe")], True), thick))
            lines.append((on_ground([f"{side}_{part}" for part in ("shoulder", "elbow", "wrist")], True), 0.07 * unit))
        _darken(frame, lines, darkness, 0.025 * unit)
    feet = [(on_ground((f"{side}_ankle", f"{side}_toe"), False), thick) for side in ("left", "right")]
    _darken(frame, feet, 0.45, 0.05 * unit)
    below = on_ground(("left_hip", "right_hip"), False)
    _darken(frame, [(below, 0.35 * unit * camera.height_m / stance.z + 2)], 0.3, 0.16 * unit)


def _prop_shadow(frame: F32, camera: Camera, prop: Prop) -> None:
    reach = prop.radius_m * 0.7
    line = _ground_points(camera, np.array([(prop.x - reach, prop.z), (prop.x + reach, prop.z)]))
    unit = camera.scale(prop.z)
    _darken(frame, [(line, 0.4 * unit * camera.height_m / prop.z + 2)], 0.4, 0.12 * unit)
