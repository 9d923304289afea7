"""What a network does as a list of steps, from a module or from a graph, and what follows from it.

One definition for both. *Activations* are the tensors that depend on the frame; constants and weights are none. A
view (reshape, transpose, slice, copy to another order) lies in the memory of what it reads. An element-wise operator
writes over an input of its size that nothing reads later, as every engine does. The *peak* is the largest sum of
activations that lie in memory at one step. *Traffic* is what convolutions, matrix products and RoIAlign read and
write, each operand once, weights included; what lies between them (activations, additions, normalisation) is taken as
fused into them, so that it is what a good engine without large caches moves, not what an interpreter does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from personsearch.core.manifest import Pooling

Part = Literal["scene", "person", "selection"]
Phase = Literal["scene", "person"]


@dataclass(frozen=True)
class Layer:
    """A convolution, a matrix product, or RoIAlign, which has none of either.

    Attributes:
        macs: multiply-accumulates.
        rows: its output's first side: frames in the scene, persons after proposals were chosen.
        weighted: whether one operand is weights; a product of two activations is selection (NMS, RoI pooling).
        activation_bytes: activations read and written.
        weight_bytes: weights and bias.
        is_roi_align: it is RoIAlign.
    """

    macs: int
    rows: int
    weighted: bool
    activation_bytes: int
    weight_bytes: int
    is_roi_align: bool = False


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        reads: memory, by number, that it reads; only activations.
        writes: memory that it fills anew.
        phase: scene until proposals are chosen (top-k), person from then on.
        elementwise: it may write over what it reads.
        layer: for what reads and writes on its own account.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    phase: Phase
    elementwise: bool = False
    layer: Layer | None = None


@dataclass(frozen=True)
class Trace:
    """A network's steps in the order they run.

    Attributes:
        steps: see `Step`.
        sizes: bytes of each piece of memory.
        inputs: memory that is filled before the first step.
        outputs: memory that is read after the last one.
        weights: elements of every weight and bias that a layer reads, by name.
    """

    steps: tuple[Step, ...]
    sizes: Mapping[int, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def pooling(self) -> Pooling:
        """By RoIAlign where there is one, else by products."""
        return "roi_align" if any(step.layer and step.layer.is_roi_align for step in self.steps) else "matrix"


def pooling_layer(map_bytes: int, pooled_bytes: int, rows: int) -> Layer:
    """RoIAlign: no products, but a map read and crops written that nothing fuses; the boxes are left out."""
    return Layer(0, rows, weighted=False, activation_bytes=map_bytes + pooled_bytes, weight_bytes=0, is_roi_align=True)


def part_of(step: Step) -> Part:
    """Where the work of a layer belongs: without weights it is selection."""
    if step.layer is not None and not step.layer.weighted:
        return "selection"
    return step.phase


def macs_by_part(trace: Trace) -> dict[Part, int]:
    """Multiply-accumulates of all layers of each part."""
    found: dict[Part, int] = {"scene": 0, "person": 0, "selection": 0}
    for step in trace.steps:
        if step.layer is not None:
            found[part_of(step)] += step.layer.macs
    return found


def traffic_by_part(trace: Trace) -> dict[Part, int]:
    """Bytes that the layers of each part read and write."""
    found: dict[Part, int] = {"scene": 0, "person": 0, "selection": 0}
    for step in trace.steps:
        if step.layer is not None:
            found[part_of(step)] += step.layer.activation_bytes + step.layer.weight_bytes
    return found


def person_passes(trace: Trace) -> dict[int, int]:
    """Multiply-accumulates of the person part by the number of rows that go through a layer, most rows first."""
    found: dict[int, int] = defaultdict(int)
    for step in trace.steps:
        if step.layer is not None and part_of(step) == "person":
            found[step.layer.rows] += step.layer.macs
    return dict(sorted(found.items(), reverse=True))


def peak_bytes(trace: Trace) -> dict[Phase, int]:
    """The most memory that activations take at one step of each phase, by liveness."""
    last = _last_reads(trace)
    live = {memory: trace.sizes[memory] for memory in trace.inputs}
    total = sum(live.values())
    peaks: dict[Phase, int] = {"scene": 0, "person": 0}
    for number, step in enumerate(trace.steps):
        ending = [memory for memory in set(step.reads) if last[memory] == number and memory in live]
        for memory in step.writes:
            if last.get(memory, -1) < number:
                continue  # nothing reads it, as the indices of a maximum
            size = trace.sizes[memory]
            taken = _taken_over(ending, live, size) if step.elementwise else None
            if taken is not None:
                ending.remove(taken)
                total -= live.pop(taken)
            live[memory] = size
            total += size
        peaks[step.phase] = max(peaks[step.phase], total)
        for memory in ending:
            total -= live.pop(memory)
    return peaks


def _last_reads(trace: Trace) -> dict[int, int]:
    last: dict[int, int] = {}
    for number, step in enumerate(trace.steps):
        for memory in step.reads:
            last[memory] = number
    for memory in trace.outputs:
        last[memory] = len(trace.steps)
    return last


def _taken_over(ending: Sequence[int], live: Mapping[int, int], size: int) -> int | None:
    """Of what nothing reads later the smallest that is large enough; none where nothing is."""
    fitting = [memory for memory in ending if live[memory] >= size]
    return min(fitting, key=lambda memory: (live[memory], memory), default=None)
