"""Anchors and the box code, in one place for training and for the exported graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# exp of a larger log scale would overflow fp16 and means nothing: no person is 60 anchors tall.
MAX_LOG_SCALE = math.log(1000 / 16)


def person_anchors(heights: Sequence[float], ratio: float, stride: int, map_hw: tuple[int, int]) -> Tensor:
    """One anchor a height at every position of the feature map (HDL, section 3.2 II).

    Anchors are centred on their cell. torchvision's generator puts them on the cell's corner and rounds their
    sides to whole pixels, which costs a narrow person a third of the overlap.

    Args:
        heights: anchor heights in input pixels.
        ratio: height over width, 2.44 in the paper.
        stride: input pixels for one step on the map.
        map_hw: size of the feature map.

    Returns:
        ``(map_h * map_w * len(heights), 4)`` xyxy input pixels, the heights of one position together.
    """
    return anchor_grid(person_shapes(heights, ratio), stride, map_hw)


def person_shapes(heights: Sequence[float], ratio: float) -> Tensor:
    """Width and height ``(S, 2)`` of anchors of the given heights, ``ratio`` times as high as wide."""
    tall = torch.tensor(list(heights), dtype=torch.float32)
    return torch.stack([tall / ratio, tall], dim=1)


def grid_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Width and height ``(S, 2)`` of every size, the root of the area, in every ratio of height to width."""
    size = torch.tensor(list(sizes), dtype=torch.float32).repeat_interleave(len(ratios))
    root = torch.tensor(list(ratios), dtype=torch.float32).sqrt().repeat(len(sizes))
    return torch.stack([size / root, size * root], dim=1)


def anchor_grid(shapes_wh: Tensor, stride: int, map_hw: tuple[int, int]) -> Tensor:
    """An anchor of every shape ``(S, 2)`` centred on every cell, ``(map_h * map_w * S, 4)``; as `person_anchors`."""
    sides = torch.cat([-shapes_wh, shapes_wh], dim=1) / 2  # (S, 4)
    rows = (torch.arange(map_hw[0], dtype=torch.float32) + 0.5) * stride
    columns = (torch.arange(map_hw[1], dtype=torch.float32) + 0.5) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (centres + sides).view(-1, 4)


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Deltas that turn ``anchors`` into ``boxes``, ``(N, 4)`` (Faster R-CNN, equation 2), times ``weights``."""
    size = anchors[:, 2:] - anchors[:, :2]
    box_size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    shift = ((boxes[:, :2] + boxes[:, 2:]) - (anchors[:, :2] + anchors[:, 2:])) / 2 / size
    return torch.cat([shift, torch.log(box_size / size)], dim=1) * boxes.new_tensor(list(weights))


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Inverse of `encode`, over any leading dimensions ``(..., 4)``."""
    deltas = deltas / deltas.new_tensor(list(weights))
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SCALE)) * size / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def clip(boxes: Tensor, input_wh: tuple[int, int]) -> Tensor:
    """Boxes ``(..., 4)`` cut at the input's edges."""
    width, height = input_wh
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
