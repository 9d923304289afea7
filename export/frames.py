"""The frames an export looks at: to calibrate an int8 graph, and to pass through the parity gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.seeding import rng_for
from personsearch.data import SearchDataset, open_dataset


def spread(count: int, wanted: int, *, offset: float) -> list[int]:
    """At most ``wanted`` of ``count`` indices, evenly spread so that several scenes take part.

    ``offset`` in [0, 1) shifts them within their step: two offsets give different frames where there are enough.
    """
    wanted = min(wanted, count)
    return [min(count - 1, int((index + offset) * count / wanted)) for index in range(wanted)]


class DatasetFrames:
    """Letterboxed frames of a data set folder's training split.

    Args:
        root: the folder.
        preprocess: the model's letterbox.

    Raises:
        InputError: the folder is not a data set, has no ``train`` split, or the split has no frames.
    """

    def __init__(self, root: Path, preprocess: Preprocess) -> None:
        self._dataset: SearchDataset = open_dataset(root, "train")
        self._preprocess = preprocess
        if len(self._dataset) == 0:
            raise InputError("the split `train` has no frames", where=str(root), expected="frames to calibrate on")

    @property
    def name(self) -> str:
        """The data set's name."""
        return self._dataset.name

    def calibration(self, count: int) -> list[Frame]:
        """At most ``count`` frames, letterboxed ``(H, W, 3)``."""
        return self._frames(spread(len(self._dataset), count, offset=0.25))

    def gate(self, count: int) -> list[Frame]:
        """At most ``count`` frames, others than `calibration`'s where the split is large enough."""
        return self._frames(spread(len(self._dataset), count, offset=0.75))

    def _frames(self, indices: list[int]) -> list[Frame]:
        return [self._preprocess.letterbox(self._dataset.frame_bgr(index))[0] for index in indices]


def drawn_frames(preprocess: Preprocess, count: int) -> list[Frame]:
    """Scenes drawn from code, for a gate without a data set: gradients, upright figures, texture, noise.

    Not photographs, but structured at every scale a network looks at; the same ones each time.
    """
    return [draw_scene(preprocess.input_wh, rng_for(0, "gate frame", index), 12) for index in range(count)]


def draw_scene(size_wh: tuple[int, int], rng: np.random.Generator, figures: int) -> Frame:
    """One scene of ``size_wh`` pixels with so many upright figures in front of each other, ``(H, W, 3)`` uint8 BGR."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.uniform(-0.3, 0.3, (2, 3)) * 255
    scene = rng.uniform(60, 200, 3) + slope[0] * (x / width)[..., None] + slope[1] * (y / height)[..., None]
    for _ in range(figures):
        tall = rng.uniform(0.15, 0.7) * height
        wide = tall / rng.uniform(2.0, 3.0)
        left, top = rng.uniform(-wide / 2, width - wide / 2), rng.uniform(0, height - 0.6 * tall)
        for start, end, share in ((0.0, 0.18, 0.5), (0.18, 0.55, 1.0), (0.55, 1.0, 0.7)):  # head, torso, legs
            inset = (1 - share) / 2 * wide
            part = (y >= top + start * tall) & (y < top + end * tall) & (x >= left + inset) & (x < left + wide - inset)
            stripes = 25 * np.sin(x / rng.uniform(1.5, 9) + y / rng.uniform(1.5, 9))[..., None]
            scene = np.where(part[..., None], rng.uniform(0, 255, 3) + stripes, scene)
    noise = rng.normal(0, rng.uniform(2, 10), scene.shape)
    frame: Frame = np.clip(scene + noise, 0, 255).astype(np.uint8)
    return frame
