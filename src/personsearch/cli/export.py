"""``personsearch export``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe
from personsearch.core.recipe import apply_overrides, load_recipe, validate

if TYPE_CHECKING:
    from personsearch.core.manifest import Manifest

PRECISIONS = ("fp32", "fp16", "int8")
LAYOUTS = ("joined", "split")
TARGETS = ("onnx", "openvino", "tensorrt", "tensorrt-rtx")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Artifact folder to write; replaces only an artifact.")],
    to: Annotated[
        str | None, typer.Option(help="onnx, openvino, tensorrt or tensorrt-rtx; decides int8's flavour.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8; the recipe's where absent.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Network input; the training's where absent.")] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="1,4,8", help="Frames a search graph takes; a graph for each number.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="joined: one search graph; split: scene and person graph, joined by the host.")
    ] = None,
    max_detections: Annotated[int | None, typer.Option(help="Rows of the outputs; the model's where absent.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Data set (its training split), video file or folder of images: calibrates int8, feeds the gate."
        ),
    ] = None,
    float_layers: Annotated[
        str | None,
        typer.Option(help="Of int8: patterns of weights, with commas between them, or auto for what a sweep chooses."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Print what each block costs in int8, by search mAP.")
    ] = False,
    recipe: Annotated[Path | None, typer.Option(help="Export recipe (YAML); its defaults where absent.")] = None,
    match_threshold: Annotated[float, typer.Option(help="Cosine from which on a detection is the query.")] = 0.5,
    name: Annotated[str | None, typer.Option(help="Name of the artifact; the training recipe's where absent.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if the parity gate fails, so marked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Turn a checkpoint into an artifact: ONNX graphs that passed the parity gate, with manifest and model card.

    For TensorRT the engines are built into the local cache too, where this machine can build them.

    Example: personsearch export runs/street/checkpoint.pt --out artifacts/street-int8 --to openvino --precision int8
    --size 640x480 --calibration data/street
    """
    changes = option_changes(to, precision, size, batch, max_detections, float_layers, layout)
    settings = load_export_recipe(recipe, changes, overrides or ())
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "train", "export")
    from personsearch.export import ParityFailure, export_checkpoint

    try:
        manifest = export_checkpoint(
            checkpoint,
            out,
            settings,
            calibration=calibration,
            match_threshold=match_threshold,
            name=name,
            force=force,
            sensitivity=sensitivity,
            say=lambda line: typer.echo(line, err=as_json),
        )
    except ParityFailure as failure:
        typer.echo(f"personsearch: {failure}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2) if as_json else summary(manifest, out))


def option_changes(
    to: str | None,
    precision: str | None,
    size: str | None,
    batch: str | None,
    max_detections: int | None,
    float_layers: str | None,
    layout: str | None = None,
) -> dict[str, Any]:
    """The options as recipe keys, dotted; those that are absent are left out.

    Raises:
        InputError: an unknown name, or a size or batch that is no number.
    """
    changes: dict[str, Any] = {}
    options = (("--to", to, TARGETS), ("--precision", precision, PRECISIONS), ("--layout", layout, LAYOUTS))
    for option, given, known in options:
        if given is not None and given not in known:
            raise InputError(f"`{given}` is unknown", where=option, expected=f"one of {', '.join(known)}")
    if to is not None:
        changes["target"] = to
    if precision is not None:
        changes["precision"] = precision
    if layout is not None:
        changes["layout"] = layout
    if size is not None:
        width, times, height = size.lower().partition("x")
        if not (times and width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise InputError(f"`{size}` is not a size", where="--size", expected="width and height, such as 640x480")
        changes["input_wh"] = [int(width), int(height)]
    if batch is not None:
        numbers = batch.split(",")
        if not all(number.strip().isdigit() for number in numbers):
            raise InputError(f"`{batch}` is not a list of batches", where="--batch", expected="such as 1,4,8")
        changes["batches"] = [int(number) for number in numbers]
    if max_detections is not None:
        changes["max_detections"] = max_detections
    if float_layers is not None:
        changes["quantise.float_layers"] = (
            float_layers if float_layers in ("auto", "usual") else [part.strip() for part in float_layers.split(",")]
        )
    return changes


def load_export_recipe(path: Path | None, changes: Mapping[str, Any], overrides: Sequence[str]) -> ExportRecipe:
    """The recipe of ``path``, or the defaults, with the options and then the overrides applied.

    Raises:
        InputError: the file is no export recipe, or a key or value does not fit.
    """
    given = [*(f"{key}={json.dumps(value)}" for key, value in changes.items()), *overrides]
    if path is not None:
        return load_recipe(path, ExportRecipe, given)
    return validate(ExportRecipe, apply_overrides({}, given), where="export")


def summary(manifest: Manifest, out: Path) -> str:
    """What was written, in a few lines."""
    from personsearch.export.model_card import branch_note
    from personsearch.export.parity_table import verdict_lines

    width, height = manifest.preprocess.input_wh
    kind = " ".join(part for part in (manifest.precision, manifest.int8_flavour or "", "for", manifest.engine) if part)
    lines = [f"{out}: {manifest.name}, {kind}, {width}x{height}, {manifest.max_detections} detections a frame"]
    if note := branch_note(manifest).strip():
        lines.append(f"  {note}")
    lines += [f"  {graph.file}: {graph.bytes / 1e6:.2f} MB" for graph in manifest.graphs.values()]
    return "\n".join([*lines, *verdict_lines(manifest.parity, manifest.precision)])
