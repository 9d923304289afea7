"""A re-ID network on crops: one embedding a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, clip_boxes
from personsearch.core.preprocess import Frame
from personsearch.core.similarity import l2_normalise
from personsearch.distill.sources.network import ImageNetwork
from personsearch.distill.sources.pixels import IMAGENET_RGB, RAW_BGR, InputFiller, PixelInput, resized, source_text

REID_PRESETS: dict[str, PixelInput] = {
    "osnet": IMAGENET_RGB.model_copy(update={"input_wh": (128, 256)}),
    "retail-0288": RAW_BGR.model_copy(update={"input_wh": (128, 256)}),
}
"""Inputs of re-ID networks by name. ``osnet``: OSNet and whatever else torchreid trained (Zhou et al., ICCV 2019);
``retail-0288``: Intel's person-reidentification-retail-0277, -0286, -0287 and -0288."""
MAX_BATCH = 32
"""Crops in one run of a network that takes any number."""


class CropEmbedder:
    """Describes boxes of a frame with a re-ID network that was trained on crops.

    Args:
        network: gives one vector a crop.
        pixels: its input.
        output: name of the output that is the embedding; none for the only one.

    Attributes:
        source: network, hash and input in one line.
        sha256: of the network.
        embedding_dim: width of an embedding, found by a run on a grey crop.

    Raises:
        InputError: the input's size is open, the network has several outputs and none is named, or it cannot run.
    """

    def __init__(self, network: ImageNetwork, pixels: PixelInput, output: str | None = None) -> None:
        names = network.output_names
        if (output is None and len(names) > 1) or (output is not None and output not in names):
            raise InputError(
                f"the network has no output `{output}`" if output else f"the network has {len(names)} outputs",
                where=str(network.path),
                expected=f"one of {', '.join(names)}",
                remedy="name the embedding: `--output NAME`",
            )
        self._network, self._output = network, output or names[0]
        self._filler = InputFiller(network, pixels)
        self.source, self.sha256 = source_text(network, pixels, self._filler.input_wh), network.sha256
        width, height = self._filler.input_wh
        self.embedding_dim: int = self._run([np.full((height, width, 3), 127, np.uint8)]).shape[1]

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised embeddings of ``(N, 4)`` boxes in pixels of ``frame``.

        Raises:
            InputError: the network gives no finite vector other than zero for each crop.
            ValueError: a box covers no pixel of the frame.
        """
        crops = [resized(crop, self._filler.input_wh) for crop in _crops(frame, boxes_xyxy)]
        if not crops:
            return np.zeros((0, self.embedding_dim), np.float32)
        raw = np.concatenate([self._run(crops[first : first + MAX_BATCH]) for first in range(0, len(crops), MAX_BATCH)])
        if not np.isfinite(raw).all() or not raw.any(axis=1).all():
            raise InputError(
                f"output `{self._output}` is NaN, infinite or all zero for a crop",
                where=str(self._network.path),
                expected="an embedding",
                remedy="are `--order`, `--scale`, `--mean` and `--std` the network's own?",
            )
        return l2_normalise(raw)

    def _run(self, crops: Sequence[Frame]) -> FloatArray:
        """The network's vectors ``(N, D)`` of crops of the input's size."""
        step = self._network.batch or len(crops)
        parts: list[FloatArray] = []
        for first in range(0, len(crops), step):
            chunk = list(crops[first : first + step])
            # A graph of fixed batch gets its last, short one filled up; the fill's rows are cut off again.
            filled = chunk + chunk[-1:] * (step - len(chunk))
            found = np.asarray(self._network.run(self._filler.batch(filled))[self._output], np.float32)
            if found.shape[:1] != (len(filled),) or found.size == 0:
                raise InputError(
                    f"output `{self._output}` has shape {found.shape} for {len(filled)} crops",
                    where=str(self._network.path),
                    expected="one vector a crop",
                )
            parts.append(found.reshape(len(filled), -1)[: len(chunk)])
        return np.concatenate(parts)


def _crops(frame: Frame, boxes_xyxy: Boxes) -> list[Frame]:
    """What boxes show, cut at the frame's edges and widened to whole pixels."""
    height, width = frame.shape[:2]
    inside = clip_boxes(np.asarray(boxes_xyxy, np.float64), (width, height))
    corners = np.concatenate([np.floor(inside[:, :2]), np.ceil(inside[:, 2:])], axis=1).astype(int)
    crops = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in corners.tolist()]
    if any(crop.size == 0 for crop in crops):
        raise ValueError("a box covers no pixel of the frame")
    return crops
