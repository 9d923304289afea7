"""The whole way: a checkpoint in, an artifact that passed the parity gate out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import Manifest, TrainingData
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import recipe_hash
from personsearch.core.recipes import ExportRecipe
from personsearch.data import open_dataset
from personsearch.export.artifact import builder_versions, check_destination, graph_files, utc_now, write_artifact
from personsearch.export.end_figures import LabelledImages, labelled_images
from personsearch.export.frames import DatasetFrames
from personsearch.export.gate import Candidate, Reference, engine_candidates, gate_steps, run_gate
from personsearch.export.gate_frames import GateFrame, dataset_gate_frames, drawn_gate_frames
from personsearch.export.quantise import quantise_graphs
from personsearch.export.reference import CheckpointGraphs, references
from personsearch.export.to_onnx import write_query_graph, write_search_graph
from personsearch.models import SearchModel
from personsearch.models.checkpoint import load_model


class ParityFailure(Exception):
    """The exported graphs do not do what the network does; nothing was written.

    Attributes:
        report: what the gate measured.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        reasons = "; ".join(report["failures"])
        super().__init__(f"parity gate failed: {reasons}; nothing was written (--force writes it, marked as failed)")


@dataclass(frozen=True)
class _Frames:
    """Letterboxed frames of one export, and where they came from."""

    calibration: Sequence[Frame]
    gate: Sequence[GateFrame]
    labelled: LabelledImages | None
    source: str


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    recipe: ExportRecipe,
    *,
    calibration: Path | None = None,
    match_threshold: float = 0.5,
    name: str | None = None,
    force: bool = False,
) -> Manifest:
    """Exports, quantises where asked, passes the parity gate, writes the artifact folder.

    Args:
        checkpoint: a ``checkpoint.pt``.
        out: the artifact folder; one that is there is replaced as a whole.
        recipe: precision, rows, opset, calibration and the gate's limits.
        calibration: data set folder whose training split calibrates int8 and feeds the gate; the gate draws its
            own frames without it.
        match_threshold: cosine from which a detection is reported as the query, until figures say better.
        name: the artifact's; the training recipe's where none.
        force: write an artifact that failed the gate, marked as failed.

    Returns:
        The manifest that was written.

    Raises:
        InputError: not a checkpoint, int8 without data, or ``out`` is not an artifact's place.
        ParityFailure: the gate failed and ``force`` is false.
    """
    check_destination(out)
    if recipe.precision == "int8" and calibration is None:
        raise InputError(
            "int8 needs frames to calibrate on",
            where="--calibration",
            expected="a data set folder with a `train` split",
        )
    if not -1 <= match_threshold <= 1:
        raise InputError(f"match threshold {match_threshold:g}", expected="a cosine from -1 to 1")
    model, origin = load_model(checkpoint, input_wh=recipe.input_wh)
    frames = _gather(model, recipe, calibration, origin.data)
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder)
        parity = _build(model, recipe, frames, graphs)
        if not parity["passed"] and not force:
            raise ParityFailure(parity)
        manifest = Manifest(
            name=name or origin.recipe.name,
            created=utc_now(),
            preprocess=model.preprocess,
            max_detections=_rows(model, recipe),
            query_boxes=recipe.query_boxes,
            embedding_dim=model.embedding_dim,
            score_threshold=model.score_threshold,
            match_threshold=match_threshold,
            precision=recipe.precision,
            opset=recipe.opset,
            graphs=graph_files(graphs),
            training_data=origin.data,
            recipe=origin.recipe.model_dump(mode="json"),
            recipe_hash=recipe_hash(origin.recipe),
            checkpoint_sha256=sha256_file(checkpoint),
            builder=builder_versions(),
            parity=parity,
        )
        write_artifact(out, graphs, manifest)
    return manifest


def _rows(model: SearchModel, recipe: ExportRecipe) -> int:
    if recipe.max_detections is not None and recipe.max_detections > model.max_detections:
        raise InputError(
            f"max_detections is {recipe.max_detections}",
            expected=f"at most {model.max_detections}, the model's proposals",
        )
    return recipe.max_detections or model.max_detections


def _gather(
    model: SearchModel, recipe: ExportRecipe, calibration: Path | None, training: Sequence[TrainingData]
) -> _Frames:
    if calibration is None:
        return _Frames([], drawn_gate_frames(model.preprocess, recipe.gate.frames), None, "drawn")
    dataset = DatasetFrames(calibration, model.preprocess)
    wanted = recipe.quantise.frames if recipe.precision == "int8" else 0
    return _Frames(
        dataset.calibration(wanted),
        dataset_gate_frames(open_dataset(calibration, "train"), model.preprocess, recipe.gate.frames),
        labelled_images(calibration, model.preprocess, recipe.gate.images, training),
        dataset.name,
    )


def _build(model: SearchModel, recipe: ExportRecipe, frames: _Frames, folder: Path) -> dict[str, Any]:
    """Writes both graphs into ``folder`` and returns the gate's report."""
    search, query = model.deployable(_rows(model, recipe)), model.deployable_query(recipe.query_boxes)
    input_wh = model.preprocess.input_wh
    float_folder = folder / "float"
    float_folder.mkdir()
    paths = float_folder / "search.onnx", float_folder / "query.onnx"
    with StageProgress(f"export {recipe.precision}", 2 + len(frames.calibration)) as progress:
        write_search_graph(search, paths[0], input_wh=input_wh, opset=recipe.opset)
        progress.advance(note="search graph")
        write_query_graph(query, paths[1], input_wh=input_wh, query_boxes=recipe.query_boxes, opset=recipe.opset)
        progress.advance(note="query graph")
        for path in paths:
            shutil.copyfile(path, folder / path.name)
        if recipe.precision == "int8":
            quantise_graphs(
                *(folder / path.name for path in paths),
                frames.calibration,
                recipe.quantise,
                advance=lambda: progress.advance(note="calibrating"),
            )
    candidates: list[Candidate] = []
    for place, precision in ((float_folder, "fp32"), (folder, recipe.precision)):
        if precision != "fp32" or place == float_folder:
            found, missing = engine_candidates(place, precision)
            candidates += found
    return _gate(model, recipe, frames, candidates, missing, search, query)


def _gate(
    model: SearchModel,
    recipe: ExportRecipe,
    frames: _Frames,
    candidates: Sequence[Candidate],
    missing: Sequence[str],
    search: nn.Module,
    query: nn.Module,
) -> dict[str, Any]:
    images = 0 if frames.labelled is None else len(frames.labelled)
    with StageProgress("parity gate", gate_steps(len(candidates), len(frames.gate), images)) as progress:
        return run_gate(
            Reference(
                references(search, query),
                model.score_threshold,
                recipe.query_boxes,
                name=f"torch {torch.__version__}",
                end_figures=CheckpointGraphs(model),
            ),
            candidates,
            frames.gate,
            recipe.gate,
            frames_from=frames.source,
            labelled=frames.labelled,
            not_run=missing,
            advance=progress.advance,
        )
