"""The frames that pass through the parity gate: several scenes, and sources of several sizes and shapes.

An engine may agree on one kind of frame and not on another: a crowd fills every row of the graph and makes suppression
work, an empty street leaves all rows unused, a dark one moves all activations, and a portrait or panorama source leaves
wide bars of padding, where no detection may arise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.seeding import rng_for
from personsearch.data import IGNORE, SearchDataset
from personsearch.export.frames import draw_scene, spread

Scene = Literal["usual", "crowded", "empty", "dark"]
PLAN: tuple[tuple[Scene, float | None, float], ...] = (
    ("usual", None, 1.0),
    ("crowded", 4 / 3, 1.5),
    ("dark", 16 / 9, 1.0),
    ("usual", 9 / 16, 2.0),
    ("empty", None, 1.0),
    ("usual", 1.0, 0.6),
    ("crowded", 21 / 9, 2.0),
    ("usual", None, 0.5),
)
"""Scene, width over height of the source (none for the source's own), and its longer side in units of the input's. The
list is repeated as often as frames are wanted."""
FIGURES: dict[Scene, int] = {"usual": 12, "crowded": 40, "empty": 0, "dark": 12}
DARK_GAIN, DARK_NOISE = 0.15, 4.0
LOOKED_AT = 512
"""Of a data set at most so many frames, spread over it, are asked how many people are in them: rendered sets have
hundreds of thousands, and each has to be painted first."""


@dataclass(frozen=True, eq=False)
class GateFrame:
    """One frame of the gate.

    Attributes:
        image: letterboxed, ``(H, W, 3)`` uint8 BGR.
        scene: what it shows.
        source_wh: width and height it had before, pixels.
    """

    image: Frame
    scene: Scene
    source_wh: tuple[int, int]


def drawn_gate_frames(preprocess: Preprocess, count: int) -> list[GateFrame]:
    """Frames drawn from code, for a gate without a data set; the same ones each time."""
    frames = []
    for number, (scene, shape, scale) in _plan(count):
        size_wh = _source_wh(preprocess.input_wh, shape, scale)
        frame = draw_scene(size_wh, rng_for(0, "gate frame", number), FIGURES[scene])
        frames.append(_finish(frame, scene, preprocess, number))
    return frames


def dataset_gate_frames(dataset: SearchDataset, preprocess: Preprocess, count: int) -> list[GateFrame]:
    """`filmed_gate_frames` of a data set's split, whose labels say which frames are crowded and which are empty.

    Of a set of more than `LOOKED_AT` frames so many, evenly spread, are chosen among.

    Args:
        dataset: one split; at least one frame.
        preprocess: the model's letterbox.
        count: frames wanted.

    Raises:
        InputError: a frame cannot be read.
    """
    looked_at = spread(len(dataset), min(len(dataset), LOOKED_AT), offset=0.5)
    samples = (dataset[index] for index in looked_at)
    people = [sample.boxes_xyxy[sample.person_ids != IGNORE] for sample in samples]
    return filmed_gate_frames(lambda number: dataset.frame_bgr(looked_at[number]), people, preprocess, count)


def filmed_gate_frames(
    read: Callable[[int], Frame], people: Sequence[FloatArray | None], preprocess: Preprocess, count: int
) -> list[GateFrame]:
    """Frames of filmed scenes, spread over them.

    Where no frame is known to be empty, empty scenes are drawn; where nothing is known of people, crowds are left to
    chance. Fewer frames than are wanted are used more than once, each time in another shape.

    Args:
        read: the frame of an index, ``(H, W, 3)`` uint8 BGR.
        people: ``(N, 4)`` source pixels for each index from 0 on, none where nobody has labelled it; at least one.
        preprocess: the model's letterbox.
        count: frames wanted.
    """
    known = np.array([-1 if boxes is None else len(boxes) for boxes in people])
    by_number = np.argsort(-known, kind="stable")[: max(1, len(known) // 10)]
    usual = np.flatnonzero(known != 0) if (known != 0).any() else np.arange(len(known))
    chosen_of: dict[Scene, list[int]] = {
        "usual": _spread_among(usual),
        "crowded": _spread_among(by_number if known.max() > 0 else usual),
        "empty": _spread_among(np.flatnonzero(known == 0)),
        "dark": _spread_among(usual[::-1]),
    }
    turn: Counter[Scene] = Counter()
    frames = []
    for number, (scene, shape, scale) in _plan(count):
        chosen = chosen_of[scene]
        if not chosen:
            empty = draw_scene(_source_wh(preprocess.input_wh, shape, scale), rng_for(0, "gate frame", number), 0)
            frames.append(_finish(empty, scene, preprocess, number))
            continue
        index = chosen[turn[scene] % len(chosen)]
        turn[scene] += 1
        frame = read(index)
        if shape is not None:
            frame = _cropped(frame, people[index], shape)
        frames.append(_finish(_shrunk(frame, round(scale * max(preprocess.input_wh))), scene, preprocess, number))
    return frames


def _plan(count: int) -> Iterator[tuple[int, tuple[Scene, float | None, float]]]:
    for number in range(count):
        yield number, PLAN[number % len(PLAN)]


def _spread_among(indices: NDArray[np.int64]) -> list[int]:
    """``indices``, neighbours in time far apart, so that the first few are of several scenes."""
    order = spread(len(indices), min(len(indices), 64), offset=0.75)
    stride = max(1, len(order) // 8)
    return [int(indices[order[row]]) for start in range(stride) for row in range(start, len(order), stride)]


def _source_wh(input_wh: tuple[int, int], shape: float | None, scale: float) -> tuple[int, int]:
    width, height = input_wh
    shape = width / height if shape is None else shape
    longer = scale * max(input_wh)
    return (
        (round(longer), max(16, round(longer / shape)))
        if shape >= 1
        else (max(16, round(longer * shape)), round(longer))
    )


def _cropped(frame: Frame, people: FloatArray | None, shape: float) -> Frame:
    """The largest part of a frame with width over height ``shape``, round the middle of its people."""
    height, width = frame.shape[:2]
    wide, tall = (width, round(width / shape)) if width / height < shape else (round(height * shape), height)
    wide, tall = max(1, min(wide, width)), max(1, min(tall, height))
    middle = np.array([width, height]) / 2
    if people is not None and len(people):
        middle = (people[:, :2] + people[:, 2:]).mean(axis=0) / 2
    left = int(np.clip(middle[0] - wide / 2, 0, width - wide))
    top = int(np.clip(middle[1] - tall / 2, 0, height - tall))
    return np.ascontiguousarray(frame[top : top + tall, left : left + wide])


def _shrunk(frame: Frame, longer: int) -> Frame:
    """A frame whose longer side is at most ``longer``; a source is made smaller here, never larger than it is."""
    height, width = frame.shape[:2]
    if max(width, height) <= longer:
        return frame
    ratio = longer / max(width, height)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _finish(frame: Frame, scene: Scene, preprocess: Preprocess, number: int) -> GateFrame:
    if scene == "dark":  # little light, and the noise that a sensor adds to it
        noise = rng_for(0, "dark", number).normal(0, DARK_NOISE, frame.shape)
        frame = np.clip(frame * DARK_GAIN + noise, 0, 255).astype(np.uint8)
    image, _ = preprocess.letterbox(frame)
    return GateFrame(image, scene, (frame.shape[1], frame.shape[0]))
