"""How pixels become the input of somebody else's network: stated by a preset or by options, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.recipe import StrictModel
from personsearch.distill.sources.network import ImageNetwork

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, le=8192)]


class PixelInput(StrictModel):
    """``(pixel / scale - mean) / std`` of each channel, channels in the network's order."""

    order: Literal["rgb", "bgr"] = Field(description="order of the colour channels")
    scale: Positive = Field(description="pixels of 0..255 are divided by it first")
    mean: tuple[Finite, Finite, Finite] = Field(description="subtracted after that, in the order of the channels")
    std: tuple[Positive, Positive, Positive] = Field(description="divided by at last, in the order of the channels")
    input_wh: tuple[Side, Side] | None = Field(
        default=None, description="width and height in pixels; none for those that the graph itself states"
    )


IMAGENET_RGB = PixelInput(order="rgb", scale=255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
RAW_BGR = PixelInput(order="bgr", scale=1, mean=(0, 0, 0), std=(1, 1, 1))
UNIT_BGR = PixelInput(order="bgr", scale=255, mean=(0, 0, 0), std=(1, 1, 1))
UNIT_RGB = PixelInput(order="rgb", scale=255, mean=(0, 0, 0), std=(1, 1, 1))


class InputFiller:
    """Fills a network's input with images.

    Args:
        network: what is fed.
        pixels: how.

    Attributes:
        input_wh: width and height that images must have.

    Raises:
        InputError: the input's size is neither stated nor the graph's, or the two differ.
    """

    def __init__(self, network: ImageNetwork, pixels: PixelInput) -> None:
        self._network = network
        self.input_wh = _input_wh(network, pixels)
        scale, reverse = pixels.scale, pixels.order == "rgb"
        self._step = np.array([scale * std for std in pixels.std], np.float32)
        self._offset = np.array([mean * scale for mean in pixels.mean], np.float32)
        self._reverse = reverse

    def batch(self, images_bgr: Sequence[Frame]) -> NDArray[np.float32]:
        """Images ``(H, W, 3)`` uint8 BGR of ``input_wh`` as one input in the network's layout."""
        stacked = np.stack(images_bgr)  # (B, H, W, 3)
        ordered = stacked[..., ::-1] if self._reverse else stacked
        values = (ordered.astype(np.float32) - self._offset) / self._step
        if self._network.channels_first:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=np.float32)


def resized(image_bgr: Frame, size_wh: tuple[int, int]) -> Frame:
    """An image stretched to a size; area averaging where it shrinks along both sides, bilinear elsewhere."""
    height, width = image_bgr.shape[:2]
    shrinks = size_wh[0] < width and size_wh[1] < height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_bgr, size_wh, interpolation=method), dtype=np.uint8)


def _input_wh(network: ImageNetwork, pixels: PixelInput) -> tuple[int, int]:
    graph, stated = network.input_wh, pixels.input_wh
    if stated is None:
        width, height = graph
        if width is None or height is None:
            raise InputError(
                "the graph leaves the input's size open", where=str(network.path), remedy="state the size of the input"
            )
        return width, height
    if any(side not in (None, want) for side, want in zip(graph, stated, strict=True)):
        raise InputError(
            f"the input is {_shown(graph[0])}x{_shown(graph[1])} (width x height)",
            where=str(network.path),
            expected=f"{stated[0]}x{stated[1]}, as stated",
            remedy="correct the size or choose another preset",
        )
    return stated


def _shown(side: int | None) -> str:
    return "?" if side is None else str(side)


def source_text(network: ImageNetwork, pixels: PixelInput, size_wh: tuple[int, int]) -> str:
    """The network and its input in one line, for records."""
    numbers = f"scale {pixels.scale:g}, mean {_list(pixels.mean)}, std {_list(pixels.std)}"
    size = f"{size_wh[0]}x{size_wh[1]}"
    return f"{Path(network.path).name} (sha256 {network.sha256}; {pixels.order} {size}, {numbers})"


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
