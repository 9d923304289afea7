"""ShuffleNetV2 x0.5 (Ma et al., ECCV 2018) in FastestDet's arrangement, for which public COCO weights exist.

The one pretrained start that needs no ImageNet download: a camera-sized trunk that has already seen people.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import AttentionKind
from personsearch.core.student_trunk import NormKind
from personsearch.models.attention import attend, build_attention
from personsearch.models.backbones.depthwise import SeparableModule, conv_norm_relu
from personsearch.models.backbones.trunk import Trunk, initialise
from personsearch.models.fold import FoldsNorms, scale_and_shift
from personsearch.models.norms import NormMaker, map_norm

STAGES = ((4, 48), (8, 96), (4, 192))  # units and output channels, at strides 8, 16, 32
STEM_CHANNELS = 24


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNetV2; the channel shuffle is the even-odd split at the entrance of the next unit."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: NormMaker) -> None:
        super().__init__()
        half = out_channels // 2
        own = half if stride == 2 else out_channels - half
        entering = in_channels if stride == 2 else in_channels // 2
        self.branch_main = nn.Sequential(
            nn.Conv2d(entering, half, 1, bias=False),
            norm(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            norm(half),
            nn.Conv2d(half, own, 1, bias=False),
            norm(own),
            nn.ReLU(inplace=True),
        )
        self.branch_proj: nn.Sequential | None = None
        if stride == 2:
            self.branch_proj = nn.Sequential(
                nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
                norm(in_channels),
                nn.Conv2d(in_channels, half, 1, bias=False),
                norm(half),
                nn.ReLU(inplace=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], dim=1)
        even, odd = _even_odd(x)
        return torch.cat([even, self.branch_main(odd)], dim=1)


def _even_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every second channel of ``(B, C, h, w)``, from the first and from the second on: ``(B, C / 2, h, w)`` each.

    In a graph as a shuffle of channels and a split, which engines know as such: OpenVINO has no fast slice of every
    second channel (2.2 ms of 15.5 for this trunk at 768x576, docs/adr/0021). In training as views.
    """
    if not torch.compiler.is_exporting():
        return x[:, 0::2], x[:, 1::2]
    batch, channels, height, width = x.shape
    shuffled = x.reshape(batch, channels // 2, 2, height, width).transpose(1, 2)
    even, odd = torch.split(shuffled.reshape(batch, channels, height, width), channels // 2, dim=1)
    return even, odd


class ShuffleNet(Trunk, FoldsNorms):
    """ShuffleNetV2 x0.5 whose scales are joined in one map at stride 8 or 16.

    Stride 16, HDL's, is five rows of features for a person of 80 pixels; stride 8 keeps ten, which the embedding
    needs and a trunk this thin can afford. Every scale goes through a 1x1 convolution, is brought to the map's
    stride (averaged down, or bilinear up) and added; a separable module mixes the sum. Adding after the
    convolutions is the same function as concatenating before one, at a quarter of the memory traffic.

    ``norm`` is that of all of it and of the person block; ``frozen`` holds those of ShuffleNetV2 itself, which
    ``weights`` have statistics for, and trains the neck's.
    """

    def __init__(
        self,
        *,
        stride: int = 16,
        neck_channels: int = 96,
        person_channels: int = 256,
        attention: AttentionKind = "none",
        weights: Path | None = None,
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        self.stride, self.out_channels, self.person_channels = stride, neck_channels, person_channels
        self._norm = make = map_norm(norm)
        self.first_conv = conv_norm_relu(3, STEM_CHANNELS, 3, norm=make, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for index, (units, width) in enumerate(STAGES):
            parts = [ShuffleUnit(channels, width, 2, make)]
            parts += [ShuffleUnit(width, width, 1, make) for _ in range(units - 1)]
            setattr(self, f"stage{index + 2}", nn.Sequential(*parts))
            channels = width
        scales = (STEM_CHANNELS, *(width for _, width in STAGES))
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck_channels, 1, bias=False) for width in scales)
        self.neck = nn.Sequential(
            make(neck_channels), nn.ReLU(inplace=True), SeparableModule(neck_channels, neck_channels, 1, make)
        )
        self.attention = build_attention(attention, neck_channels)
        initialise(self)
        if weights is not None:
            self._load(weights)
        if norm == "frozen":
            self.freeze_norms([self.first_conv, *(getattr(self, f"stage{index + 2}") for index in range(len(STAGES)))])

    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        x: Tensor = self.maxpool(self.first_conv(images))
        scales = [x]
        for index in range(len(STAGES)):
            x = getattr(self, f"stage{index + 2}")(x)
            scales.append(x)
        for level in range(2):
            taps[f"feature.{level}"] = scales[level]
        size = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        joined = _join(scales[0], self.laterals[0], size)
        for scale, lateral in zip(scales[1:], list(self.laterals)[1:], strict=True):
            joined = joined + _join(scale, lateral, size)
        return attend(self.attention, "2", self.neck(joined), taps)

    def person_block(self) -> nn.Module:
        block = nn.Sequential(
            SeparableModule(self.out_channels, self.person_channels, 1, self._norm),
            SeparableModule(self.person_channels, self.person_channels, 2, self._norm),
        )
        initialise(block)
        return block

    @torch.no_grad()
    def fold_norms(self) -> None:
        """The neck's batch norm goes into the convolutions whose sum it reads; resizing keeps their constants."""
        if not isinstance(self.neck[0], nn.BatchNorm2d):
            return
        scale, shift = scale_and_shift(self.neck[0])
        laterals = [layer for layer in self.laterals if isinstance(layer, nn.Conv2d)]
        for lateral in laterals:
            lateral.weight.copy_(lateral.weight.double() * scale.view(-1, 1, 1, 1))
        laterals[-1].bias = nn.Parameter(shift.to(laterals[-1].weight.dtype))
        self.neck[0] = nn.Identity()

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                "cannot be read as trunk weights",
                where=str(path),
                expected="FastestDet's state dict",
                remedy=str(error).splitlines()[0],
            ) from None
        state = {name.removeprefix("backbone."): value for name, value in state.items()}
        own = {name for name in self.state_dict() if name.startswith(("first_conv", "stage"))}
        missing = sorted(own - set(state))
        if missing:
            raise InputError(f"`{missing[0]}` is missing", where=str(path), expected="FastestDet's state dict")
        self.load_state_dict({name: state[name] for name in own}, strict=False)


def _join(x: Tensor, lateral: nn.Module, size_hw: tuple[int, int]) -> Tensor:
    # Averaging and the 1x1 convolution commute, so each happens where the map is smaller.
    if x.shape[2] > size_hw[0]:
        factor = x.shape[2] // size_hw[0]
        x = F.avg_pool2d(x, factor, factor)
    x = lateral(x)
    if (x.shape[2], x.shape[3]) == size_hw:
        return x
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)
