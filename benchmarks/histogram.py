"""The baseline that learned nothing: colour histograms of horizontal stripes.

What a model's figures on true boxes must beat to have learned more than clothing colour at a place.
"""

from __future__ import annotations

import cv2
import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.geometry import Boxes, clip_boxes
from personsearch.core.preprocess import Frame

STRIPES = 6
BINS_HSV = (8, 4, 4)


class HistogramEmbedder:
    """Describes a box by a hue, saturation and value histogram of each of six horizontal stripes.

    Each stripe's histogram sums to one before the square root is taken, so that the dot product of two
    descriptors is their mean Hellinger affinity over stripes, in [0, 1].
    """

    embedding_dim = STRIPES * BINS_HSV[0] * BINS_HSV[1] * BINS_HSV[2]

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, 768)`` L2-normalised descriptors of ``(N, 4)`` boxes in pixels of ``frame``.

        Raises:
            ValueError: a box covers no pixel of the frame.
        """
        height, width = frame.shape[:2]
        corners = np.rint(clip_boxes(np.asarray(boxes_xyxy, np.float64), (width, height))).astype(int)
        rows = [self._describe(frame[y1:y2, x1:x2]) for x1, y1, x2, y2 in corners]
        return np.stack(rows) if rows else np.zeros((0, self.embedding_dim), np.float32)

    def _describe(self, crop: Frame) -> FloatArray:
        if not crop.size:
            raise ValueError("a box covers no pixel of the frame")
        hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
        # Stripes of whole rows; a crop of fewer rows than stripes repeats rows rather than leaving one empty.
        edges = np.linspace(0, len(hsv), STRIPES + 1)
        parts = []
        for top, bottom in zip(np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int), strict=True):
            stripe = np.ascontiguousarray(hsv[top:bottom])
            counts = cv2.calcHist([stripe], [0, 1, 2], None, list(BINS_HSV), [0, 180, 0, 256, 0, 256]).ravel()
            parts.append(np.sqrt(counts / counts.sum() / STRIPES))
        return np.concatenate(parts).astype(np.float32)
