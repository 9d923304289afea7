"""Channel gates that depend on a query (Munjal et al., Query-guided End-to-End Person Search, CVPR 2019)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GateKind = Literal["neutral", "sigmoid"]


class ChannelGate(nn.Module):
    """A gate for each channel from a context vector, squeeze-and-excitation's two layers (Hu et al., CVPR 2018).

    ``gate = sigmoid(W2 relu(W1 z))``; ``neutral`` doubles it, so that fresh layers, whose sigmoids are about 0.5, leave
    what they gate about as large as it was. The layers start as torch starts them: so did the authors' (issue 5 of
    their repository).

    Args:
        context: width of z.
        channels: gates.
        reduction: the hidden layer has ``context / reduction`` units, 4 at least.
        kind: see above.
    """

    def __init__(self, context: int, channels: int, *, reduction: int = 16, kind: GateKind = "neutral") -> None:
        super().__init__()
        hidden = max(4, context // reduction)
        # Convolutions on 1x1 maps, named as HDL's attention names its own: quantisation leaves both float.
        self.channel_in = nn.Conv2d(context, hidden, 1)
        self.channel_out = nn.Conv2d(hidden, channels, 1)
        self._scale = 2.0 if kind == "neutral" else 1.0

    def forward(self, context: Tensor) -> Tensor:
        """``(B, context, 1, 1)`` to gates ``(B, channels, 1, 1)`` in (0, 2), or (0, 1) for ``sigmoid``."""
        return self._scale * torch.sigmoid(self.channel_out(F.relu(self.channel_in(context))))


class QuerySqueezeExcitation(nn.Module):
    """QSSE: one gate a channel from both images of a pair, put on both (section 4.1).

    ``z = [mean(query), mean(gallery)]`` over each map, 2C wide; the gates of `ChannelGate` multiply query and gallery
    map alike. That the context is the two images' alone and the gate is shared is what the published figure shows (one
    block reads both branches and feeds both); the layers' sizes are squeeze-and-excitation's.

    Args:
        channels: C of either map.
        reduction: of `ChannelGate`.
        kind: of `ChannelGate`.
    """

    def __init__(self, channels: int, *, reduction: int = 16, kind: GateKind = "neutral") -> None:
        super().__init__()
        self.gate = ChannelGate(2 * channels, channels, reduction=reduction, kind=kind)

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Gates ``(B, C, 1, 1)`` of maps ``(B, C, h, w)``."""
        context = torch.cat([query.mean(dim=(2, 3), keepdim=True), gallery.mean(dim=(2, 3), keepdim=True)], dim=1)
        gates: Tensor = self.gate(context)
        return gates
