"""Drawing: shading, hiding, tight boxes, patterns that turn with the body, cameras that agree on a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from personsearch.data.synthetic.appearance import PATTERNS, Appearance, Garment, draw_appearances
from personsearch.data.synthetic.camera import Camera, draw_camera
from personsearch.data.synthetic.cloth import pattern_mask
from personsearch.data.synthetic.figure import Stance, render_person
from personsearch.data.synthetic.pose import pose_at
from personsearch.data.synthetic.response import draw_response, expose, jpeg
from personsearch.data.synthetic.scene import Actor, Scene, compose
from personsearch.data.synthetic.solid import Canvas, Light, Solid

CAMERA = Camera((384, 224), 400.0, 2.4, 30.0, 4.0, 16.0)
LIGHT = Light((0.0, -0.6, 0.8), 0.5, 0.6)
PERSON = draw_appearances(0, "train", 1)[0]


def cylinder(x: float, depth: float, colour: tuple[float, float, float]) -> Solid:
    return Solid((x, 4.0, depth), (x, 36.0, depth), [(0.0, 6.0), (32.0, 6.0)], colour, 10.0)


def lit(canvas: Canvas) -> np.ndarray:
    return canvas.bgr.sum(-1)


def test_a_cylinder_covers_its_width_and_is_shaded_across() -> None:
    canvas = Canvas(40, 40)
    canvas.draw(cylinder(20.0, 0.0, (0.5, 0.5, 0.5)), LIGHT)
    row = canvas.covered[20]
    assert np.flatnonzero(row).tolist() == list(range(14, 26))
    assert not canvas.covered[:3].any()
    assert not canvas.covered[38:].any()
    values = lit(canvas)[20]
    assert values[19] > 1.2 * values[14]
    assert values[14:26] == pytest.approx(values[14:26][::-1], rel=1e-4)
    from_right = Canvas(40, 40)
    from_right.draw(cylinder(20.0, 0.0, (0.5, 0.5, 0.5)), Light((0.8, -0.4, 0.45), 0.4, 0.7))
    assert lit(from_right)[20, 25] > 1.5 * lit(from_right)[20, 14]


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_solid_hides_the_farther_in_whatever_order(near_first: bool) -> None:
    canvas = Canvas(40, 40)
    red, blue = cylinder(18.0, 20.0, (0.0, 0.0, 1.0)), cylinder(22.0, 0.0, (1.0, 0.0, 0.0))
    for solid in (red, blue) if near_first else (blue, red):
        canvas.draw(solid, LIGHT)
    assert canvas.bgr[20, 20, 2] > 0
    assert canvas.bgr[20, 20, 0] == 0
    assert canvas.bgr[20, 26, 0] > 0


def test_what_lies_outside_the_canvas_changes_nothing() -> None:
    canvas = Canvas(40, 40)
    canvas.draw(cylinder(-30.0, 0.0, (1.0, 1.0, 1.0)), LIGHT)
    assert not canvas.covered.any()


@pytest.mark.parametrize("heading", [0.0, 1.0, 2.5, -1.6])
@pytest.mark.parametrize("z", [4.0, 9.0])
def test_the_box_is_tight_around_the_drawn_mask(heading: float, z: float) -> None:
    sprite = render_person(PERSON, pose_at(PERSON, 0.8), Stance(0.5, z, heading), CAMERA, LIGHT)
    rows, columns = np.nonzero(sprite.alpha > 0)
    x1, y1, x2, y2 = sprite.box_xyxy
    # `alpha` is above 0 in every pixel that is touched, so the box ends inside its outermost ones.
    assert sprite.left + columns.min() <= x1 < sprite.left + columns.min() + 1
    assert sprite.left + columns.max() < x2 <= sprite.left + columns.max() + 1
    assert sprite.top + rows.min() <= y1 < sprite.top + rows.min() + 1
    assert sprite.top + rows.max() < y2 <= sprite.top + rows.max() + 1


def test_height_in_pixels_follows_from_the_pinhole() -> None:
    for z in (5.0, 8.0, 14.0):
        sprite = render_person(PERSON, pose_at(PERSON, 0.0, "stand"), Stance(0.0, z, 0.3), CAMERA, LIGHT)
        height = sprite.box_xyxy[3] - sprite.box_xyxy[1]
        assert height == pytest.approx(PERSON.height_m * 400.0 / z, rel=0.06)


def test_twice_the_resolution_gives_the_same_person_twice_as_large() -> None:
    small, large = draw_camera(5, "camera1", (384, 224)), draw_camera(5, "camera1", (768, 448))
    z = (small.near_m + small.far_m) / 2
    assert (large.near_m, large.far_m) == pytest.approx((small.near_m, small.far_m))
    boxes = [
        np.array(render_person(PERSON, pose_at(PERSON, 1.0), Stance(0.4, z, 0.5), camera, LIGHT).box_xyxy)
        for camera in (small, large)
    ]
    assert boxes[1] == pytest.approx(2 * boxes[0], abs=1.5)


def bag_pixels(person: Appearance, heading: float) -> int:
    sprite = render_person(person, pose_at(person, 0.0), Stance(0.0, 5.0, heading), CAMERA, LIGHT)
    blue, green, red = np.moveaxis(sprite.bgr, -1, 0)
    return int(np.count_nonzero((green > 2 * red) & (green > 2 * blue) & (green > 0.1)))


def test_a_backpack_is_seen_from_behind_and_hardly_from_the_front() -> None:
    grey = (0.4, 0.4, 0.4)
    person = replace(
        PERSON,
        bag="backpack",
        bag_colour=(0.02, 0.6, 0.02),
        upper=Garment("plain", grey, grey, 0.15),
        upper_kind="shirt",
        sleeve_colour=grey,
        lower=grey,
        hair="short",
    )
    behind, side, front = (bag_pixels(person, heading) for heading in (np.pi, np.pi / 2, 0.0))
    assert behind > 2 * front
    assert behind > side > front


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_shows_both_colours_except_plain(pattern: str) -> None:
    # Parametrised values are plain text.
    garment = Garment(pattern, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9), 0.16)  # type: ignore[arg-type]
    down, angle = (each.ravel() for each in np.meshgrid(np.linspace(0, 0.55, 60), np.linspace(-1.5, 1.5, 60)))
    share = pattern_mask(garment, down.astype(np.float32), angle.astype(np.float32), 0.17, 0.55)
    assert share.min() >= 0
    assert share.max() <= 1
    if pattern == "plain":
        assert not share.any()
    else:
        assert 0.05 < share.mean() < 0.75


def test_stripes_run_around_and_pinstripes_run_down() -> None:
    down, angle = (each.astype(np.float32) for each in np.meshgrid(np.linspace(0, 0.5, 50), np.linspace(-1.5, 1.5, 50)))
    colours = (0.1, 0.1, 0.1), (0.9, 0.9, 0.9)
    around = pattern_mask(Garment("stripes", *colours, 0.16), down.ravel(), angle.ravel(), 0.17, 0.5).reshape(50, 50)
    along = pattern_mask(Garment("pinstripes", *colours, 0.16), down.ravel(), angle.ravel(), 0.17, 0.5).reshape(50, 50)
    assert np.ptp(around, axis=0).max() == 0
    assert np.ptp(around, axis=1).min() == 1
    assert np.ptp(along, axis=1).max() == 0
    assert np.ptp(along, axis=0).min() == 1


def empty_scene() -> Scene:
    backdrop = np.full((224, 384, 3), 0.5, np.float32)
    return Scene(CAMERA, "plaza", backdrop, (), LIGHT, (0.3, 0.4, 0.3), draw_response(0, "camera0", 0))


def standing(number: int, column: float, z: float) -> Actor:
    return Actor(PERSON, number, Stance(CAMERA.ground_x(column * 384, z), z, 0.0), 0.0, "stand")


def test_what_is_seen_of_people_alone_cut_and_hidden() -> None:
    frame, (alone, cut) = compose(empty_scene(), [standing(0, 0.5, 7.0), standing(1, 1.0, 7.0)])
    assert frame.shape == (224, 384, 3)
    assert alone.visible == pytest.approx(1.0)
    assert cut.visible == pytest.approx(0.5, abs=0.12)
    assert cut.box_xyxy[2] == 384.0
    _, (front, behind) = compose(empty_scene(), [standing(0, 0.5, 7.0), standing(1, 0.5, 8.0)])
    assert front.visible == pytest.approx(1.0)
    assert behind.visible < 0.3
    _, (outside,) = compose(empty_scene(), [standing(0, 1.4, 7.0)])
    assert outside.visible == 0.0


def test_the_box_of_a_hidden_person_is_that_of_the_whole_person() -> None:
    _, (whole,) = compose(empty_scene(), [standing(1, 0.5, 8.0)])
    _, (_, hidden) = compose(empty_scene(), [standing(0, 0.5, 7.0), standing(1, 0.5, 8.0)])
    assert hidden.box_xyxy == whole.box_xyxy


def test_a_person_throws_a_shadow_on_the_ground_beside_the_feet() -> None:
    scene = empty_scene()
    frame, (seen,) = compose(scene, [standing(0, 0.5, 6.0)])
    darker = frame.mean(-1) < 0.47
    x1, _, x2, y2 = (round(v) for v in seen.box_xyxy)
    assert darker[y2 - 6 : y2 + 3, x1 - 8 : x1].any() or darker[y2 - 6 : y2 + 3, x2 : x2 + 8].any()
    assert not darker[:20].any()


def test_cameras_render_one_scene_in_different_colours_and_repeatably() -> None:
    scene = np.random.default_rng(0).random((64, 96, 3)).astype(np.float32)
    kept = scene.copy()
    first, second = (draw_response(0, name, 0) for name in ("camera0", "camera1"))
    pictures = [expose(scene, response, 0, ("train", 1), 0.3) for response in (first, first, second)]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0].mean((0, 1)) - pictures[2].mean((0, 1))).max() > 3
    assert np.array_equal(scene, kept)
    assert not np.array_equal(pictures[0], expose(scene, first, 0, ("train", 2), 0.3))
    assert jpeg(pictures[0], first) == jpeg(pictures[1], first)
