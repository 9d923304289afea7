"""Convolutions that train as several branches and run as one (RepVGG, Ding et al. 2021; MobileOne, Vasu et al. 2023).

A sum of linear maps is a linear map: a 3x3 convolution, a 1x1 and the identity, each behind a batch norm of its own,
are one 3x3 convolution with a bias once the statistics are fixed. What differs is how they learn. A group norm is no
linear map: with it the branches have no norm of their own, and their sum has one, which stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.student_trunk import NormKind
from personsearch.models.fold import Mergeable, fused_weights, scale_and_shift, with_weights
from personsearch.models.norms import group_norm


class ConvNorm(nn.Module):
    """A convolution without bias, padded so that stride 1 keeps the size, and its batch norm, if it is ``normed``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, groups: int, normed: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn1(self.conv1(x))
        return normed


class BranchedConv(Mergeable):
    """Convolution, norm, ReLU; with ``branches`` a 1x1 and, where shapes allow, an identity are added before it.

    A depthwise convolution, ``groups`` equal to both widths, has no 1x1: that would be one factor a channel, which
    the batch norm behind it takes out again. Its identity takes every second pixel where the stride is 2.

    Args:
        in_channels: C.
        out_channels: c.
        kernel: side of the main branch's filter, odd; padded so that stride 1 keeps the size.
        stride: of every branch. The identity needs C = c and, but for a depthwise convolution, stride 1.
        groups: of every convolution.
        branches: whether there is more than the main branch.
        norm: ``group`` for one group norm of the sum; any other for a batch norm of each branch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        branches: bool = True,
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        normed = norm != "group"
        self.main = ConvNorm(in_channels, out_channels, kernel, stride=stride, groups=groups, normed=normed)
        self.point: ConvNorm | None = None
        depthwise = groups == in_channels == out_channels
        if branches and kernel > 1 and not depthwise:
            self.point = ConvNorm(in_channels, out_channels, 1, stride=stride, groups=groups, normed=normed)
        self.identity: nn.Module | None = None
        if branches and in_channels == out_channels and (stride == 1 or depthwise):
            self.identity = nn.BatchNorm2d(out_channels) if normed else nn.Identity()
        self.norm: nn.Module = nn.Identity() if normed else group_norm(out_channels)
        self._stride = stride

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.main(x)
        if self.point is not None:
            total = total + self.point(x)
        if self.identity is not None:
            total = total + self.identity(x if self._stride == 1 else x[:, :, :: self._stride, :: self._stride])
        return F.relu(self.norm(total))

    @torch.no_grad()
    def merged(self) -> nn.Sequential:
        """One convolution with a bias, a group norm if there is one, ReLU: the same function in evaluation mode."""
        weight, bias = _weights(self.main)
        centre = weight.shape[2] // 2
        if self.point is not None:
            point, shift = _weights(self.point)
            weight[:, :, centre, centre] += point[:, :, 0, 0]
            bias += shift
        if self.identity is not None:
            scale, shift = _scale_and_shift(self.identity, bias)
            # Output channel o reads input channel o, which is number o % (C / groups) within its group.
            channel = torch.arange(len(scale), device=weight.device)
            weight[channel, channel % weight.shape[1], centre, centre] += scale
            bias += shift
        kept = [] if isinstance(self.norm, nn.Identity) else [self.norm]
        return nn.Sequential(with_weights(self.main.conv1, weight, bias), *kept, nn.ReLU())


def _weights(branch: ConvNorm) -> tuple[Tensor, Tensor]:
    """A new weight and bias, in double precision, of the branch as one convolution."""
    if isinstance(branch.bn1, nn.Identity):
        weight = branch.conv1.weight.detach().double().clone()
        return weight, weight.new_zeros(len(weight))
    return fused_weights(branch.conv1, branch.bn1)


def _scale_and_shift(identity: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(identity, nn.Identity):
        return torch.ones_like(like), torch.zeros_like(like)
    return scale_and_shift(identity)
