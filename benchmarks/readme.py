"""Tables of the README and of docs, made from the records under ``benchmarks/results``; a test fails when stale."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from personsearch.benchmarks.ablation.recorded import ablation_tables
from personsearch.benchmarks.build_record import build_table
from personsearch.benchmarks.parity_record import parity_table
from personsearch.benchmarks.record_tables import (
    RecordTable,
    accuracy_table,
    energy_table,
    flops_table,
    gallery_table,
    latency_table,
    paired_table,
    pareto_tables,
    peers_table,
    roofline_table,
    training_table,
)
from personsearch.benchmarks.report.content import Row
from personsearch.benchmarks.report.table import COLUMNS, MISSING
from personsearch.benchmarks.results import Result, read_results
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file

MARKER = re.compile(r"<!-- table:(\w+) -->.*?<!-- /table:\1 -->", re.DOTALL)
DEMO_ORDER = ("teacher", "control", "student", "engine-fp32", "engine-int8")
DEMO_COLUMNS = (
    "detection_ap",
    "map",
    "top1",
    "scene_flops",
    "person_flops",
    "parameters",
    "latency_p50_ms",
    "latency_p90_ms",
    "file_bytes",
)


def documents(root: Path) -> list[Path]:
    """The README of a project and every page of its docs that holds a table."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in pages if page.is_file() and MARKER.search(page.read_text(encoding="utf-8"))]


def write_tables(document: Path, results: Path) -> None:
    """Puts the tables of the records in ``results`` between the markers of ``document``.

    Raises:
        InputError: there is no such document or folder, a marker names no table, or a record is damaged.
    """
    if not document.is_file():
        raise InputError("no such file", where=str(document), expected="a Markdown file")
    if not results.is_dir():
        raise InputError("no such folder", where=str(results), expected="a folder of JSON records")
    text = with_tables(document.read_text(encoding="utf-8"), read_results(results))
    with atomic_file(document) as part:
        part.write_text(text, encoding="utf-8")


def with_tables(text: str, results: Sequence[Result]) -> str:
    """``text`` with every ``<!-- table:name -->`` ... ``<!-- /table:name -->`` filled anew.

    Raises:
        InputError: a marker names no table.
    """

    def fill(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in MAKERS:
            raise InputError(f"marker `table:{name}`", expected="one of " + ", ".join(MAKERS))
        return f"<!-- table:{name} -->\n{MAKERS[name](results)}\n<!-- /table:{name} -->"

    return MARKER.sub(fill, text)


def demo_table(results: Sequence[Result]) -> str:
    """The demo's systems, one row each, and where it ran."""
    found = {result.subject: result for result in results if result.kind == "demo"}
    rows = [found[subject] for subject in DEMO_ORDER if subject in found]
    if not rows:
        return "*No demo has been recorded.*"
    columns = [column for column in COLUMNS if column.key in DEMO_COLUMNS]
    titles = [" ".join(word for word in (column.group, column.title, column.unit) if word) for column in columns]
    lines = _table(["", *titles], [[row.subject, *(column.text(_row(row)) for column in columns)] for row in rows])
    first = rows[0]
    facts = ", ".join(f"{name} {value}" for name, value in first.settings.items())
    machine = first.machine
    note = (
        f"`{first.command}` on generated people and cameras that none was trained on ({facts}); a frame is letterbox, "
        f"network and boxes on {machine.cpu}, {machine.cores} cores, one run. PyTorch rows run the network as trained."
    )
    return f"{lines}\n\n{note}"


def street_table(results: Sequence[Result]) -> str:
    """What the shipped student does on PETS 2009, beside a colour histogram."""
    rows = sorted((result for result in results if result.kind == "reentry"), key=lambda one: one.subject)
    if not rows:
        return "*The shipped student has not been measured.*"
    names = ("detection_recall", "detection_precision", "rank_1", "mean_ap")
    titles = ["", "detection recall %", "detection precision %", "re-entry rank-1 % (true boxes)", "re-entry mAP %"]
    body = []
    for row in rows:
        shares = [row.figures[name].value if name in row.figures else None for name in names]
        body.append([row.subject, *(MISSING if share is None else f"{100 * share:.1f}" for share in shares)])
    note = f"PETS 2009 S2L1, IoU 0.5; never trained on. `{rows[-1].command}`"
    return f"{_table(titles, body)}\n\n{note}"


def _row(result: Result) -> Row:
    figures: Mapping[str, float] = {name: figure.value for name, figure in result.figures.items()}
    return Row(result.subject, "", dict(figures))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _markdown(table: RecordTable | None) -> str:
    if table is None:
        return "*Not recorded yet.*"
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    parts = [_table([title.replace("|", "\\|") for title in table.titles], escaped)]
    if table.notes:
        parts.append("\n".join(f"- {note}" for note in table.notes))
    if table.commands:
        parts.append("\n".join(f"- `{command}`" for command in table.commands))
    return "\n\n".join(parts)


def _pareto(results: Sequence[Result]) -> str:
    tables = pareto_tables(results)
    return "\n\n".join(f"On {data}:\n\n{_markdown(table)}" for data, table in tables.items()) or _markdown(None)


def _ablation(results: Sequence[Result]) -> str:
    tables = ablation_tables(results)
    return "\n\n".join(f"**{title}**\n\n{_markdown(table)}" for title, table in tables) or _markdown(None)


MAKERS: dict[str, Callable[[Sequence[Result]], str]] = {
    "demo": demo_table,
    "street": street_table,
    "pareto": _pareto,
    "peers": lambda results: _markdown(peers_table(results)),
    "latency": lambda results: _markdown(latency_table(results)),
    "roofline": lambda results: _markdown(roofline_table(results)),
    "gallery": lambda results: _markdown(gallery_table(results)),
    "energy": lambda results: _markdown(energy_table(results)),
    "flops": lambda results: _markdown(flops_table(results)),
    "accuracy": lambda results: _markdown(accuracy_table(results)),
    "ablation": _ablation,
    "paired": lambda results: _markdown(paired_table(results)),
    "training": lambda results: _markdown(training_table(results)),
    "parity": lambda results: _markdown(parity_table(results)),
    "builds": lambda results: _markdown(build_table(results)),
}
