"""HDL's student: every block of the teacher replaced by depthwise-separable modules (HDL, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from personsearch.core.model_recipes import AttentionKind
from personsearch.core.student_trunk import NormKind
from personsearch.models.attention import attend, build_attention
from personsearch.models.backbones.trunk import Trunk, initialise
from personsearch.models.norms import NormMaker, map_norm


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, *, norm: NormMaker, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, norm, ReLU; padded so that stride 1 keeps the size."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm(out_channels),
        nn.ReLU(inplace=True),
    )


class SeparableModule(nn.Sequential):
    """One normal and one depthwise-separable convolution, each with norm and ReLU (HDL, figure 3b).

    The figure's kernel sizes are lost in the copies we know; 1x1 for the normal one and the stride on the
    depthwise 3x3 come closest to the printed FLOPs (37.5 G a scene at 800x800).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: NormMaker) -> None:
        super().__init__(
            conv_norm_relu(in_channels, out_channels, 1, norm=norm),
            conv_norm_relu(out_channels, out_channels, 3, norm=norm, stride=stride, groups=out_channels),
            conv_norm_relu(out_channels, out_channels, 1, norm=norm),
        )


def separable_block(
    in_channels: int, out_channels: int, modules: int, stride: int = 2, *, norm: NormMaker
) -> nn.Sequential:
    """``modules`` modules, the last with ``stride`` (HDL, section 3.6: s1 = s2 = 1, s3 = 2)."""
    widths = [in_channels] + [out_channels] * modules
    return nn.Sequential(
        *(SeparableModule(widths[i], widths[i + 1], stride if i == modules - 1 else 1, norm) for i in range(modules))
    )


class DepthwiseSeparable(Trunk):
    """3x3 stem at stride 2, blocks 0 to 2 at strides 4, 8 and 16 (or 8), block 3 on each person.

    ``norm`` is that of the trunk and block 3; ``frozen`` holds the trunk's alone.
    """

    def __init__(
        self,
        *,
        stem_channels: int = 32,
        channels: Sequence[int] = (128, 256, 384),
        stride: int = 16,
        modules: int = 3,
        person_channels: int = 512,
        attention: AttentionKind = "full",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels, self.person_channels = channels[-1], person_channels
        self._modules_per_block, self._norm = modules, map_norm(norm)
        self.stem = conv_norm_relu(3, stem_channels, 3, norm=self._norm, stride=2)
        widths = [stem_channels, *channels]
        strides = (2, 2, 2 if stride == 16 else 1)
        self.blocks = nn.ModuleList(
            separable_block(widths[i], widths[i + 1], modules, strides[i], norm=self._norm)
            for i in range(len(channels))
        )
        self.attentions = nn.ModuleList(build_attention(attention, width) or nn.Identity() for width in channels)
        self._attends = attention != "none"
        initialise(self)
        if norm == "frozen":
            self.freeze_norms([self])

    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        x: Tensor = self.stem(images)
        for level, (block, attention) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            # A ModuleList knows its members as modules.
            x = attend(attention if self._attends else None, str(level), block(x), taps)  # type: ignore[arg-type]
        return x

    def person_block(self) -> nn.Module:
        block = separable_block(self.out_channels, self.person_channels, self._modules_per_block, norm=self._norm)
        initialise(block)
        return block
