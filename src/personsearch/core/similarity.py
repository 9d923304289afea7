"""Cosine similarity between embeddings."""

from __future__ import annotations

import numpy as np

from personsearch.core.detections import FloatArray


def l2_normalise(vectors: FloatArray) -> FloatArray:
    """Rows of ``(N, D)`` scaled to length 1; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def cosine_similarity(queries: FloatArray, gallery: FloatArray) -> FloatArray:
    """``(Q, G)`` cosines between L2-normalised rows ``(Q, D)`` and ``(G, D)``.

    Raises:
        ValueError: the widths differ (embeddings of different models do not compare).
    """
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"embedding widths differ: queries {queries.shape[1]}, gallery {gallery.shape[1]}")
    similarity: FloatArray = queries @ gallery.T
    return similarity
