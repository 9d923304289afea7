"""What every trunk offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Trunk(nn.Module, ABC):
    """The feature subnet (HDL, section 3.2 I).

    Attributes:
        out_channels: channels of the feature map.
        stride: input pixels for one step on the feature map.
        person_channels: channels of the per-person block's output.
    """

    out_channels: int
    stride: int
    person_channels: int
    _frozen_norms: tuple[nn.Module, ...] = ()

    def freeze_norms(self, parts: Iterable[nn.Module]) -> None:
        """The batch norms in ``parts`` keep the statistics, scales and shifts that they have, in training mode too."""
        norms = [norm for part in parts for norm in part.modules() if isinstance(norm, nn.BatchNorm2d)]
        for norm in norms:
            norm.requires_grad_(False).eval()
        self._frozen_norms = (*self._frozen_norms, *norms)

    def train(self, mode: bool = True) -> Trunk:
        """Switches all but frozen batch norms, which stay as in evaluation."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    @abstractmethod
    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, out_channels, H / stride, W / stride)``; adds its levels to ``taps``."""

    @abstractmethod
    def person_block(self) -> nn.Module:
        """A new block from ``(R, out_channels, h, w)`` to ``(R, person_channels, h', w')``."""


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions by fan-in, for trunks trained from scratch.

    By fan-out, the usual choice, a depthwise filter of C channels would start sqrt(C) times too small.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
