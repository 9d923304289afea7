"""``personsearch export``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError
from personsearch.core.recipe import apply_overrides, load_recipe, validate
from personsearch.core.recipes import ExportRecipe

if TYPE_CHECKING:
    from personsearch.core.manifest import Manifest

PRECISIONS = ("fp32", "int8")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Artifact folder to write; replaces only an artifact.")],
    precision: Annotated[str | None, typer.Option(help="fp32 or int8; the recipe's where absent.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Data set folder; its training split calibrates int8 and feeds the parity gate."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Export recipe (YAML); its defaults where absent.")] = None,
    match_threshold: Annotated[float, typer.Option(help="Cosine from which on a detection is the query.")] = 0.5,
    name: Annotated[str | None, typer.Option(help="Name of the artifact; the training recipe's where absent.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it even if the parity gate fails, so marked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Turn a checkpoint into an artifact: ONNX graphs that passed the parity gate, with manifest and model card.

    Example: personsearch export runs/street/checkpoint.pt --out artifacts/street-int8 --precision int8
    --calibration data/street
    """
    settings = load_export_recipe(recipe, precision, overrides or ())
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "train", "export")
    from personsearch.export import ParityFailure, export_checkpoint

    try:
        manifest = export_checkpoint(
            checkpoint, out, settings, calibration=calibration, match_threshold=match_threshold, name=name, force=force
        )
    except ParityFailure as failure:
        typer.echo(f"personsearch: {failure}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2) if as_json else summary(manifest, out))


def load_export_recipe(path: Path | None, precision: str | None, overrides: Sequence[str]) -> ExportRecipe:
    """The recipe of ``path``, or the defaults, with ``--precision`` and then the overrides applied.

    Raises:
        InputError: the file is no export recipe, the precision is unknown, or an override does not fit.
    """
    changes = list(overrides)
    if precision is not None:
        if precision not in PRECISIONS:
            raise InputError(
                f"precision `{precision}` is unknown", where="--precision", expected=" or ".join(PRECISIONS)
            )
        changes.insert(0, f"precision={precision}")
    if path is not None:
        return load_recipe(path, ExportRecipe, changes)
    return validate(ExportRecipe, apply_overrides({}, changes), where="export")


def summary(manifest: Manifest, out: Path) -> str:
    """What was written, in a few lines."""
    from personsearch.export.model_card import branch_note
    from personsearch.export.parity_table import verdict_lines

    lines = [f"{out}: {manifest.name}, {manifest.precision}, {manifest.max_detections} detections a frame"]
    if note := branch_note(manifest).strip():
        lines.append(f"  {note}")
    lines += [f"  {graph.file}: {graph.bytes / 1e6:.2f} MB" for graph in manifest.graphs.values()]
    return "\n".join([*lines, *verdict_lines(manifest.parity, manifest.precision)])
