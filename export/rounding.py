"""Weights to int8: each to the nearest step, or so that the errors of a filter make up for each other.

Filters of merged branches hold one large tap, the identity's, that sets the step for all the others: 8 to 28 times
their root mean square in a trained ``dense`` student, 2 to 5 times in a network without branches. Rounded to nearest,
the many small taps lose most of their digits, and their errors add up, because what they are multiplied with, the
outputs of a ReLU, has one sign. Rounding one tap at a time and moving the others, which are still free, so that the
layer's answer changes least (Frantar et al., "Optimal Brain Compression", NeurIPS 2022; GPTQ, ICLR 2023) needs
nothing at run time but the same int8 weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.preprocess import Frame
from personsearch.core.seeding import rng_for

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
STEPS = 127
SAMPLES_PER_FRAME = 512
MOST_TAPS = 1536
"""Filters with more are rounded to nearest: the work grows with the cube, and so many taps have no single large one."""
DAMPING = 0.01
"""Added to the diagonal, in units of its mean: directions that the frames never took must not be free."""


@dataclass(frozen=True)
class Filter:
    """A convolution as a matrix.

    Attributes:
        weight: name of its weight.
        source: tensor it reads.
        shape: of the weight, (c, C / groups, h, w).
        strides: vertical, horizontal.
        pads: top, left, bottom, right.
        groups: of the convolution.
    """

    weight: str
    source: str
    shape: tuple[int, ...]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    @classmethod
    def of(cls, node: onnx.NodeProto, weight: NDArray[np.generic]) -> Filter | None:
        """Of a node; none where it is dilated, for which there is no rule here."""
        given: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        plain = (
            weight.ndim == 4
            and set(given.get("dilations", [1])) == {1}
            and given.get("auto_pad", b"") in (b"", b"NOTSET")
        )
        if not plain:
            return None
        strides, pads = given.get("strides", [1, 1]), given.get("pads", [0, 0, 0, 0])
        return cls(node.input[1], node.input[0], weight.shape, tuple(strides), tuple(pads), int(given.get("group", 1)))


def steps_of(weight: Floats) -> Floats:
    """``(c,)`` size of one int8 step of each output channel, so that its largest tap is 127 steps."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    return np.where(largest > 0, largest / STEPS, 1.0).astype(np.float32)


def round_nearest(weight: Floats, steps: Floats) -> NDArray[np.int8]:
    """Each tap to its nearest step."""
    shaped = steps.reshape(-1, *(1 for _ in weight.shape[1:]))
    rounded: NDArray[np.int8] = np.clip(np.rint(weight / shaped), -STEPS, STEPS).astype(np.int8)
    return rounded


