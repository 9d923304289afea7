"""``personsearch engine``: TensorRT engines of an artifact, built on the machine that runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from personsearch.cli.bench_options import Save, keep_record
from personsearch.core.errors import InputError

app = typer.Typer(help="Build TensorRT engines here, and list what was built.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]


@app.command()
def build(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder; its ONNX graphs are what is built.")],
    *,
    engine: Annotated[Literal["tensorrt", "tensorrt-rtx"], typer.Option(help="Whose engines.")],
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="As 8.6; repeat for more. Only tensorrt-rtx builds for GPUs that are not here."),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Also for later TensorRT, up to the next major version.")
    ] = False,
    hardware_compatible: Annotated[
        Literal["none", "ampere-plus", "same-compute-capability"], typer.Option(help="Also for other GPUs; slower.")
    ] = "none",
    dla: Annotated[int | None, typer.Option(min=0, help="DLA core for the layers that it can run.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Round fp32 products to 10 bits: faster, not fp32.")] = False,
    level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How hard TensorRT tries: 0 fast to build, 5 fast to run.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Fewest,usual,most frames, for graphs whose batch is free; as 1,4,8.")
    ] = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Build every graph of an artifact into this machine's engine cache.

    Example: personsearch engine build artifacts/street --engine tensorrt-rtx --save benchmarks/results

    Exit code: 0 when every engine was built, 2 when one could not be, with the reason.
    """
    from personsearch.core.engine_builds import build_artifact
    from personsearch.core.engine_cache import BuildFlags, EngineCache

    flags = BuildFlags(
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        dla_core=dla,
        tf32=tf32,
        optimisation_level=level,
        batch=parse_batch(batch) if batch is not None else None,
    )
    cache = EngineCache()
    records = build_artifact(artifact, engine, targets=compute_capability or None, flags=flags, cache=cache)
    if save is not None:
        from personsearch.benchmarks.build_record import KIND, build_figures, build_settings
        from personsearch.core.manifest import read_manifest

        manifest = read_manifest(artifact)
        subject = f"{artifact.resolve().name}@{engine}"
        settings = build_settings(manifest, records)
        keep_record(KIND, subject, build_figures(records), manifest.detector_graph.sha256, settings, save)
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=2))
        return
    for record in records:
        on_dla = f", {record.dla_layers} of {record.layers} layers on the DLA" if dla is not None else ""
        typer.echo(
            f"{record.graph}: {record.engine_bytes / 1e6:.2f} MB for compute capability "
            f"{record.key.compute_capability} in {record.build_seconds:.1f} s{on_dla}"
        )
    typer.echo(f"in {cache.folder}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the engines in this machine's cache, and why one does not run here.

    Example: personsearch engine list
    """
    from personsearch.core.cuda_driver import probe_cuda
    from personsearch.core.engine_builds import why_not_here
    from personsearch.core.engine_cache import EngineCache

    cache, driver = EngineCache(), probe_cuda()
    found = [(folder, record, why_not_here(record, driver)) for folder, record in cache.records()]
    if as_json:
        rows = [
            {"folder": str(folder), "runs": not problem, "problem": problem, **record.model_dump(mode="json")}
            for folder, record, problem in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for folder, record, problem in found:
        key = record.key
        typer.echo(
            f"{record.graph}  {key.library} {key.version}  compute capability {key.compute_capability}  "
            f"{key.gpu or 'any GPU of it'}  {record.engine_bytes / 1e6:.2f} MB  {record.built[:19]}  {folder.name}\n"
            f"  {'does not run here: ' + problem if problem else 'runs here'}"
        )
    if not found:
        typer.echo(f"no engine in {cache.folder}")


def parse_batch(text: str) -> tuple[int, int, int]:
    """``1,4,8`` as fewest, usual and most frames.

    Raises:
        InputError: it is something else.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--batch is `{text}`", expected="fewest,usual,most frames, such as 1,4,8")
    fewest, usual, most = (int(part) for part in parts)
    if not fewest <= usual <= most:
        raise InputError(f"--batch is `{text}`", expected="numbers that do not fall, such as 1,4,8")
    return fewest, usual, most
