"""``personsearch parity``: what the parity gate found, and the gate again on this machine's engines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli.bench_options import Save, keep_record
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.core.manifest import Manifest


def parity(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="Artifact folders.")],
    *,
    run: Annotated[
        bool, typer.Option("--run", help="Compare this machine's engines with ONNX Runtime; exit 1 where one fails.")
    ] = False,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="With --run: openvino, tensorrt or tensorrt-rtx; repeat; all that can run here if absent."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="With --run: data set folder for frames and end figures; frames are drawn if absent."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="With --run: frames compared.")] = 16,
    images: Annotated[int, typer.Option(min=1, help="With --run: labelled images at most.")] = 120,
    threads: Annotated[int | None, typer.Option(min=1, help="With --run: CPU threads of an engine.")] = None,
    save: Save = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON; a list where there are several artifacts.")
    ] = False,
) -> None:
    """Print the parity table of artifacts: what export found, or with --run what this machine finds.

    Examples:

    \b
      personsearch parity artifacts/street-int8 --run --engine openvino --data data/street
      personsearch parity artifacts/street-fp32 artifacts/street-int8 --save benchmarks/results
    """
    from personsearch.core.manifest import read_manifest
    from personsearch.export.parity_table import verdict_lines

    if not run and (engine or data is not None):
        raise InputError("--engine and --data say how to run the gate", expected="--run beside them")
    # All of them before the first record: a command that is refused has written nothing.
    manifests = [read_manifest(artifact) for artifact in artifacts]
    if save is not None:
        _check_names(artifacts)
    if run:
        from personsearch.benchmarks.engine_parity import check_engines
        from personsearch.core.gate_recipe import GateRecipe

        recipe = GateRecipe(frames=frames, images=images)
        records = [check_engines(artifact, engine, data=data, recipe=recipe, threads=threads) for artifact in artifacts]
    else:
        records = [_report(artifact, manifest) for artifact, manifest in zip(artifacts, manifests, strict=True)]
    if save is not None:
        for artifact, manifest, record in zip(artifacts, manifests, records, strict=True):
            _keep(artifact, manifest, record, run, save)
    if as_json:
        typer.echo(json.dumps(records[0] if len(records) == 1 else records, indent=2))
    else:
        for artifact, manifest, record in zip(artifacts, manifests, records, strict=True):
            heading = [f"{artifact}:"] if len(artifacts) > 1 else []
            typer.echo("\n".join([*heading, *verdict_lines(record, manifest.precision)]))
    if run and not all(record["passed"] for record in records):
        raise typer.Exit(1)


def _report(artifact: Path, manifest: Manifest) -> dict[str, Any]:
    """What export found.

    Raises:
        InputError: nothing: the manifest was not written by an export, or the gate's report was taken out of it.
    """
    from personsearch.export.parity_table import candidates_of

    if not candidates_of(manifest.parity, manifest.precision):
        raise InputError(
            "has no report of the parity gate",
            where=str(artifact),
            expected="an artifact that `personsearch export` wrote",
            remedy="export it again, or compare this machine's engines with --run",
        )
    return manifest.parity


def _check_names(artifacts: Sequence[Path]) -> None:
    """Raises an `InputError` where two artifacts have the same name: one's record would replace the other's."""
    from personsearch.benchmarks.systems import system_name

    for name, count in Counter(map(system_name, artifacts)).items():
        if count > 1:
            raise InputError(f"{count} artifacts are called `{name}`", expected="records with names of their own")


def _keep(artifact: Path, manifest: Manifest, record: dict[str, Any], run: bool, save: Path) -> None:
    from personsearch.benchmarks.parity_record import (
        EXPORT,
        KIND,
        RUN,
        parity_figures,
        parity_settings,
        run_subject,
    )
    from personsearch.benchmarks.systems import system_name

    name = system_name(artifact)
    subject = run_subject(name, record) if run else name
    settings = parity_settings(manifest, record, RUN if run else EXPORT)
    figures = parity_figures(record, manifest.precision)
    keep_record(KIND, subject, figures, manifest.detector_graph.sha256, settings, save)
