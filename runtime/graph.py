"""One loaded graph, whatever library runs it, and the check that it is what the manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from personsearch.core.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        dtype: NumPy's name of the element type.
        shape: of the tensor; none for a side that is not fixed.
    """

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {['any' if side is None else side for side in self.shape]}"


class Graph(Protocol):
    """A graph ready to run. Used from one thread at a time."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    @property
    def max_batch(self) -> int | None:
        """Most frames of one run where the batch is not fixed; none for any number."""

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Every output, in arrays that stay as they are after the next run."""

    def close(self) -> None:
        """Frees it."""


def check_graph(
    graph: Graph, path: Path, *, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Compares names, element types and every side that is known on both sides with the manifest's.

    Raises:
        InputError: one differs.
    """
    for kind, expected, found in (("input", inputs, graph.inputs), ("output", outputs, graph.outputs)):
        if found.keys() != expected.keys():
            raise InputError(
                f"{kind}s are {', '.join(sorted(found)) or 'none'}",
                where=str(path),
                expected=", ".join(sorted(expected)),
                remedy="export the artifact again",
            )
        for name, want in expected.items():
            have = found[name]
            same = len(have.shape) == len(want.shape) and all(
                None in (one, other) or one == other for one, other in zip(have.shape, want.shape, strict=True)
            )
            if have.dtype != want.dtype or not same:
                raise InputError(
                    f"{kind} `{name}` is {have}",
                    where=str(path),
                    expected=f"{want} as the manifest says",
                    remedy="export the artifact again",
                )
