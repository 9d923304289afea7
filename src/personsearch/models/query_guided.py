"""The contract of networks whose detections and similarities depend on who is searched for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from personsearch.core.detections import GuidedDetections


class QueryGuided(ABC):
    """What a `SearchModel` that is guided by its query has beside it.

    Without a query it is a `SearchModel` like any other: ``detect``, ``embed`` and ``deployable`` are its
    query-independent branch.
    """

    @property
    @abstractmethod
    def pair_people(self) -> int:
        """People read in one pair of query and frame, the query left out."""

    @abstractmethod
    def detect_pairs(self, images: Tensor, query_images: Tensor, query_boxes: Tensor) -> list[GuidedDetections]:
        """The people in each image above ``score_threshold``, in input pixels, and how much each is the query's.

        Args:
            images: ``(B, H, W, 3)`` uint8 BGR, letterboxed.
            query_images: ``(B, H, W, 3)`` uint8, the whole image that each one's query is in.
            query_boxes: ``(B, 4)`` the query's person in it, input pixels.
        """

    @abstractmethod
    def pair_module(self) -> nn.Module:
        """What runs once a pair, people left out: frames, query frames (1, H, W, 3) and the query's pooled crop."""

    @abstractmethod
    def similarity_module(self) -> nn.Module:
        """What compares a person with the query: two unit embeddings ``(1, D)``."""
