"""A ResNet that reads a frame and a query's image together (Munjal et al., CVPR 2019, section 4.1)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from personsearch.models.backbones.resnet_c4 import ResNetC4
from personsearch.models.query_attention import GateKind, QuerySqueezeExcitation


class SiameseTrunk(ResNetC4):
    """`ResNetC4`, the same weights for both images of a pair, which gate each other's channels after each stage.

    Without a partner a frame is its own: the gates are those of a pair of twice the same image, which is plain
    squeeze-and-excitation. So the network also answers without a query, by the weights that it has learnt for pairs.

    Weights have the names of a `ResNetC4`, so that an OIM checkpoint starts it (the authors' way); the gates are
    ``qsse0`` to ``qsse2``. The tap ``feature.<level>`` is the map before the gate, of the gallery images alone.

    Args:
        reduction: of the gates.
        gate: kind of the gates.
        levels: stages (conv2, conv3, conv4: 0, 1, 2) that end with a gate.
        resnet: arguments of `ResNetC4`; no attention module.
    """

    def __init__(
        self, *, reduction: int = 16, gate: GateKind = "neutral", levels: Collection[int] = (0, 1, 2), **resnet: Any
    ) -> None:
        super().__init__(**resnet, attention="none")
        self.levels = tuple(sorted(levels))
        for level in self.levels:
            channels = (self._width << level) * self._block.expansion
            setattr(self, f"qsse{level}", QuerySqueezeExcitation(channels, reduction=reduction, kind=gate))

    def forward(self, images: Tensor, taps: dict[str, Tensor], *, paired: bool = False) -> Tensor:
        """As `Trunk.forward`; with ``paired`` the second half of the batch are the queries of the first.

        Args:
            images: ``(B, 3, H, W)``, or ``(2 B, 3, H, W)`` with ``paired``: B frames, then B images of queries.
            taps: gets the levels of the frames.
            paired: whether each frame is gated with its query's image, and this with it, or each by itself.
        """
        frames = len(images) // 2
        x = self.stem(images)
        for index in range(3):
            x = self.stage(index, x)
            gallery, query = (x[:frames], x[frames:]) if paired else (x, x)
            taps[f"feature.{index}"] = gallery
            if index in self.levels:
                gates = getattr(self, f"qsse{index}")(query, gallery)
                x = x * (torch.cat([gates, gates]) if paired else gates)
        return x
