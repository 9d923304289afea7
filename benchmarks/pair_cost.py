"""What one pair of query and frame costs a network that is guided by its query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from personsearch.core.recipe import StrictModel

if TYPE_CHECKING:
    from personsearch.models.search_model import SearchModel


class PairCost(StrictModel):
    """Multiply-accumulates of one (query, frame) pair, as it is evaluated: nothing is kept from pair to pair.

    The gates mix both images after the first stage, so that neither the frame's nor the query's map can be used again.
    """

    scene_macs: int = Field(description="both images through the trunk, both proposal networks")
    people: int = Field(description="proposals of the frame that are read, at most")
    person_macs: int = Field(description="for each of them, and for the query")
    similarity_macs: int = Field(description="comparing one of them with the query")

    @property
    def macs(self) -> int:
        """The whole pair, with all its people."""
        return self.scene_macs + (self.people + 1) * self.person_macs + self.people * self.similarity_macs


def count_pair(model: SearchModel) -> PairCost | None:
    """Counts a pair by tracing, without computing anything; none for a network that does not look at the query."""
    import torch

    from personsearch.benchmarks.flops import module_macs
    from personsearch.models.fold import folded
    from personsearch.models.query_guided import QueryGuided

    if not isinstance(model, QueryGuided):
        return None
    width, height = model.preprocess.input_wh
    frame = torch.empty((1, height, width, 3), dtype=torch.uint8, device="meta")
    crop = torch.empty(model.person_input_shape, device="meta")
    embedding = torch.empty((1, model.embedding_dim), device="meta")
    return PairCost(
        scene_macs=module_macs(folded(model.pair_module()), frame, frame, crop),
        people=model.pair_people,
        person_macs=module_macs(folded(model.person_module()), crop),
        similarity_macs=module_macs(folded(model.similarity_module()), embedding, embedding),
    )
