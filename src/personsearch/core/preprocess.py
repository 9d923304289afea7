"""The one way from a frame to a network input: training uses it, the manifest records it, the runtime reads it."""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.geometry import Letterbox
from personsearch.core.recipe import StrictModel

Frame = NDArray[np.uint8]


class Preprocess(StrictModel):
    """How a BGR uint8 frame becomes the network's input.

    The letterbox happens on the host; ``(pixel - mean) / std`` happens inside the graph.
    """

    input_wh: tuple[int, int] = Field(description="network input, width and height in pixels, multiples of 16")
    colour_order: Literal["bgr"] = Field(default="bgr", description="channel order of the uint8 input")
    pad_value: Annotated[int, Field(ge=0, le=255)] | Literal["mean"] = Field(
        default=114, description="the letterbox's padding: a grey level, or mean for mean_bgr, which the graph makes 0"
    )
    mean_bgr: tuple[float, float, float] = Field(
        default=(103.53, 116.28, 123.675), description="subtracted, 0..255; ImageNet's statistics"
    )
    std_bgr: tuple[float, float, float] = Field(
        default=(57.375, 57.12, 58.395), description="divided by, 0..255; ImageNet's statistics"
    )

    def padding(self, size_wh: tuple[int, int]) -> Frame:
        """A new frame of nothing but padding, ``(H, W, 3)`` uint8 BGR."""
        if self.pad_value != "mean":
            return np.full((size_wh[1], size_wh[0], 3), self.pad_value, dtype=np.uint8)
        canvas = np.empty((size_wh[1], size_wh[0], 3), dtype=np.uint8)
        canvas[:] = np.clip(np.rint(self.mean_bgr), 0, 255).astype(np.uint8)
        return canvas

    def letterbox(self, frame_bgr_hwc: Frame) -> tuple[Frame, Letterbox]:
        """Fits a frame, ``(H, W, 3)`` uint8 BGR, into the input; returns it and the mapping for boxes.

        Raises:
            ValueError: the frame is not ``(H, W, 3)`` uint8 or has no pixels.
        """
        if frame_bgr_hwc.ndim != 3 or frame_bgr_hwc.shape[2] != 3 or frame_bgr_hwc.dtype != np.uint8:
            raise ValueError(f"frame is {frame_bgr_hwc.dtype} {frame_bgr_hwc.shape}, expected uint8 (H, W, 3)")
        height, width = frame_bgr_hwc.shape[:2]
        box = Letterbox.fit((width, height), self.input_wh)
        resized = frame_bgr_hwc
        if box.resized_wh != (width, height):
            # Area averaging when shrinking: bilinear aliases clothing patterns, the very thing embeddings read.
            shrinking = box.resized_wh[0] < width
            resized = cv2.resize(  # type: ignore[assignment]  # OpenCV's stubs promise no dtype
                frame_bgr_hwc, box.resized_wh, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
            )
        if box.resized_wh == self.input_wh:
            return np.ascontiguousarray(resized), box
        canvas = self.padding(self.input_wh)
        x, y = box.pad_xy
        canvas[y : y + box.resized_wh[1], x : x + box.resized_wh[0]] = resized
        return canvas, box