def round_compensated(weight: Floats, steps: Floats, second_moments: Doubles) -> NDArray[np.int8]:
    """Taps rounded one after the other, every error spread over the taps that are still free.

    Args:
        weight: ``(c, n)`` filters as rows.
        steps: ``(c,)`` see `steps_of`.
        second_moments: ``(n, n)`` sum of ``x x^T`` over what the filters are multiplied with; the error that is made
            small is ``(w - q) M (w - q)^T``.

    Returns:
        ``(c, n)`` steps. Taps that stand on a step stay there. Rounding one tap at a time is greedy and now and then
        ends further off than the nearest steps; such a filter gets those, so that no filter's error is larger.
    """
    plain = second_moments / max(float(np.trace(second_moments)) / len(second_moments), 1e-30)
    moments = plain + DAMPING * np.eye(len(plain))
    order = np.argsort(-np.diag(moments), kind="stable")  # what matters most is rounded while most is free
    ordered = moments[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(ordered)).T
    free = weight[:, order].astype(np.float64)
    rounded = np.zeros_like(free)
    scale = steps.astype(np.float64)
    for column in range(free.shape[1]):
        rounded[:, column] = np.clip(np.rint(free[:, column] / scale), -STEPS, STEPS)
        error = (free[:, column] - rounded[:, column] * scale) / upper[column, column]
        free[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
    compensated = np.empty_like(rounded)
    compensated[:, order] = rounded
    nearest = round_nearest(weight, steps).astype(np.float64)

    def losses(steps_of_taps: Doubles) -> Doubles:
        error = weight - steps_of_taps * scale[:, None]
        found: Doubles = np.einsum("ci,ij,cj->c", error, plain, error, optimize=True)
        return found

    better = losses(compensated) < losses(nearest)
    return np.where(better[:, None], compensated, nearest).astype(np.int8)


def rounded_weights(
    graph: Path, weights: Sequence[str], frames: Sequence[Frame], *, advance: Callable[[], object] = lambda: None
) -> dict[str, NDArray[np.int8]]:
    """Compensated int8 weights of a search graph's convolutions.

    Args:
        graph: float32.
        weights: names of the convolutions' weights.
        frames: letterboxed, ``(H, W, 3)``: what the filters are multiplied with is taken from them.
        advance: called after each frame.

    Returns:
        By weight name, in the weight's shape. Depthwise and other grouped convolutions, whose filters have a few taps
        of their own each, are rounded group by group. Dilated ones and those of more than `MOST_TAPS` are left out.
    """
    model = onnx.load(str(graph), load_external_data=False)
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    filters = [
        found
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in set(weights)
        for found in [Filter.of(node, values[node.input[1]])]
        if found is not None and np.prod(found.shape[1:]) <= MOST_TAPS
    ]
    moments = _second_moments(model, filters, frames, advance)
    return {item.weight: _round(item, values[item.weight], moments[item.weight]) for item in filters}


def _round(item: Filter, weight: NDArray[np.generic], moments: Doubles) -> NDArray[np.int8]:
    values = np.asarray(weight, dtype=np.float32)
    steps, rows = steps_of(values), values.reshape(len(values), -1)
    share = len(rows) // item.groups
    parts = [
        round_compensated(rows[share * group : share * (group + 1)], steps[share * group : share * (group + 1)], moment)
        for group, moment in enumerate(moments)
    ]
    return np.concatenate(parts).reshape(values.shape)


def _second_moments(
    model: onnx.ModelProto, filters: Sequence[Filter], frames: Sequence[Frame], advance: Callable[[], object]
) -> Mapping[str, Doubles]:
    """``(groups, n, n)`` for each filter, n taps, over samples of every frame."""
    sources = sorted({item.source for item in filters})
    known = {value.name for value in model.graph.output}
    for name in sources:
        if name not in known:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums = {item.weight: np.zeros((item.groups, *[int(np.prod(item.shape[1:]))] * 2)) for item in filters}
    for number, frame in enumerate(frames):
        maps = dict(zip(sources, session.run(sources, {"frames": frame[None]}), strict=True))
        for item in filters:
            taps = patches(maps[item.source], item, rng_for(number, item.weight)).astype(np.float64)
            sums[item.weight] += taps.transpose(1, 2, 0) @ taps.transpose(1, 0, 2)
        advance()
    return sums


def patches(source: Floats, item: Filter, rng: np.random.Generator) -> Floats:
    """What a filter is multiplied with at sampled positions of its input.

    Args:
        source: ``(B, C, H, W)``.
        item: the filter.
        rng: draws `SAMPLES_PER_FRAME` positions, or takes all where there are fewer.

    Returns:
        ``(samples, groups, taps)``.
    """
    top, left, bottom, right = item.pads
    padded = np.pad(source, ((0, 0), (0, 0), (top, bottom), (left, right)))
    tall, wide = item.shape[2:]
    rows = (padded.shape[2] - tall) // item.strides[0] + 1
    columns = (padded.shape[3] - wide) // item.strides[1] + 1
    total = len(source) * rows * columns
    chosen = np.arange(total) if total <= SAMPLES_PER_FRAME else rng.choice(total, SAMPLES_PER_FRAME, replace=False)
    image, place = np.divmod(chosen, rows * columns)
    row, column = np.stack(np.divmod(place, columns)) * np.array(item.strides)[:, None]
    vertical = row[:, None, None] + np.arange(tall)[:, None]
    horizontal = column[:, None, None] + np.arange(wide)
    found = padded[image[:, None, None], :, vertical, horizontal]  # (samples, h, w, C)
    found = found.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(found).reshape(len(chosen), item.groups, -1)
