"""QRPN: where the query's person may be, beside where people are (Munjal et al., CVPR 2019, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.models.query_attention import ChannelGate, GateKind


class QueryProposalNet(nn.Module):
    """A classifier of a region proposal network's anchors whose input the query's crop has gated.

    The mean over the query's pooled crop decides on a gate for each channel of the gallery's map (`ChannelGate`); a 3x3
    convolution and a 1x1 one answer two logits (another, the query's person) an anchor. Its answer is added to that of
    the region proposal network beside it, whose boxes are used. It starts near 0, so that the proposals start as those
    of the network that is started from.

    Args:
        in_channels: of the map and the crop.
        channels: width of the convolution.
        anchor_count: anchors a position.
        reduction: of the gate.
        gate: kind of the gate.
    """

    def __init__(
        self, in_channels: int, channels: int, anchor_count: int, *, reduction: int = 16, gate: GateKind = "neutral"
    ) -> None:
        super().__init__()
        self.gate = ChannelGate(in_channels, in_channels, reduction=reduction, kind=gate)
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.class_logits = nn.Conv2d(channels, 2 * anchor_count, 1)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.normal_(self.class_logits.weight, std=0.01)
        for layer in (self.conv, self.class_logits):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, feature: Tensor, crops: Tensor) -> Tensor:
        """Logits ``(B, A, 2)``, ordered as a `DetectionSubnet`'s.

        Args:
            feature: ``(B, C, h, w)`` of the gallery's frames.
            crops: ``(B, C, p, p)`` the query's person in the map of its own image.
        """
        gates = self.gate(crops.mean(dim=(2, 3), keepdim=True))
        logits: Tensor = self.class_logits(F.relu(self.conv(feature * gates)))
        return logits.permute(0, 2, 3, 1).reshape(len(logits), -1, 2)
