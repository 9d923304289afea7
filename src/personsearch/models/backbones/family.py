"""The trunk of the student family: dense convolutions where a map is large and thin, separable ones behind them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.model_recipes import AttentionKind
from personsearch.core.student_trunk import BlockKind, NormKind
from personsearch.models.attention import attend, build_attention
from personsearch.models.backbones.branched import BranchedConv
from personsearch.models.backbones.trunk import Trunk, initialise
from personsearch.models.norms import map_norm


def unit(in_channels: int, out_channels: int, stride: int, block: BlockKind, norm: NormKind) -> nn.Module:
    """One unit: ``separable`` a depthwise 3x3 and a 1x1, ``branched`` the same trained with branches that merge,
    ``dense`` one 3x3 with branches that merge; no unit adds its input at run time, which would read it twice."""
    if block == "dense":
        return BranchedConv(in_channels, out_channels, 3, stride=stride, norm=norm)
    branches = block == "branched"
    return nn.Sequential(
        BranchedConv(in_channels, in_channels, 3, stride=stride, groups=in_channels, branches=branches, norm=norm),
        BranchedConv(in_channels, out_channels, 1, branches=branches, norm=norm),
    )


class StudentTrunk(Trunk):
    """Two dense 3x3 convolutions to stride 4, stages at strides 4, 8, 16 and 32, joined in one map.

    The last stage widens what a cell sees at a sixteenth of the positions of the map it is added to: every stage
    from stride 8 on goes through a 1x1 convolution, is averaged down or interpolated up to the map's stride, and is
    added; one unit mixes the sum. Neck and person block are never ``dense``, which would cost nine times as much.

    Levels 0 and 1 are the stages at strides 4 and 8, level 2 is the scene feature. Arguments: see `StudentSize`.
    ``norm`` is that of the trunk and the person block; ``frozen`` holds the trunk's alone.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        neck_channels: int,
        person_channels: int,
        person_blocks: int,
        block: BlockKind,
        stride: int = 8,
        attention: AttentionKind = "none",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        self.stride, self.out_channels, self.person_channels = stride, neck_channels, person_channels
        self._person_blocks, self._norm = person_blocks, norm
        branches = block != "separable"
        self._narrow_block: BlockKind = "branched" if branches else "separable"
        # No branches on the frame: the backward pass of a 1x1 at stride 2 over three channels that lie last, as a
        # frame's do, writes outside its memory (torch 2.15 on a CPU with AVX-512), and there is little to gain.
        self.stem = nn.Sequential(
            BranchedConv(3, stem_channels, 3, stride=2, branches=False, norm=norm),
            BranchedConv(stem_channels, channels[0], 3, stride=2, branches=branches, norm=norm),
        )
        self.stages = nn.ModuleList(
            [nn.Sequential(*(unit(channels[0], channels[0], 1, block, norm) for _ in range(blocks[0])))]
        )
        for (inputs, outputs), count in zip(pairwise(channels), blocks[1:], strict=True):
            if count:
                rest = (unit(outputs, outputs, 1, block, norm) for _ in range(count - 1))
                self.stages.append(nn.Sequential(unit(inputs, outputs, 2, block, norm), *rest))
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, neck_channels, 1, bias=False), map_norm(norm)(neck_channels))
            for width in channels[1 : len(self.stages)]
        )
        mixing = unit(neck_channels, neck_channels, 1, self._narrow_block, norm)
        self.neck = nn.Sequential(nn.ReLU(inplace=True), mixing)
        widths = (channels[0], channels[1], neck_channels)
        self.attentions = nn.ModuleList(build_attention(attention, width) or nn.Identity() for width in widths)
        self._attends = attention != "none"
        initialise(self)
        if norm == "frozen":
            self.freeze_norms([self])

    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        size = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        x = self._level(0, self.stages[0](self.stem(images)), taps)
        joined: Tensor | None = None
        for index, (stage, lateral) in enumerate(zip(list(self.stages)[1:], self.laterals, strict=True)):
            x = stage(x)
            if index == 0:
                x = self._level(1, x, taps)
            part = _resized(x, lateral, size)
            joined = part if joined is None else joined + part
        return self._level(2, self.neck(joined), taps)

    def _level(self, index: int, x: Tensor, taps: dict[str, Tensor]) -> Tensor:
        # A ModuleList knows its members as modules.
        return attend(self.attentions[index] if self._attends else None, str(index), x, taps)  # type: ignore[arg-type]

    def person_block(self) -> nn.Module:
        """The first unit sees the whole crop, the second one halves it, so that the rest costs a third."""
        widths = [self.out_channels] + [self.person_channels] * self._person_blocks
        strides = [1, 2] + [1] * (self._person_blocks - 2) if self._person_blocks > 1 else [2]
        block = nn.Sequential(
            *(
                unit(inputs, outputs, stride, self._narrow_block, self._norm)
                for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True)
            )
        )
        initialise(block)
        return block


def _resized(x: Tensor, lateral: nn.Module, size_hw: tuple[int, int]) -> Tensor:
    # Averaging and a 1x1 convolution commute, so each happens where the map is smaller.
    if x.shape[2] > size_hw[0]:
        factor = x.shape[2] // size_hw[0]
        x = F.avg_pool2d(x, factor, factor)
    x = lateral(x)
    if (x.shape[2], x.shape[3]) == size_hw:
        return x
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)
