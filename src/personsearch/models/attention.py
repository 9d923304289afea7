"""Attention residual module (HDL, equation 3 and figure 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.recipes import AttentionKind


class AttentionResidualModule(nn.Module):
    """``H = (1 + A) * X`` with A in (0, 1), spatial and channel attention learned apart.

    The paper leaves the inside open ("separate the spatial and channel attention learning"). This is the
    arrangement of the same group's earlier work: spatial = mean over channels, 3x3 stride-2 convolution, bilinear
    upsampling, 1x1 convolution; channel = global average, a bottleneck of two layers; A = sigmoid of their product,
    ``full`` with a c x c convolution before the sigmoid (c * c * h * w MACs), ``light`` without it.

    The pre-sigmoid bias starts at -2, so that A starts near 0.12 and pretrained weights keep their scale.
    """

    def __init__(self, channels: int, *, mixing: bool, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.spatial_down = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        self.spatial_out = nn.Conv2d(1, 1, 1)
        self.channel_in = nn.Conv2d(channels, hidden, 1)
        self.channel_out = nn.Conv2d(hidden, channels, 1)
        self.mixing = nn.Conv2d(channels, channels, 1, bias=False) if mixing else nn.Identity()
        self.bias = nn.Parameter(torch.full((1, channels, 1, 1), -2.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Modulates ``(N, C, h, w)``; returns the modulated map and A, both of that shape."""
        spatial = F.relu(self.spatial_down(x.mean(dim=1, keepdim=True)))
        spatial = F.interpolate(spatial, size=(x.shape[2], x.shape[3]), mode="bilinear", align_corners=False)
        spatial = self.spatial_out(spatial)  # (N, 1, h, w)
        channel = self.channel_out(F.relu(self.channel_in(x.mean(dim=(2, 3), keepdim=True))))  # (N, C, 1, 1)
        attention = torch.sigmoid(self.mixing(spatial * channel) + self.bias)
        return x + x * attention, attention


def build_attention(kind: AttentionKind, channels: int) -> AttentionResidualModule | None:
    """The module of ``kind`` for a map of ``channels``; none for ``"none"``."""
    return None if kind == "none" else AttentionResidualModule(channels, mixing=kind == "full")


def attend(module: AttentionResidualModule | None, level: str, x: Tensor, taps: dict[str, Tensor]) -> Tensor:
    """Applies ``module`` to a block's output and notes feature and attention under ``level`` in ``taps``.

    The feature tap is X, the map before attention, as equations 3 to 5 name it.
    """
    taps[f"feature.{level}"] = x
    if module is None:
        return x
    x, attention = module(x)
    taps[f"attention.{level}"] = attention
    return x
