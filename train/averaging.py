"""A running average of a network's weights beside those that are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from personsearch.losses.memory import LookupTable, RingQueue

EARLY_STEPS = 10
"""The average of the first steps forgets its start faster than by its decay; see `WeightAverage`."""


class WeightAverage:
    """Exponential moving average of weights, one update an optimiser step (Polyak and Juditsky, 1992).

    ``average <- d average + (1 - d) weights`` with ``d = min(decay, (1 + t) / (10 + t))`` after step t, counted from
    0: without that bound a short run would still hold part of the random weights that it began with.

    Averaged are parameters and floating buffers: the running statistics of batch norms, which belong to the weights
    that they were measured with, too. Not averaged are memories (look-up table, queue): their rows are written by the
    trained weights, a table's are running averages already, and a queue's place holds another person every few steps.
    They and counters are those of the trained network. Every process has the same weights after a step and so the
    same average; running statistics are its own, as without averaging.

    Args:
        network: whose weights are averaged; on its device already. The average starts as a copy of them.
        decay: share of the old average, in (0, 1).
        state: what `state` gave to a checkpoint, to continue from, or none.
    """

    def __init__(self, network: nn.Module, decay: float, state: Mapping[str, Tensor] | None = None) -> None:
        self._network, self._decay = network, decay
        memories = tuple(
            f"{name}." for name, part in network.named_modules() if isinstance(part, LookupTable | RingQueue)
        )
        self._average = {
            name: value.detach().clone()
            for name, value in network.state_dict().items()
            if value.is_floating_point() and not name.startswith(memories)
        }
        if state is not None:
            for name, value in self._average.items():
                value.copy_(state[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after ``step``, counted from 0."""
        share = 1 - min(self._decay, (1 + step) / (EARLY_STEPS + step))
        state = self._network.state_dict()
        for name, value in self._average.items():
            value.lerp_(state[name], share)

    def state(self) -> dict[str, Tensor]:
        """The network's whole state, with averages in place of what is averaged."""
        return {name: self._average.get(name, value) for name, value in self._network.state_dict().items()}
