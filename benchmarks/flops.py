"""Counting operations, weights and memory by one convention, on the module and on the exported graph.

Convention: one multiply-accumulate (MAC) is two FLOPs, and both are printed. Counted are convolutions and matrix
products (fully connected layers); normalisation, activations, RoIAlign, resizing and top-k are not. Three parts are
kept apart: the *scene* (once a frame: trunk and person detection subnet), the *persons* (the work on K RoIs), and
*selection* (products of two activations: NMS as matrix steps, and RoI pooling where the graph pools by products). The
module is counted in the form that is exported; run by torch, its NMS is an operator. What peak memory and traffic are:
`flops_trace`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from personsearch.benchmarks.flops_trace import Trace, macs_by_part, peak_bytes, person_passes, traffic_by_part
from personsearch.benchmarks.pair_cost import PairCost, count_pair
from personsearch.benchmarks.systems import checkpoint_file, system_name
from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe
from personsearch.core.files import sha256_file
from personsearch.core.manifest import Pooling, load_artifact
from personsearch.core.recipe import StrictModel, load_recipe
from personsearch.core.recipes import TrainRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from personsearch.models.search_model import SearchModel

CONVENTION = "1 MAC = 2 FLOPs; convolutions and matrix products only"
Source = Literal["traced module", "ONNX graph"]


class FlopsResult(StrictModel):
    """What one frame of ``input_wh`` pixels with ``persons`` RoIs costs."""

    subject: str
    source: Source
    sha256: str = Field(default="", description="of the checkpoint or of the graph; empty for a recipe")
    convention: str = CONVENTION
    input_wh: tuple[int, int]
    pooling: Pooling = Field(description="how RoIs are pooled; products count as selection, RoIAlign is none")
    persons: int = Field(description="K, RoIs a frame")
    scene_macs: int = Field(description="once a frame")
    person_macs: int = Field(description="for each person, all passes")
    persons_macs: int = Field(description="for all persons of a frame; a second pass may be over fewer")
    selection_macs: int = Field(description="NMS, and RoI pooling where it is matrix products")
    parameters: int = Field(
        description="weights and biases that run: no identity layer, branches and batch norms folded, copies once"
    )
    scene_peak_bytes: int = Field(description="activations that lie in memory at once, at most, before proposals")
    persons_peak_bytes: int = Field(description="and from then on, all K persons")
    scene_traffic_bytes: int = Field(description="read and written by layers, weights included, once a frame")
    persons_traffic_bytes: int = Field(description="for all K persons, weights read once")
    selection_traffic_bytes: int = Field(description="of the products of selection, and of RoIAlign")
    pair: PairCost | None = Field(
        default=None, description="one pair of query and frame, of a query-guided network; the rest is without a query"
    )

    @property
    def total_macs(self) -> int:
        """The whole frame: scene, K persons, selection."""
        return self.scene_macs + self.persons_macs + self.selection_macs

    @property
    def peak_bytes(self) -> int:
        """Activations at once, at most, over the whole frame."""
        return max(self.scene_peak_bytes, self.persons_peak_bytes)

    @property
    def traffic_bytes(self) -> int:
        """Read and written over the whole frame."""
        return self.scene_traffic_bytes + self.persons_traffic_bytes + self.selection_traffic_bytes


def count_path(path: Path, pooling: Pooling | None = None) -> FlopsResult:
    """Counts a recipe (.yaml), a checkpoint or an artifact; an artifact's count is that of its search graph.

    Args:
        path: of any of them.
        pooling: how a recipe's or a checkpoint's network pools, see `count_model`; an artifact has its own.

    Raises:
        InputError: none of these, or what is there is damaged.
    """
    if path.suffix in (".yaml", ".yml"):
        from personsearch.models.build import build_model, without_start_weights

        recipe = train_recipe(path)
        model = build_model(without_start_weights(recipe.model), recipe.preprocess, person_count=1)
        return count_model(model, subject=path.stem, pooling=pooling)
    checkpoint = checkpoint_file(path)
    if checkpoint is None:
        graph = load_artifact(path).graphs.get("search")
        if graph is None:
            raise InputError("has no graph `search`", where=str(path), expected="an artifact of layout joined")
        return count_graph(path / graph.file, subject=system_name(path), sha256=graph.sha256)
    from personsearch.models.checkpoint import load_model

    model, sha256 = load_model(checkpoint)[0], sha256_file(checkpoint)
    return count_model(model, subject=system_name(path), sha256=sha256, pooling=pooling)


def count_model(model: SearchModel, *, subject: str, sha256: str = "", pooling: Pooling | None = None) -> FlopsResult:
    """Counts a network in the form that is exported, by tracing it without computing anything.

    Args:
        model: with the size of its frames.
        subject: what the result is called.
        sha256: of the file it came from.
        pooling: how its graph pools; none: as a graph for ONNX Runtime and OpenVINO does (docs/adr/0022).
    """
    import torch

    from personsearch.benchmarks.flops_module import trace_module
    from personsearch.models.deployable import pool_by, suppress_in
    from personsearch.models.fold import folded

    width, height = model.preprocess.input_wh
    frames = torch.empty((1, height, width, 3), dtype=torch.uint8, device="meta")
    usual = ExportRecipe()
    # What runs: a trunk that trains as several branches runs as one.
    graph = folded(model.deployable())
    pool_by(graph, pooling or usual.graph_pooling)
    suppress_in(graph, usual.suppression_steps)
    result = _result(trace_module(graph, frames), subject, "traced module", (width, height), sha256, subject)
    return result.model_copy(update={"pair": count_pair(model)})


def module_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of one forward pass by torch's own counter; ``inputs`` lie on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shadow = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(*inputs)
    return int(counter.get_total_flops()) // 2


def count_graph(path: Path, *, subject: str, sha256: str = "") -> FlopsResult:
    """Counts an exported search graph from its static shapes; its batch is one frame.

    Raises:
        InputError: not a search graph of one frame, or a shape cannot be inferred.
    """
    from personsearch.benchmarks.flops_graph import graph_inputs, trace_graph

    inputs = graph_inputs(path)
    frames = inputs.get("frames", ())
    if len(inputs) != 1 or len(frames) != 4 or frames[0] != 1 or 0 in frames:
        raise InputError(
            f"inputs are {inputs}", where=str(path), expected="a search graph: `frames` of fixed shape (1, H, W, 3)"
        )
    return _result(trace_graph(path), subject, "ONNX graph", (frames[2], frames[1]), sha256, str(path))


def train_recipe(path: Path) -> TrainRecipe:
    """The recipe of a training or distillation run.

    Raises:
        InputError: there is none at ``path``, or it is damaged.
    """
    from personsearch.core.recipes import DistillRecipe

    if not path.is_file():
        raise InputError("does not exist", where=str(path), expected="a recipe, a checkpoint or an artifact")
    text = path.read_text(encoding="utf-8", errors="replace")
    is_student = any(line.startswith("teacher:") for line in text.splitlines())
    return load_recipe(path, DistillRecipe if is_student else TrainRecipe)


def _result(
    trace: Trace, subject: str, source: Source, input_wh: tuple[int, int], sha256: str, where: str
) -> FlopsResult:
    macs, traffic, peaks, passes = macs_by_part(trace), traffic_by_part(trace), peak_bytes(trace), person_passes(trace)
    if any(total % rows for rows, total in passes.items()):
        raise InputError(f"person work in uneven batches {sorted(passes)}", where=where, expected="work on whole rows")
    # A second pass over refined boxes runs a copy of the block: the same weights, which are counted once.
    weights = {name.replace("embedder.", "person.", 1): size for name, size in trace.weights.items()}
    return FlopsResult(
        subject=subject,
        source=source,
        sha256=sha256,
        input_wh=input_wh,
        pooling=trace.pooling,
        persons=max(passes, default=0),
        scene_macs=macs["scene"],
        person_macs=sum(total // rows for rows, total in passes.items()),
        persons_macs=macs["person"],
        selection_macs=macs["selection"],
        parameters=sum(weights.values()),
        scene_peak_bytes=peaks["scene"],
        persons_peak_bytes=peaks["person"],
        scene_traffic_bytes=traffic["scene"],
        persons_traffic_bytes=traffic["person"],
        selection_traffic_bytes=traffic["selection"],
    )
