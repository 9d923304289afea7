"""What runs in place of what was trained: branches merged, batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

ModuleT = TypeVar("ModuleT", bound=nn.Module)
LinearLayer = TypeVar("LinearLayer", nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


class Mergeable(nn.Module, ABC):
    """A module that is a simpler one in evaluation mode and knows which."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """A new module: in evaluation mode the same function."""


class FoldsNorms(nn.Module, ABC):
    """A module whose arrangement of convolutions and batch norms no general rule knows."""

    @abstractmethod
    def fold_norms(self) -> None:
        """Changes the module, which is a copy and in evaluation mode: batch norms into convolutions before them."""


class ChannelAffine(nn.Module):
    """``x * scale + shift`` a channel: a batch norm with fixed statistics that has no convolution before it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        scale, shift = scale_and_shift(norm)
        dtype = next(iter(norm.buffers())).dtype
        self.register_buffer("scale", scale.to(dtype))
        self.register_buffer("shift", shift.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in x.shape[2:]))  # (C, 1, 1) for a map, (C,) for rows
        return x * self.scale.view(shape) + self.shift.view(shape)


def folded(module: ModuleT) -> ModuleT:
    """A copy of ``module`` for running only: in evaluation mode the same function, to rounding, with no batch norm.

    `Mergeable` modules are merged, `FoldsNorms` do their part. A batch norm right after a convolution or linear layer
    goes into its weights: neighbours in an ``nn.Sequential``, and torchvision's pairs ``conv1, bn1`` and so on. A layer
    that is used with two different norms is outside these rules. Any other batch norm becomes a `ChannelAffine`.
    Parameters keep their names but for those that are no more; folding is done in double precision.

    Args:
        module: in any mode; it is left as it is.

    Returns:
        In evaluation mode, nothing to be trained.

    Raises:
        ValueError: a batch norm without running statistics, which no fixed function equals.
    """
    copied = copy.deepcopy(module).eval()
    result = _fold(copied, {})
    # Folding keeps what a module is, batch norms aside.
    return result.requires_grad_(False)  # type: ignore[return-value]


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The batch norm as ``x * scale + shift``, each ``(C,)`` in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        raise ValueError(f"{type(norm).__name__} keeps no running statistics and cannot be folded")
    weight, bias = norm.weight, norm.bias
    # A module knows its attributes as tensors or modules.
    scale = torch.rsqrt(variance.detach().double() + float(norm.eps))  # type: ignore[arg-type]
    if isinstance(weight, Tensor):
        scale = scale * weight.detach().double()
    shift = -mean.detach().double() * scale
    if isinstance(bias, Tensor):
        shift = shift + bias.detach().double()
    return scale, shift


def fused_weights(layer: nn.Conv2d | nn.Linear, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias, in double precision, of a layer that does the batch norm's work too."""
    scale, shift = scale_and_shift(norm)
    weight = layer.weight.detach().double() * scale.view(-1, *(1 for _ in layer.weight.shape[1:]))
    return weight, shift if layer.bias is None else shift + layer.bias.detach().double() * scale


def with_weights(layer: LinearLayer, weight: Tensor, bias: Tensor) -> LinearLayer:
    """A copy of ``layer`` with the given weight and bias, in the precision of the layer's own."""
    made = copy.deepcopy(layer)
    made.weight = nn.Parameter(weight.to(layer.weight.dtype))
    made.bias = nn.Parameter(bias.to(layer.weight.dtype))
    return made


def _fold(module: nn.Module, done: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
    # `done` keeps what was replaced alive: a freed module's id could come again.
    if id(module) in done:
        return done[id(module)][1]
    result = module
    if isinstance(module, Mergeable):
        result = module.merged().eval()
    elif isinstance(module, NORMS):
        result = ChannelAffine(module)
    done[id(module)] = (module, result)
    if isinstance(result, FoldsNorms):
        result.fold_norms()
    for conv, norm in _pairs(result):
        layer, following = getattr(result, conv), getattr(result, norm)
        setattr(result, conv, with_weights(layer, *fused_weights(layer, following)))
        setattr(result, norm, nn.Identity())
    for name, child in list(result._modules.items()):
        if child is not None:
            setattr(result, name, _fold(child, done))
    return result


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of children that are a convolution or linear layer and the batch norm that alone reads it."""
    children = module._modules
    if isinstance(module, nn.Sequential):
        names = list(children)
        candidates = list(pairwise(names))
    else:
        candidates = [(name, f"bn{name[4:]}") for name in children if re.fullmatch(r"conv\d+", name)]
    for conv, norm in candidates:
        if isinstance(children[conv], nn.Conv2d | nn.Linear) and isinstance(children.get(norm), NORMS):
            yield conv, norm
