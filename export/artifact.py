"""Writing an artifact folder: whole or not at all, and never over something that is not an artifact."""

from __future__ import annotations

import json
import platform
import shutil
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, atomic_file, sha256_file, write_json
from personsearch.core.manifest import MANIFEST_NAME, GraphFile, Manifest, read_manifest
from personsearch.core.recipe import validate
from personsearch.export.model_card import CARD_NAME, model_card

BUILDERS = ("edge-person-search", "torch", "onnx", "onnxscript", "onnxruntime")


def check_destination(out: Path) -> None:
    """Raises an `InputError` where writing to ``out`` would destroy something that is not an artifact."""
    if out.is_dir() and not out.is_symlink():
        if any(out.iterdir()) and not (out / MANIFEST_NAME).is_file():
            raise InputError(
                "exists and is not an artifact",
                where=str(out),
                expected=f"a new or empty folder, or one with {MANIFEST_NAME} to replace",
                remedy="name another --out",
            )
    elif out.exists() or out.is_symlink():
        raise InputError("exists and is not a folder", where=str(out), remedy="name another --out")


def write_artifact(out: Path, graphs: Path, manifest: Manifest) -> None:
    """Puts an artifact folder at ``out``, in place of an artifact that was there.

    Args:
        out: the folder; replaced as a whole once the new one is complete.
        graphs: a folder with the files that ``manifest.graphs`` names.
        manifest: complete, hashes included.

    Raises:
        InputError: as `check_destination`.
    """
    check_destination(out)
    with atomic_dir(out) as part:
        for graph in manifest.graphs.values():
            shutil.copyfile(graphs / graph.file, part / graph.file)
        _describe(part, manifest)


def update_figures(
    artifact: Path,
    figures: dict[str, Any],
    match_threshold: float | None = None,
    *,
    score_threshold: float | None = None,
) -> Manifest:
    """Adds measured figures, and calibrated thresholds, to an artifact's manifest and model card.

    The manifest is replaced in one step; the card, which is written from it, just before.

    Args:
        artifact: the folder.
        figures: added to the manifest's, replacing those of the same name; plain values.
        match_threshold: cosine in [-1, 1], or none to leave it.
        score_threshold: of detections, in [0, 1], or none to leave it.

    Returns:
        The new manifest.

    Raises:
        InputError: not an artifact, or a value that a manifest cannot hold.
    """
    manifest = read_manifest(artifact)
    for name, value in figures.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise InputError(
                f"figure `{name}` is not a finite number or a plain value", where=str(artifact), remedy="leave it out"
            ) from None
    content = manifest.model_dump(mode="json")
    content["figures"] = {**content["figures"], **figures}
    if match_threshold is not None:
        content["match_threshold"] = match_threshold
    if score_threshold is not None:
        content["score_threshold"] = score_threshold
    changed = validate(Manifest, content, where=str(artifact / MANIFEST_NAME))
    _describe(artifact, changed)
    return changed


def graph_files(folder: Path) -> dict[str, GraphFile]:
    """Hash and size of every ``NAME.onnx`` in ``folder``, by name."""
    return {
        path.stem: GraphFile(file=path.name, sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in sorted(folder.glob("*.onnx"), reverse=True)  # search before query
    }


def builder_versions() -> dict[str, str]:
    """Versions of what writes the graphs, and of Python."""

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    return {**{name: of(name) for name in BUILDERS}, "python": platform.python_version()}


def utc_now() -> str:
    """ISO date and time, UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe(folder: Path, manifest: Manifest) -> None:
    with atomic_file(folder / CARD_NAME) as part:
        part.write_text(model_card(manifest), encoding="utf-8")
    # The manifest last: it is what makes a folder an artifact.
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
