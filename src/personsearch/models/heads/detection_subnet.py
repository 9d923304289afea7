"""Person detection subnet: a region proposal network with person-shaped anchors (HDL, section 3.2 II)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class DetectionSubnet(nn.Module):
    """One convolution, 3x3 in the paper, then two logits (background, person) and four deltas for each anchor.

    Args:
        in_channels: channels of the feature map.
        channels: width of the convolution; 512 in the paper, where it is a fifth of the teacher's scene cost.
        anchor_count: anchors a position, 11 in the paper.
        separable: a depthwise 3x3 and a 1x1 in its place, which saves nearly nine tenths of it.
        kernel: side of the convolution, odd; 5 sees twice as far and costs little where ``separable``.
    """

    def __init__(
        self, in_channels: int, channels: int, anchor_count: int, *, separable: bool = False, kernel: int = 3
    ) -> None:
        super().__init__()
        if separable:
            self.conv: nn.Module = nn.Sequential(
                nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels),
                nn.Conv2d(in_channels, channels, 1),
            )
        else:
            self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)
        self.class_logits = nn.Conv2d(channels, 2 * anchor_count, 1)
        self.box_deltas = nn.Conv2d(channels, 4 * anchor_count, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        for layer in (self.class_logits, self.box_deltas):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` to logits ``(B, A, 2)`` and deltas ``(B, A, 4)``, A ordered as `person_anchors`."""
        x = F.relu(self.conv(feature))
        batch = x.shape[0]
        logits = self.class_logits(x).permute(0, 2, 3, 1).reshape(batch, -1, 2)
        deltas = self.box_deltas(x).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        return logits, deltas
