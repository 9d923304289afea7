"""The whole way: a checkpoint in, an artifact that passed the parity gate out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from personsearch.core.engine_names import require_library
from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe
from personsearch.core.files import sha256_file
from personsearch.core.manifest import Manifest, TrainingData
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import recipe_hash
from personsearch.export.artifact import builder_versions, check_destination, graph_files, utc_now, write_artifact
from personsearch.export.calibration_frames import FrameSource, open_source
from personsearch.export.end_figures import LabelledImages
from personsearch.export.engine_build import build_engines
from personsearch.export.gate import Candidate, Reference, engine_candidates, gate_steps, run_gate
from personsearch.export.gate_frames import GateFrame
from personsearch.export.lowering import (
    FloatGraphs,
    calibrated,
    graph_steps,
    lower,
    write_float_graphs,
)
from personsearch.export.quantise import Calibration
from personsearch.export.reference import HALF_DRIFT, CheckpointGraphs, drifted_graphs, references
from personsearch.export.sensitivity import Sensitivity, measure_sensitivity, sensitivity_lines
from personsearch.export.split_graphs import joining
from personsearch.models import SearchModel
from personsearch.models.checkpoint import Checkpoint, load_model


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
    sweep: LabelledImages | None
    source: str


@dataclass(frozen=True, eq=False)
class _Lowered:
    """The graphs of one export and how int8 was made."""

    graphs: FloatGraphs
    calibration: Calibration | None
    sensitivity: Sensitivity | None


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    recipe: ExportRecipe,
    *,
    calibration: Path | None = None,
    match_threshold: float = 0.5,
    name: str | None = None,
    force: bool = False,
    sensitivity: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Manifest:
    """Exports, lowers the precision where asked, passes the parity gate, writes the artifact folder, builds engines.

    Args:
        checkpoint: a ``checkpoint.pt``.
        out: the artifact folder; one that is there is replaced as a whole.
        recipe: target, precision, sizes, calibration and the gate's limits.
        calibration: a data set, whose training split calibrates int8 and feeds the gate, a video file or a folder of
            images; the gate draws its own frames without it.
        match_threshold: cosine from which a detection is reported as the query, until figures say better.
        name: the artifact's; the training recipe's where none.
        force: write an artifact that failed the gate, marked as failed.
        sensitivity: measure which blocks int8 hurts, also where the recipe's ``float_layers`` is not ``auto``.
        say: takes lines for the user: the sensitivity table, what was built.

    Returns:
        The manifest that was written.

    Raises:
        InputError: not a checkpoint, int8 without frames or with too few, a size that does not fit, a library that is
            missing, a graph that the engine's builder refuses, or ``out`` is not an artifact's place.
        ParityFailure: the gate failed and ``force`` is false.
    """
    check_destination(out)
    _check(recipe, calibration, match_threshold, sensitivity=sensitivity)
    model, origin = load_model(checkpoint, input_wh=recipe.input_wh)
    rows = _rows(model, recipe)
    frames = _gather(open_source(calibration, model.preprocess), recipe, calibration, origin.data)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "graphs"
        place.mkdir()
        made = _lower(model, recipe, rows, frames, place, sensitivity=sensitivity)
        if made.sensitivity is not None:
            for line in sensitivity_lines(made.sensitivity):
                say(line)
        parity = _gate(model, recipe, frames, made.graphs, place)
        if not parity["passed"] and not force:
            raise ParityFailure(parity)
        manifest = _manifest(model, origin, recipe, rows, made, place, parity)
        manifest = manifest.model_copy(
            update={
                "name": name or manifest.name,
                "match_threshold": match_threshold,
                "checkpoint_sha256": sha256_file(checkpoint),
            }
        )
        # Engines before the artifact takes its place: what no builder takes is not put in place of what worked.
        staged = Path(folder) / "artifact"
        write_artifact(staged, place, manifest)
        _build_engines(staged, recipe, say)
        write_artifact(out, place, manifest)
    return manifest


def _check(recipe: ExportRecipe, calibration: Path | None, match_threshold: float, *, sensitivity: bool) -> None:
    if recipe.precision == "int8" and calibration is None:
        raise InputError(
            "int8 needs frames to calibrate on",
            where="--calibration",
            expected="a data set folder with a `train` split, a video file or a folder of images",
        )
    if sensitivity and recipe.precision != "int8":
        raise InputError(f"precision {recipe.precision} has no sensitivity to int8", expected="--precision int8")
    if sensitivity and recipe.layout == "split":
        raise InputError(
            "layout split has no sensitivity sweep",
            where="--sensitivity",
            remedy="sweep an export of layout joined, and name what it keeps float with --float-layers",
        )
    if not -1 <= match_threshold <= 1:
        raise InputError(f"match threshold {match_threshold:g}", expected="a cosine from -1 to 1")
    if recipe.target == "openvino":
        require_library("openvino")


def _rows(model: SearchModel, recipe: ExportRecipe) -> int:
    if recipe.max_detections is not None and recipe.max_detections > model.max_detections:
        raise InputError(
            f"max_detections is {recipe.max_detections}",
            expected=f"at most {model.max_detections}, the model's proposals",
        )
    return recipe.max_detections or model.max_detections


def _gather(
    source: FrameSource, recipe: ExportRecipe, calibration: Path | None, training: Sequence[TrainingData]
) -> _Frames:
    frames = source.calibration(recipe.quantise.frames) if recipe.precision == "int8" else []
    fewest = recipe.quantise.min_frames
    if recipe.precision == "int8" and len(frames) < fewest:
        raise InputError(
            f"calibration has {len(frames)} frames",
            where=str(calibration),
            expected=f"at least {fewest}",
            remedy="give more, or lower quantise.min_frames and see what the gate says",
        )
    return _Frames(
        frames,
        source.gate(recipe.gate.frames),
        source.labelled(recipe.gate.images, training),
        source.labelled(recipe.quantise.sensitivity.images, training) if recipe.precision == "int8" else None,
        source.name,
    )


def _lower(
    model: SearchModel, recipe: ExportRecipe, rows: int, frames: _Frames, folder: Path, *, sensitivity: bool
) -> _Lowered:
    """Writes the artifact's graphs into ``folder``, the float32 ones into a folder in it."""
    originals = folder / "float"
    originals.mkdir()
    steps = graph_steps(recipe, len(frames.calibration), embeds=model.embedding_dim > 0)
    with StageProgress(f"export {recipe.precision}", steps) as progress:

        def advance(note: str) -> None:
            progress.advance(note=note)

        graphs = write_float_graphs(model, recipe, rows, originals, advance=advance)
        calibration = calibrated(graphs, recipe, frames.calibration, advance=advance)
    found: Sensitivity | None = None
    if calibration is not None and (sensitivity or recipe.quantise.float_layers == "auto"):
        found = _sweep(model, graphs, recipe, calibration, frames)
    chosen = found.float_layers if found is not None and recipe.quantise.float_layers == "auto" else ()
    lower(graphs, recipe, folder, calibration=calibration, float_layers=chosen)
    return _Lowered(graphs, calibration, found)


