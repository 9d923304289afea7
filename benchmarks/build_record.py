"""Built engines as the record of a measurement, and the table of every graph that a builder took."""

from __future__ import annotations

from collections.abc import Sequence

from personsearch.benchmarks.record_tables import RecordTable
from personsearch.benchmarks.results import Result
from personsearch.core.engine_cache import EngineRecord
from personsearch.core.manifest import Manifest

KIND = "build"
TITLES = ("", "graphs", "input", "graph", "built by", "compute capability", "layers", "engine MB", "built in s")
MEANINGS = (
    "layers: of the parsed network, before the builder merges any",
    "built is not run: an engine is a file until a GPU of its compute capability has run it",
)


def build_figures(records: Sequence[EngineRecord]) -> dict[str, tuple[float, str]]:
    """Value and unit of each engine's figures, as ``GRAPH | COMPUTE CAPABILITY | WHAT``."""
    figures: dict[str, tuple[float, str]] = {}
    for record in records:
        name = f"{record.graph} | {record.key.compute_capability}"
        figures[f"{name} | layers"] = (float(record.layers), "layers")
        figures[f"{name} | bytes"] = (float(record.engine_bytes), "bytes")
        figures[f"{name} | seconds"] = (record.build_seconds, "s")
    return figures


def build_settings(manifest: Manifest, records: Sequence[EngineRecord]) -> dict[str, str]:
    """What was built, and by what."""
    width, height = manifest.preprocess.input_wh
    first = records[0]
    return {
        "model": manifest.name,
        "graphs": " ".join(part for part in (manifest.precision, manifest.int8_flavour) if part),
        "input": f"{width}x{height}",
        "library": f"{first.key.library} {first.key.version}",
        "platform": first.key.platform,
        "gpu": first.gpu or "none",
        "engines": "; ".join(f"{record.graph} | {record.key.compute_capability}" for record in records),
        "warnings": "; ".join(dict.fromkeys(line for record in records for line in record.warnings)),
    }


def build_table(results: Sequence[Result]) -> RecordTable | None:
    """Every recorded engine, one a row; none without such records."""
    records = sorted(
        (result for result in results if result.kind == KIND),
        key=lambda result: (result.settings["model"], result.subject),
    )
    if not records:
        return None
    rows = []
    for result in records:
        settings = result.settings
        for engine in settings["engines"].split("; "):
            graph, capability = engine.split(" | ")
            layers, size, seconds = (
                result.figures[f"{engine} | {what}"].value for what in ("layers", "bytes", "seconds")
            )
            rows.append([
                result.subject.split("@")[0], settings["graphs"], settings["input"], graph, settings["library"],
                capability, f"{layers:.0f}", f"{size / 1e6:.2f}", f"{seconds:.1f}",
            ])  # fmt: skip
    gpus = dict.fromkeys(result.settings["gpu"] for result in records)
    return RecordTable(
        TITLES, rows, [*MEANINGS, f"GPU here: {', '.join(gpus)}"], list(dict.fromkeys(one.command for one in records))
    )
