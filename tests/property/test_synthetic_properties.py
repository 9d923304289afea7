"""What holds of every camera, body and crowd that can be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.data.synthetic.appearance import Appearance, draw_appearances
from personsearch.data.synthetic.camera import draw_camera
from personsearch.data.synthetic.crowd import stroll
from personsearch.data.synthetic.figure import Stance, render_person
from personsearch.data.synthetic.pose import FOREARM, SHIN, THIGH, UPPER_ARM, Activity, pose_at
from personsearch.data.synthetic.solid import Light

PEOPLE = draw_appearances(1, "property", 12)
phases = st.floats(-20, 20)
seeds = st.integers(0, 10_000)


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_a_camera_sees_average_people_at_the_promised_heights(seed: int, column: float, share: float) -> None:
    camera = draw_camera(seed, "camera0", (384, 224))
    z = camera.near_m + share * (camera.far_m - camera.near_m)
    x = camera.ground_x(column * 384, z)
    (back, _), (foot, head) = camera.project([x, x], [0.0, 1.75], [z, z])
    assert back == pytest.approx(column * 384, abs=1e-6)
    assert 59.9 < foot - head < 175.1
    assert foot < 224
    assert 0.8 < camera.height_m < 6


@given(st.sampled_from(PEOPLE), phases, st.sampled_from(["walk", "stand", "phone"]))
def test_limbs_keep_their_length_and_feet_the_ground(person: Appearance, phase: float, activity: Activity) -> None:
    joints = pose_at(person, phase, activity).joints
    for side in ("left", "right"):
        for share, start, end in ((THIGH, "hip", "knee"), (SHIN, "knee", "ankle"), (FOREARM, "elbow", "wrist")):
            length = np.linalg.norm(joints[f"{side}_{end}"] - joints[f"{side}_{start}"])
            assert length == pytest.approx(share * person.height_m, rel=1e-6)
        upper = np.linalg.norm(joints[f"{side}_elbow"] - joints[f"{side}_shoulder"])
        assert upper == pytest.approx(UPPER_ARM * person.height_m, rel=0.03)
    lowest = min(joints[f"{side}_{part}"][1] for side in ("left", "right") for part in ("ankle", "toe"))
    assert 0 < lowest < 0.05 * person.height_m
    assert joints["head"][1] > joints["neck"][1] > joints["pelvis"][1] > 0.4 * person.height_m


@given(st.sampled_from(PEOPLE), phases)
def test_half_a_stride_later_left_and_right_have_changed_roles(person: Appearance, phase: float) -> None:
    now, later = pose_at(person, phase).joints, pose_at(person, phase + np.pi).joints
    mirror = np.array([-1.0, 1.0, 1.0])
    for part in ("knee", "ankle", "toe"):
        assert now[f"left_{part}"] * mirror == pytest.approx(later[f"right_{part}"], abs=1e-9)
    assert pose_at(person, phase + 2 * np.pi).joints["left_knee"] == pytest.approx(now["left_knee"], abs=1e-9)


@settings(max_examples=25)
@given(st.sampled_from(PEOPLE), phases, st.floats(-3.2, 3.2), st.floats(4.5, 15), st.floats(-3, 3))
def test_anybody_anywhere_is_drawn_within_the_box(
    person: Appearance, phase: float, heading: float, z: float, x: float
) -> None:
    camera = draw_camera(7, "camera3", (384, 224))
    light = Light((0.2, -0.7, 0.68), 0.5, 0.6)
    sprite = render_person(person, pose_at(person, phase), Stance(x, z, heading), camera, light)
    x1, y1, x2, y2 = sprite.box_xyxy
    assert 0.85 < (y2 - y1) / (person.height_m * camera.scale(z)) < 1.25
    assert 0.12 < (x2 - x1) / (y2 - y1) < 0.95
    assert np.isfinite(sprite.bgr).all()
    assert sprite.bgr.min() >= 0
    assert (sprite.bgr[sprite.alpha == 0] == 0).all()


@given(st.sampled_from(PEOPLE), st.floats(0, 0.98), st.floats(5, 12), st.floats(5, 12))
def test_a_walker_looks_where_it_goes_and_steps_as_far_as_it_goes(
    person: Appearance, share: float, z1: float, z2: float
) -> None:
    camera = draw_camera(3, "camera0", (384, 224))
    path = (-0.1, z1, 1.1, z2)
    now, next_ = (stroll(person, 0, camera, at, path, 0.0) for at in (share, share + 0.01))
    step = np.array([next_.stance.x - now.stance.x, -(next_.stance.z - now.stance.z)])
    ahead = np.array([np.sin(now.stance.heading), np.cos(now.stance.heading)])
    assert step @ ahead == pytest.approx(np.linalg.norm(step), rel=1e-6)
    metres_a_stride = np.linalg.norm(step) / ((next_.phase - now.phase) / (2 * np.pi))
    assert 0.8 < metres_a_stride < 2.2
