"""Cross-layer equalisation: ranges of channels evened out between consecutive convolutions, exactly in float.

A ReLU lets a positive factor pass, so a channel may leave one convolution smaller and be made larger by the next (Nagel
et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.1). Depthwise
convolutions need it most: each of their filters is a channel of its own, and ranges between channels differ by up to
an order of magnitude while all of them share the one scale of their answer. Factors are powers of two, so that every
product and every sum keeps its digits: the float graph gives the very same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Floats = NDArray[np.float32]
ROUNDS = 8
LARGEST_FACTOR = 2.0**8


@dataclass(frozen=True)
class Pair:
    """Two convolutions with nothing but a ReLU between them.

    Attributes:
        first: name of the weight whose answers the other reads alone.
        bias: of the first; empty where it has none.
        second: name of the weight that reads them.
        groups: of the second.
    """

    first: str
    bias: str
    second: str
    groups: int

    @property
    def key(self) -> tuple[str, str]:
        """The weights' names, the same in every graph of a model."""
        return _plain(self.first), _plain(self.second)


def equalise_graphs(paths: Iterable[Path]) -> int:
    """Evens out every chain of the graphs of one model, in place.

    Args:
        paths: the search graph first: its chains are evened out, in the other graphs where they are there.

    Returns:
        Number of pairs.

    Raises:
        ValueError: a graph has a weight of a pair, but not the pair: it would no longer be the same network.
    """
    search, *others = paths
    factors = _equalise(search, None)
    for path in others:
        _equalise(path, factors)
    return len(factors)


def channel_spread(path: Path) -> float:
    """Largest ratio between the ranges of two channels that leave the first convolution of a pair; 1 without pairs."""
    model = onnx.load(str(path), load_external_data=False)
    values = _values(model)
    spreads = [1.0]
    for pair in find_pairs(model):
        ranges = _out_ranges(values[pair.first])
        used = ranges[ranges > 0]
        spreads.append(float(used.max() / used.min()) if len(used) else 1.0)
    return max(spreads)


def find_pairs(model: onnx.ModelProto) -> list[Pair]:
    """Every two convolutions of a graph with nothing but a ReLU between them, in order; weights used once only."""
    stored = {item.name for item in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    pairs = []
    for node in model.graph.node:
        if node.op_type != "Conv" or not all(name in stored and len(readers[name]) == 1 for name in node.input[1:]):
            continue
        name = node.output[0]
        after = readers.get(name, [])
        if len(after) == 1 and after[0].op_type == "Relu" and name not in outputs:
            name = after[0].output[0]
            after = readers.get(name, [])
        if len(after) != 1 or name in outputs or after[0].op_type != "Conv" or after[0].input[0] != name:
            continue
        following = after[0]
        if following.input[1] in stored and len(readers[following.input[1]]) == 1:
            groups = next((helper.get_attribute_value(item) for item in following.attribute if item.name == "group"), 1)
            bias = node.input[2] if len(node.input) > 2 else ""
            pairs.append(Pair(node.input[1], bias, following.input[1], int(groups)))
    return pairs


def _equalise(path: Path, given: Mapping[tuple[str, str], Floats] | None) -> dict[tuple[str, str], Floats]:
    """One graph: with the given factors, or with its own, which are returned."""
    model = onnx.load(str(path), load_external_data=False)
    values, pairs = _values(model), find_pairs(model)
    if given is None:
        total = {pair.key: np.ones(len(values[pair.first]), np.float32) for pair in pairs}
        for _ in range(ROUNDS):  # evening out one pair moves the ranges of the next
            for pair in pairs:
                factors = _factors(values[pair.first], values[pair.second], pair.groups)
                _apply(values, pair, factors)
                total[pair.key] *= factors
    else:
        total = {pair.key: given[pair.key] for pair in pairs if pair.key in given}
        moved = {name for key in given for name in key}
        here = {name for key in total for name in key}
        stored = {_plain(item.name) for item in model.graph.initializer}
        astray = sorted((stored & moved) - here)
        if astray:
            raise ValueError(f"{path.name}: `{astray[0]}` does not stand in the same chain as in the search graph")
        for pair in pairs:
            if pair.key in total:
                _apply(values, pair, total[pair.key])
    for item in model.graph.initializer:
        if item.name in values:
            item.CopyFrom(numpy_helper.from_array(values[item.name], item.name))
    onnx.save(model, str(path))
    return total


def _factors(first: Floats, second: Floats, groups: int) -> Floats:
    """What each channel is divided by: the root of the ratio of its two ranges, as a power of two."""
    leaving, entering = _out_ranges(first), _in_ranges(second, groups)
    used = (leaving > 0) & (entering > 0)
    ratio = np.where(used, leaving, 1.0) / np.where(used, entering, 1.0)
    powers = np.exp2(np.rint(0.5 * np.log2(ratio)))
    return np.clip(powers, 1 / LARGEST_FACTOR, LARGEST_FACTOR).astype(np.float32)


def _apply(values: dict[str, Floats], pair: Pair, factors: Floats) -> None:
    shape = (-1, 1, 1, 1)
    values[pair.first] = values[pair.first] / factors.reshape(shape)
    if pair.bias:
        values[pair.bias] = values[pair.bias] / factors
    second = values[pair.second]
    share = second.shape[1]  # input channels of a group
    by_group = factors.reshape(pair.groups, share)
    rows = np.repeat(by_group, len(second) // pair.groups, axis=0)  # (c, share)
    values[pair.second] = second * rows[:, :, None, None]


def _out_ranges(weight: Floats) -> Floats:
    ranges: Floats = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    return ranges


def _in_ranges(weight: Floats, groups: int) -> Floats:
    parts = np.abs(weight).max(axis=(2, 3)).reshape(groups, -1, weight.shape[1])
    ranges: Floats = parts.max(axis=1).reshape(-1)
    return ranges


def _values(model: onnx.ModelProto) -> dict[str, Floats]:
    wanted = {name for pair in find_pairs(model) for name in (pair.first, pair.bias, pair.second) if name}
    return {
        item.name: np.asarray(numpy_helper.to_array(item), np.float32)
        for item in model.graph.initializer
        if item.name in wanted
    }


def _plain(weight: str) -> str:
    # The search graph holds the trunk as a part of `scene`, the query graph holds it alone.
    return weight.removeprefix("scene.")
