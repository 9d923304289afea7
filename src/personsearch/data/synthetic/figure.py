"""A person as an image: solids on the joints of a pose, projected by a camera, with a soft mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.data.synthetic import cloth
from personsearch.data.synthetic.appearance import Appearance
from personsearch.data.synthetic.camera import Camera
from personsearch.data.synthetic.pose import Point, Pose
from personsearch.data.synthetic.solid import Canvas, Colour, Light, Paint, Solid, capsule, lathe
from personsearch.data.synthetic.texture import F32


@dataclass(frozen=True)
class Sprite:
    """An image to lay over a frame.

    Attributes:
        left: column of its first pixel in the frame (may be negative), and ``top`` its row.
        top: see ``left``.
        bgr: ``(H, W, 3)`` float32 0..1, premultiplied by ``alpha``.
        alpha: ``(H, W)`` float32 0..1.
        box_xyxy: tight box of what is at least half covered, frame pixels, not clipped at the frame.
    """

    left: int
    top: int
    bgr: F32
    alpha: F32
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Stance:
    """Where a person is and looks: ground position in metres and heading (0 towards the camera, radians)."""

    x: float
    z: float
    heading: float


def render_person(person: Appearance, pose: Pose, stance: Stance, camera: Camera, light: Light) -> Sprite:
    """Draws a person as the camera sees it, whole, even where the frame would cut it."""
    tall = person.height_m * camera.scale(stance.z)
    oversampling = 3 if tall < 110 else 2
    body = _Body(person, pose, stance, camera, oversampling)
    return render_solids(body.solids(), light, oversampling)


def render_solids(solids: list[Solid], light: Light, oversampling: int) -> Sprite:
    """Draws solids, given in frame pixels times ``oversampling``, and averages down to frame pixels."""
    bounds = np.array([solid.bounds() for solid in solids])
    left, top = (int(np.floor(bounds[:, i].min() / oversampling)) - 1 for i in (0, 1))
    width, height = (int(np.ceil(bounds[:, i + 2].max() / oversampling)) + 1 - (left, top)[i] for i in (0, 1))
    canvas = Canvas(width * oversampling, height * oversampling)
    origin = (-left * oversampling, -top * oversampling)
    for solid in solids:
        canvas.draw(_moved(solid, origin), light)
    return finish(canvas.bgr, canvas.covered, left, top, oversampling)


def finish(bgr: F32, covered: NDArray[np.bool_], left: int, top: int, oversampling: int) -> Sprite:
    """Averages an oversampled drawing down to a sprite with soft edges and a tight box."""
    wh = (covered.shape[1] // oversampling, covered.shape[0] // oversampling)
    alpha = np.asarray(cv2.resize(covered.astype(np.float32), wh, interpolation=cv2.INTER_AREA), np.float32)
    colours = np.asarray(cv2.resize(bgr * covered[..., None], wh, interpolation=cv2.INTER_AREA), np.float32)
    columns, rows = np.nonzero(covered.any(0))[0], np.nonzero(covered.any(1))[0]
    if not columns.size:
        return Sprite(left, top, colours, alpha, (float(left), float(top), float(left), float(top)))
    box = (
        left + columns[0] / oversampling,
        top + rows[0] / oversampling,
        left + (columns[-1] + 1) / oversampling,
        top + (rows[-1] + 1) / oversampling,
    )
    return Sprite(left, top, colours, alpha, box)


def _moved(solid: Solid, by: tuple[int, int]) -> Solid:
    start = (solid.start[0] + by[0], solid.start[1] + by[1], solid.start[2])
    end = (solid.end[0] + by[0], solid.end[1] + by[1], solid.end[2])
    return Solid(start, end, solid.profile, solid.paint, solid.px_per_m, solid.flatness, solid.yaw, solid.folds)


class _Body:
    """Builds the solids of one person in one pose."""

    def __init__(self, person: Appearance, pose: Pose, stance: Stance, camera: Camera, oversampling: int) -> None:
        self._person, self._pose, self._stance, self._camera = person, pose, stance, camera
        self._oversampling = oversampling
        self._unit = camera.scale(stance.z) * oversampling
        self._size = person.height_m
        # The body is seen from the side of its place in the frame, too.
        self._yaw = stance.heading + float(np.arctan2(stance.x, stance.z))

    def _view(self, point: Point) -> tuple[float, float, float]:
        heading = self._stance.heading
        right = point[0] * np.cos(heading) + point[2] * np.sin(heading)
        near = -point[0] * np.sin(heading) + point[2] * np.cos(heading)
        column, row = self._camera.project(self._stance.x + right, point[1], self._stance.z - near)
        # Seen from above, a higher point is nearer, too; it decides what hides what.
        climb = (self._camera.height_m - 0.9) / self._stance.z
        depth = (near + point[1] * climb) * self._unit
        return float(column) * self._oversampling, float(row) * self._oversampling, float(depth)

    def _shown(self, start: Point, end: Point) -> tuple[float, float]:
        """Length in canvas pixels, and canvas pixels for a metre along the part.

        A part that points at the viewer is short in the image: its pattern is squeezed with it.
        """
        first, last = self._view(start), self._view(end)
        length = float(np.hypot(last[0] - first[0], last[1] - first[1]))
        real = max(float(np.linalg.norm(end - start)) * self._unit, 1e-6)
        return length, self._unit * max(length / real, 0.05)

    def _limb(
        self,
        start: Point,
        end: Point,
        radii_m: tuple[float, float],
        paint: Paint | Colour,
        folds: float = 0.0,
        bulge_m: float = 0.0,
    ) -> Solid:
        length, shown = self._shown(start, end)
        profile = capsule(length, radii_m[0] * self._unit, radii_m[1] * self._unit, bulge_m * self._unit)
        return Solid(self._view(start), self._view(end), profile, paint, shown, 1.0, self._yaw, folds)

    def _upright(
        self,
        top: Point,
        bottom: Point,
        outline: list[tuple[float, float]],
        paint: Paint | Colour,
        flatness: float = 1.0,
        folds: float = 0.0,
    ) -> Solid:
        length, shown = self._shown(top, bottom)
        profile = lathe(length, self._size * self._unit, outline)
        return Solid(self._view(top), self._view(bottom), profile, paint, shown, flatness, self._yaw, folds)

    def solids(self) -> list[Solid]:
        """Every part, in canvas pixels; their depths decide what hides what."""
        return [*self._legs(), *self._torso(), *self._arms(), *self._head(), *self._bag()]

    def _legs(self) -> list[Solid]:
        person, joints, size = self._person, self._pose.joints, self._size
        wide = size * (0.6 + 0.4 * person.girth)
        bare = person.lower_kind in ("shorts", "skirt")
        thigh_radii = (0.057 * wide, 0.043 * wide)
        shin_radii = (0.034 * wide, 0.023 * wide) if bare else (0.041 * wide, 0.034 * wide)
        solids = [self._hips()] if person.lower_kind != "skirt" else []
        for side in ("left", "right"):
            hip, knee, ankle, toe = (joints[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "toe"))
            thigh = cloth.leg_paint(person, shin=False, length_m=0.245 * size)
            shin = cloth.leg_paint(person, shin=True, length_m=0.24 * size)
            folds = 0.0 if person.lower_kind == "skirt" else 0.07
            # The cap of the thigh begins below the joint, or it would come through the shirt.
            solids.append(self._limb(hip + 0.2 * (knee - hip), knee, thigh_radii, thigh, folds))
            solids.append(self._limb(knee, ankle, shin_radii, shin, 0.0 if bare else 0.07, 0.008 * size if bare else 0))
            heel = ankle + np.array([0.0, -0.012 * size, -0.018 * size])
            solids.append(self._limb(heel, toe, (0.024 * size, 0.017 * size), person.shoes))
        return solids

    def _hips(self) -> Solid:
        person, joints = self._person, self._pose.joints
        top = joints["pelvis"] + np.array([0.0, 0.01 * self._size, 0.0])
        crotch = joints["pelvis"] - np.array([0.0, 0.055 * self._size, 0.0])
        wide = 0.093 * person.girth
        outline = [(0.0, 0.0), (0.02, wide), (0.55, wide), (0.85, 0.8 * wide), (1.0, 0.0)]
        paint = cloth.leg_paint(person, shin=False, length_m=0.3 * self._size)
        return self._upright(top, crotch, outline, paint, 0.56, 0.06)

    def _torso(self) -> list[Solid]:
        person, joints = self._person, self._pose.joints
        girth, shoulders = person.girth, person.shoulders * (0.75 + 0.25 * person.girth)
        loose = 1.08 if person.upper_kind != "shirt" else 1.0
        neck, pelvis = joints["neck"], joints["pelvis"]
        below = pelvis + (pelvis - neck) * 0.08
        length_m = float(np.linalg.norm(below - neck))
        outline = [
            (-0.06, 0.0),
            (-0.05, 0.034),
            (0.0, 0.046),
            (0.03, 0.075 * shoulders),
            (0.06, 0.107 * shoulders),
            (0.1, 0.122 * shoulders),
            (0.18, 0.122 * shoulders * loose),
            (0.4, 0.107 * loose * (0.5 + 0.5 * girth)),
            (0.64, 0.093 * girth * loose),
            (0.86, 0.101 * girth * loose),
            (0.97, 0.102 * girth * loose),
            (1.0, 0.09 * girth),
            (1.02, 0.0),
        ]
        flatness = min(0.95, 0.6 + 0.5 * max(0.0, girth - 0.95))
        solids = [self._upright(neck, below, outline, cloth.torso_paint(person, length_m), flatness, 0.06)]
        thighs = (joints["left_knee"] + joints["right_knee"]) / 2
        spread = abs(float(joints["left_knee"][2] - joints["right_knee"][2])) / self._size
        waist = joints["waist"]
        if person.lower_kind == "skirt":
            hem = pelvis + (thighs - pelvis) * 0.92
            wide = 0.115 * girth + 0.22 * spread
            flare = [(0.0, 0.0), (0.01, 0.083 * girth), (0.35, 0.1 * girth), (0.98, wide), (1.0, 0.0)]
            solids.append(self._upright(waist, hem, flare, cloth.skirt_paint(person), 0.8 + 1.2 * spread, 0.1))
        if person.upper_kind == "coat":
            hem = pelvis + (thighs - pelvis) * 0.98
            wide = 0.11 * girth + 0.18 * spread
            flare = [(0.0, 0.0), (0.01, 0.094 * girth), (0.35, 0.106 * girth), (0.98, wide), (1.0, 0.0)]
            solids.append(self._upright(waist, hem, flare, cloth.coat_paint(person), 0.78 + 1.2 * spread, 0.07))
        return solids

    def _arms(self) -> list[Solid]:
        person, joints, size = self._person, self._pose.joints, self._size
        wide = size * (0.65 + 0.35 * person.girth) * (1.12 if person.upper_kind != "shirt" else 1.0)
        bare = person.sleeve == "short"
        solids = []
        for side in ("left", "right"):
            shoulder, elbow, wrist = (joints[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist"))
            upper = cloth.sleeve_paint(person, offset_m=0.0, length_m=0.168 * size)
            lower = cloth.sleeve_paint(person, offset_m=0.168 * size, length_m=0.168 * size)
            radii = (0.021 * wide, 0.016 * wide) if bare else (0.027 * wide, 0.022 * wide)
            solids.append(self._limb(shoulder, elbow, (0.033 * wide, 0.027 * wide), upper, 0.06))
            solids.append(self._limb(elbow, wrist, radii, lower, 0.0 if bare else 0.06))
            hand = wrist + (wrist - elbow) * 0.22
            solids.append(self._limb(wrist, hand, (0.015 * size, 0.017 * size), person.skin))
        return solids

    def _head(self) -> list[Solid]:
        person, joints, size = self._person, self._pose.joints, self._size
        head, neck = joints["head"], joints["neck"]
        up = (head - neck) / np.linalg.norm(head - neck)
        crown, chin = head + up * 0.075 * size, head - up * 0.06 * size
        outline = [
            (0.0, 0.0),
            (0.02, 0.018),
            (0.08, 0.032),
            (0.2, 0.044),
            (0.38, 0.05),
            (0.6, 0.047),
            (0.8, 0.038),
            (0.94, 0.024),
            (1.0, 0.0),
        ]
        if person.hair in ("beanie", "hood"):
            outline = [(-0.05, 0.0), (-0.02, 0.024), (0.07, 0.042), (0.2, 0.052), (0.36, 0.056), *outline[5:]]
        solids = [
            self._limb(neck, head - up * 0.03 * size, (0.028 * size, 0.026 * size), person.skin),
            self._upright(crown, chin, outline, cloth.head_paint(person, 0.135 * size), 1.12),
        ]
        back = np.array([0.0, 0.0, -1.0])
        if person.hair == "long":
            top, tip = head + back * 0.03 * size, neck + back * 0.052 * size - up * 0.05 * size
            solids.append(self._limb(top, tip, (0.05 * size, 0.034 * size), person.hair_colour, 0.1))
        elif person.hair == "bun":
            bun = head + back * 0.055 * size + up * 0.045 * size
            solids.append(self._limb(bun, bun + up * 0.004, (0.026 * size, 0.026 * size), person.hair_colour))
        elif person.hair == "cap":
            brow = head + up * 0.032 * size - back * 0.03 * size
            brim = head + up * 0.026 * size - back * 0.085 * size
            solids.append(self._limb(brow, brim, (0.03 * size, 0.018 * size), person.hat_colour))
        elif person.hair == "hood":
            nape = neck + back * 0.045 * size
            hood = person.upper.primary
            solids.append(self._limb(nape, nape + up * 0.02 * size, (0.05 * size, 0.05 * size), hood, 0.08))
        return solids

    def _bag(self) -> list[Solid]:
        person, joints, size = self._person, self._pose.joints, self._size
        if person.bag == "none":
            return []
        neck, pelvis = joints["neck"], joints["pelvis"]
        spine = pelvis - neck
        colour = person.bag_colour
        dark = (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7)
        rounded = [(0.0, 0.0), (0.03, 0.045), (0.12, 0.068), (0.5, 0.078), (0.9, 0.078), (0.98, 0.06), (1.0, 0.0)]
        if person.bag == "backpack":
            behind = np.array([0.0, 0.0, -(0.068 + 0.03 * person.girth) * size])
            top, bottom = neck + spine * 0.08 + behind, neck + spine * 0.78 + behind
            return [self._upright(top, bottom, rounded, cloth.backpack_paint(person), 0.72)]
        side = float(person.bag_side)
        if person.bag == "shoulder":
            at = pelvis + np.array([side * 0.105 * size * person.girth, 0.03 * size, -0.01 * size])
            box = [(0.0, 0.0), (0.04, 0.05), (0.15, 0.06), (0.9, 0.064), (1.0, 0.0)]
            return [self._upright(at, at - np.array([0.0, 0.115 * size, 0.0]), box, colour, 0.9)]
        hand = joints["left_wrist" if side > 0 else "right_wrist"]
        top = hand - np.array([0.0, 0.055 * size, 0.0])
        box = [(0.0, 0.0), (0.02, 0.06), (0.5, 0.066), (0.97, 0.07), (1.0, 0.0)]
        strap = self._limb(hand, top, (0.008 * size, 0.008 * size), dark)
        return [strap, self._upright(top, top - np.array([0.0, 0.16 * size, 0.0]), box, colour, 1.1)]
