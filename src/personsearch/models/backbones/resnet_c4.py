"""ResNet split at C4: conv1 to conv4 on the frame, conv5 on each person (HDL, section 3.6)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import AttentionKind
from personsearch.core.student_trunk import NormKind
from personsearch.models.attention import attend, build_attention
from personsearch.models.backbones.trunk import Trunk, initialise
from personsearch.models.norms import map_norm

_UNITS = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    26: (Bottleneck, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
_WEIGHTS = {18: ResNet18_Weights.IMAGENET1K_V1, 50: ResNet50_Weights.IMAGENET1K_V1}


class ResNetC4(Trunk):
    """ResNet-50 (or narrower, or shallower) with an attention residual module after each block.

    ``stride`` is the paper's r: 16 is C4 as usual, 8 leaves conv4 unstrided, for people too small for 16.

    Names follow torchvision's ResNet, so that its weights load at width 64; strides sit on the 3x3 convolution
    (v1.5), as there.

    ``norm`` is ``batch``, ``frozen`` (the trunk's batch norms keep the statistics and scales they start with, those
    of the person block are trained, as in OIM) or ``group``. The first ``frozen_stages`` of conv1, conv2 and conv3
    are not trained.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        width: int = 64,
        stride: int = 16,
        attention: AttentionKind = "full",
        pretrained: bool = False,
        norm: NormKind = "batch",
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        block, counts = _UNITS[depth]
        self._block, self._counts, self._width = block, counts, width
        self._norm = map_norm(norm)
        self.stride = stride
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = self._norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for index in range(3):
            stage, channels = _stage(
                block,
                channels,
                width << index,
                counts[index],
                stride=1 if index == 0 or (index == 2 and stride == 8) else 2,
                norm=self._norm,
            )
            setattr(self, f"layer{index + 1}", stage)
            setattr(self, f"attention{index}", build_attention(attention, channels))
        self.out_channels = channels
        self.person_channels = (width << 3) * block.expansion
        initialise(self)
        self._imagenet: dict[str, Tensor] | None = None
        if pretrained:
            self._load_imagenet(depth, width)
        stages = [["conv1", "bn1"], ["layer1"], ["layer2"]]
        held = [self.get_submodule(name) for stage in stages[:frozen_stages] for name in stage]
        for part in held:
            part.requires_grad_(False)
        self.freeze_norms([self] if norm == "frozen" else held)

    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        x = self.stem(images)
        for index in range(3):
            x = attend(getattr(self, f"attention{index}"), str(index), self.stage(index, x), taps)
        return x

    def stem(self, images: Tensor) -> Tensor:
        """conv1 and the pooling after it: ``(B, 3, H, W)`` to ``(B, width, H / 4, W / 4)``."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return x

    def stage(self, index: int, x: Tensor) -> Tensor:
        """conv2, conv3 or conv4, ``index`` 0 to 2, without what is attached to it."""
        x = getattr(self, f"layer{index + 1}")(x)
        return x

    def person_block(self) -> nn.Module:
        stage, _ = _stage(self._block, self.out_channels, self._width << 3, self._counts[3], stride=2, norm=self._norm)
        initialise(stage)
        if self._imagenet is not None:
            prefix = "layer4."
            stage.load_state_dict({k[len(prefix) :]: v for k, v in self._imagenet.items() if k.startswith(prefix)})
        return stage

    def _load_imagenet(self, depth: int, width: int) -> None:
        if width != 64 or depth not in _WEIGHTS:
            raise InputError(
                f"pretrained weights for depth {depth} and width {width}",
                where="model.trunk",
                expected=f"width 64 and depth in {sorted(_WEIGHTS)}",
                remedy="or set `pretrained: false`",
            )
        try:
            state = _WEIGHTS[depth].get_state_dict(check_hash=True)
        except OSError as error:
            raise InputError(
                "torchvision's ImageNet weights cannot be had",
                where="model.trunk.pretrained",
                remedy=f"put them in torch's hub cache or set it to false ({error})",
            ) from None
        # torchvision's filters expect RGB; frames here are BGR.
        state["conv1.weight"] = state["conv1.weight"].flip(1)
        own = self.state_dict()
        self.load_state_dict({name: state.get(name, value) for name, value in own.items()})
        self._imagenet = dict(state)


def _stage(
    block: Callable[..., nn.Module],
    in_channels: int,
    planes: int,
    count: int,
    *,
    stride: int,
    norm: Callable[[int], nn.Module],
) -> tuple[nn.Sequential, int]:
    out_channels = planes * block.expansion  # type: ignore[attr-defined]  # both block classes have it
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), norm(out_channels)
        )
    units = [block(in_channels, planes, stride, downsample, norm_layer=norm)]
    units += [block(out_channels, planes, norm_layer=norm) for _ in range(count - 1)]
    return nn.Sequential(*units), out_channels
