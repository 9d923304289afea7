"""The walk: joint positions of a body at a phase of its gait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.data.synthetic.appearance import Appearance

Point = NDArray[np.float64]
Activity = Literal["walk", "stand", "phone"]

# Shares of stature (Drillis and Contini, 1966, rounded).
HIP_HALF, SHOULDER_HALF = 0.052, 0.112
THIGH, SHIN, ANKLE = 0.245, 0.240, 0.035
HIP_TO_NECK, NECK_TO_HEAD = 0.305, 0.098
UPPER_ARM, FOREARM, FOOT = 0.168, 0.15, 0.1


@dataclass(frozen=True)
class Pose:
    """Joints in body axes, metres: to the person's left, up, forward; the ground under the pelvis is the origin.

    ``joints`` has ``pelvis, waist, neck, head`` and, with ``left_`` or ``right_`` before them, ``hip, knee, ankle, toe,
    shoulder, elbow, wrist``.
    """

    joints: dict[str, Point]


def pose_at(person: Appearance, phase: float, activity: Activity = "walk") -> Pose:
    """The body of ``person`` at ``phase`` (radians, one stride of two steps is 2 pi)."""
    size = person.height_m
    swing = person.stride_rad if activity == "walk" else 0.05
    joints: dict[str, Point] = {}
    lean = person.lean_rad + (0.03 if activity == "walk" else 0.0)
    _legs(joints, size, swing, phase, person.girth)
    # Whatever the legs do, the lower foot stands on the ground: this gives the walk its rise and fall.
    lowest = min(min(joints[f"{side}_{part}"][1] for part in ("ankle", "toe")) for side in ("left", "right"))
    sole = ANKLE * size * 0.55
    for name in joints:
        joints[name] = joints[name] + np.array([0.0, sole - lowest, 0.0])
    pelvis = (joints["left_hip"] + joints["right_hip"]) / 2
    joints["pelvis"] = pelvis
    spine = np.array([0.012 * size * np.sin(phase), np.cos(lean), np.sin(lean)])
    joints["neck"] = pelvis + HIP_TO_NECK * size * spine
    joints["waist"] = pelvis + 0.09 * size * spine
    nod = 0.35 if activity == "phone" else 0.05
    joints["head"] = joints["neck"] + NECK_TO_HEAD * size * np.array([0.0, np.cos(nod), np.sin(nod)])
    _arms(joints, person, phase, activity)
    return Pose(joints)


def _forward(angle: float) -> Point:
    """A downward limb turned forward by ``angle``."""
    return np.array([0.0, -np.cos(angle), np.sin(angle)])


def _legs(joints: dict[str, Point], size: float, swing: float, phase: float, girth: float) -> None:
    for side, sign, shift in (("left", 1, 0.0), ("right", -1, np.pi)):
        at = phase + shift
        thigh = swing * np.sin(at) + 0.06
        # The knee bends while its leg swings forward and is almost straight while it carries.
        knee = 0.08 + 2.1 * swing * max(0.0, float(np.cos(at + 0.35))) ** 2
        hip = np.array([sign * HIP_HALF * size * (0.7 + 0.3 * girth), 0.0, 0.0])
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = hip + THIGH * size * _forward(thigh)
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + SHIN * size * _forward(thigh - knee)
        lift = 0.9 * (thigh - knee) if thigh - knee < 0 else 0.5 * (thigh - knee)
        toe = np.array([sign * 0.16, -0.16 + np.sin(lift), np.cos(lift)])
        joints[f"{side}_toe"] = joints[f"{side}_ankle"] + FOOT * size * toe


def _arms(joints: dict[str, Point], person: Appearance, phase: float, activity: Activity) -> None:
    size = person.height_m
    for side, sign, shift in (("left", 1, np.pi), ("right", -1, 0.0)):
        swing = person.arm_swing_rad * np.sin(phase + shift) if activity == "walk" else 0.04
        elbow = person.elbow_rad + 0.3 * max(0.0, float(swing))
        holds = person.bag == "tote" and sign == person.bag_side
        if activity == "phone" and sign == -person.bag_side:
            swing, elbow = 0.35, 2.0
        elif holds:
            swing, elbow = 0.3 * swing, 0.1
        out = 0.1 + 0.12 * (person.girth - 0.9)
        half = (SHOULDER_HALF - 0.008) * size * person.shoulders * (0.75 + 0.25 * person.girth)
        shoulder = joints["neck"] + np.array([sign * half, -0.05 * size, 0.0])
        joints[f"{side}_shoulder"] = shoulder
        upper = _forward(swing) + np.array([sign * out, 0.0, 0.0])
        joints[f"{side}_elbow"] = shoulder + UPPER_ARM * size * upper
        fore = _forward(swing + elbow) + np.array([sign * out * (0.2 if elbow < 1 else -4.0), 0.0, 0.0])
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + FOREARM * size * fore / np.linalg.norm(fore)