def _sweep(
    model: SearchModel, graphs: FloatGraphs, recipe: ExportRecipe, calibration: Calibration, frames: _Frames
) -> Sensitivity:
    with StageProgress("sensitivity", None) as progress:
        return measure_sensitivity(
            graphs,
            recipe,
            calibration,
            model.score_threshold,
            labelled=frames.sweep,
            frames=[frame.image for frame in frames.gate],
            advance=lambda note: progress.advance(note=note),
        )


def _gate(
    model: SearchModel, recipe: ExportRecipe, frames: _Frames, graphs: FloatGraphs, folder: Path
) -> dict[str, Any]:
    candidates: list[Candidate]
    join = None
    if graphs.split is not None:
        join = joining(
            graphs.split,
            input_wh=model.preprocess.input_wh,
            rows=_rows(model, recipe),
            embedding_dim=model.embedding_dim,
        )
    candidates, missing = engine_candidates(graphs.folder, "fp32", join=join)
    if recipe.precision != "fp32":
        candidates += engine_candidates(folder, recipe.precision, recipe.int8_flavour or "", join=join)[0]
    images = 0 if frames.labelled is None else len(frames.labelled)
    with StageProgress("parity gate", gate_steps(len(candidates), len(frames.gate), images)) as progress:
        return run_gate(
            Reference(
                references(graphs.search, graphs.query),
                model.score_threshold,
                recipe.query_boxes,
                name=f"torch {torch.__version__}",
                end_figures=CheckpointGraphs(model),
                half=drifted_graphs(graphs.search, graphs.query, HALF_DRIFT) if recipe.precision == "fp16" else (),
            ),
            candidates,
            frames.gate,
            recipe.gate,
            frames_from=frames.source,
            labelled=frames.labelled,
            not_run=missing,
            advance=progress.advance,
        )


def _manifest(
    model: SearchModel,
    origin: Checkpoint,
    recipe: ExportRecipe,
    rows: int,
    made: _Lowered,
    folder: Path,
    parity: dict[str, Any],
) -> Manifest:
    """All but what the caller names: name, match threshold and the checkpoint's hash."""
    builder = builder_versions()
    if made.calibration is not None:
        # Equal in artifacts of either flavour that were made from one calibration.
        builder["calibration"] = made.calibration.sha256
    return Manifest(
        name=origin.recipe.name,
        created=utc_now(),
        preprocess=model.preprocess,
        max_detections=rows,
        query_boxes=recipe.query_boxes,
        embedding_dim=model.embedding_dim,
        score_threshold=model.score_threshold,
        match_threshold=0.5,
        precision=recipe.precision,
        opset=recipe.opset,
        graphs=graph_files(folder),
        engine=recipe.engine,
        int8_flavour=recipe.int8_flavour,
        batches=recipe.batches,
        layout=recipe.layout,
        split=made.graphs.split,
        pooling=recipe.graph_pooling,
        suppression_steps=recipe.suppression_steps,
        training_data=origin.data,
        recipe=origin.recipe.model_dump(mode="json"),
        recipe_hash=recipe_hash(origin.recipe),
        checkpoint_sha256="",
        builder=builder,
        parity=parity,
        figures={} if made.sensitivity is None else {"int8_sensitivity": made.sensitivity.plain()},
    )


def _build_engines(artifact: Path, recipe: ExportRecipe, say: Callable[[str], object]) -> None:
    if recipe.engine != "tensorrt" and recipe.engine != "tensorrt-rtx":
        return
    built = build_engines(artifact, recipe.engine)
    if built.not_built:
        say(f"engines not built: {built.not_built}")
    for record in built.records:
        say(f"engine built into the local cache: {record.graph}, compute capability {record.key.compute_capability}")
