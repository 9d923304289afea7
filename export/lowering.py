"""From a network to the graphs of an artifact: float32 first, then the precision that was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import nn

from personsearch.core.export_recipes import ExportRecipe
from personsearch.core.manifest import graph_name
from personsearch.core.preprocess import Frame
from personsearch.core.split import SplitSettings
from personsearch.export.equalise import equalise_graphs
from personsearch.export.half import halve_graph
from personsearch.export.quantise import Calibration, calibrate, calibration_steps, convolutions, quantise_graph
from personsearch.export.to_onnx import (
    DETECTION_OUTPUTS,
    SEARCH_OUTPUTS,
    write_query_graph,
    write_search_graph,
    write_split_graphs,
)
from personsearch.models import SearchModel
from personsearch.models.deployable import pool_by, suppress_in


@dataclass(frozen=True, eq=False)
class FloatGraphs:
    """The float32 graphs of a network.

    Attributes:
        folder: holds ``search.onnx``, ``query.onnx`` but for a detector, and ``search.bN.onnx``; or ``scene.onnx`` and
            ``person.onnx``.
        search: the module behind the search graph, of layout split too, where the gate holds the two graphs to it.
        query: behind the query graph; none for a detector, which embeds nobody.
        split: how the host joins scene and person graph; none in layout joined.
    """

    folder: Path
    search: nn.Module
    query: nn.Module | None
    split: SplitSettings | None = None

    @property
    def calibrated(self) -> Path:
        """The search graph that int8 is calibrated on; layout split has one for this purpose alone."""
        return self.folder / ("search.onnx" if self.split is None else "joined/search.onnx")

    @property
    def paths(self) -> list[Path]:
        """What becomes the artifact's: the search graph first, then the others."""
        if self.split is not None:
            return [self.folder / "scene.onnx", self.folder / "person.onnx"]
        others = sorted(path for path in self.folder.glob("*.onnx") if path.name != "search.onnx")
        return [self.folder / "search.onnx", *others]


def graph_steps(recipe: ExportRecipe, frames: int, *, embeds: bool) -> int:
    """How often `write_float_graphs` and `calibrated` together call ``advance``."""
    calibrating = calibration_steps(frames, recipe.quantise) if recipe.precision == "int8" else 0
    if recipe.layout == "split":
        return 1 + (recipe.precision == "int8") + calibrating
    return len(recipe.batches) + embeds + calibrating


def write_float_graphs(
    model: SearchModel, recipe: ExportRecipe, rows: int, folder: Path, *, advance: Callable[[str], object]
) -> FloatGraphs:
    """Writes every graph of a network in float32.

    Args:
        model: in evaluation mode.
        recipe: batches, Q, opset, pooling.
        rows: K of the outputs.
        folder: to write to, empty.
        advance: called after each graph with its name.
    """
    search, embeds = model.deployable(rows), model.embedding_dim > 0
    query = model.deployable_query(recipe.query_boxes) if embeds else None
    for graph in (search, *([] if query is None else [query])):
        pool_by(graph, recipe.graph_pooling)
        suppress_in(graph, recipe.suppression_steps)
    input_wh = model.preprocess.input_wh
    outputs = SEARCH_OUTPUTS if embeds else DETECTION_OUTPUTS
    if recipe.layout == "split":
        parts = model.deployable_split(recipe.split.person_boxes, recipe.split.floor)
        suppress_in(parts.scene, recipe.suppression_steps)
        write_split_graphs(parts, folder, input_wh=input_wh, opset=recipe.opset, embeds=embeds)
        advance("scene and person")
        graphs = FloatGraphs(folder, search, query, parts.settings)
        if recipe.precision == "int8":
            graphs.calibrated.parent.mkdir()
            write_search_graph(search, graphs.calibrated, input_wh=input_wh, opset=recipe.opset, outputs=outputs)
            advance("for calibration")
        return graphs
    for batch in recipe.batches:
        name = graph_name("search", batch)
        path = folder / f"{name}.onnx"
        write_search_graph(search, path, input_wh=input_wh, opset=recipe.opset, outputs=outputs, batch=batch)
        advance(name)
    if query is not None:
        path = folder / "query.onnx"
        write_query_graph(query, path, input_wh=input_wh, query_boxes=recipe.query_boxes, opset=recipe.opset)
        advance("query")
    graphs = FloatGraphs(folder, search, query)
    if recipe.precision == "int8" and recipe.quantise.equalise:
        equalise_graphs(graphs.paths)
    return graphs


def lower(
    graphs: FloatGraphs,
    recipe: ExportRecipe,
    folder: Path,
    *,
    calibration: Calibration | None = None,
    float_layers: Sequence[str] = (),
) -> None:
    """Writes the graphs of the recipe's precision, named as the float32 ones.

    Args:
        graphs: float32.
        recipe: precision and, for int8, the target whose flavour it is.
        folder: to write to.
        calibration: for int8.
        float_layers: of int8, in place of the recipe's.
    """
    for source in graphs.paths:
        path = folder / source.name
        shutil.copyfile(source, path)
        if recipe.precision == "fp16":
            halve_graph(path, recipe.half.float_layers)
        elif calibration is not None and recipe.int8_flavour is not None:
            patterns = float_layers or recipe.quantise.patterns(recipe.int8_flavour)
            whole = convolutions(onnx.load(str(source), load_external_data=False), patterns)
            if not whole and source != graphs.paths[0]:
                continue  # all that int8 is left to is in the search graph
            quantise_graph(source, path, calibration, float_layers=patterns, flavour=recipe.int8_flavour)


def calibrated(
    graphs: FloatGraphs, recipe: ExportRecipe, frames: Sequence[Frame], *, advance: Callable[[str], object]
) -> Calibration | None:
    """The calibration of an int8 export, none for other precisions."""
    if recipe.precision != "int8":
        return None
    return calibrate(graphs.calibrated, frames, recipe.quantise, advance=lambda: advance("calibrating"))
