"""The gate's own way to run a split artifact: `Graphs` of a scene and a person graph joined by the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from personsearch.core.detections import FloatArray
from personsearch.core.manifest import Int8Flavour
from personsearch.core.preprocess import Frame
from personsearch.core.split import Array, RunGraph, SplitSearch, SplitSettings
from personsearch.export.onnx_graphs import open_session
from personsearch.export.openvino_graphs import compile_graph, run_graph
from personsearch.export.rows import Rows

Join = Callable[[RunGraph, RunGraph], SplitSearch]
"""Joins a scene and a person graph that can be run."""


class SplitGraphs:
    """`Graphs` of two graphs; every used row comes back, whatever its score."""

    def __init__(self, split: SplitSearch) -> None:
        self._split = split

    def search(self, frame: Frame) -> Rows:
        return Rows(*self._split.search(frame[None]))

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        return self._split.embed(frame[None], boxes)


def joining(settings: SplitSettings, *, input_wh: tuple[int, int], rows: int, embedding_dim: int) -> Join:
    """Joins graphs of frames of ``input_wh`` to ``rows`` rows (K) with embeddings of ``embedding_dim`` (D)."""
    return partial(SplitSearch, settings=settings, input_wh=input_wh, rows=rows, embedding_dim=embedding_dim)


def split_onnx(folder: Path, join: Join, *, optimised: bool = True) -> SplitGraphs:
    """``scene.onnx`` and ``person.onnx`` of a folder under ONNX Runtime on the CPU, see `OnnxGraphs`."""
    scene, person = (_onnx_runner(folder / f"{name}.onnx", optimised) for name in ("scene", "person"))
    return SplitGraphs(join(scene, person))


def split_openvino(folder: Path, join: Join, int8_flavour: Int8Flavour | None = None) -> SplitGraphs:
    """``scene.onnx`` and ``person.onnx`` of a folder under OpenVINO on the CPU, see `OpenVinoGraphs`.

    Raises:
        RuntimeError: OpenVINO refuses a graph.
    """
    scene, person = (_openvino_runner(folder / f"{name}.onnx", int8_flavour) for name in ("scene", "person"))
    return SplitGraphs(join(scene, person))


def _onnx_runner(path: Path, optimised: bool) -> RunGraph:
    session = open_session(path, optimised=optimised)
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return run


def _openvino_runner(path: Path, int8_flavour: Int8Flavour | None) -> RunGraph:
    request = compile_graph(path, int8_flavour)

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return run_graph(request, **feeds)

    return run
