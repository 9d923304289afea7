"""Pages of benchmark records: the Pareto charts alone, and everything there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from personsearch.benchmarks.ablation.recorded import ablation_tables
from personsearch.benchmarks.build_record import build_table
from personsearch.benchmarks.pareto import COSTS, ParetoPoint, any_cost, pareto_points, pareto_rows, pareto_titles
from personsearch.benchmarks.parity_record import parity_table
from personsearch.benchmarks.record_tables import (
    RecordTable,
    accuracy_table,
    energy_table,
    flops_table,
    gallery_table,
    latency_table,
    paired_table,
    peers_table,
    roofline_table,
    training_table,
)
from personsearch.benchmarks.report.pareto_chart import pareto_svg
from personsearch.benchmarks.report.roofline_chart import roofline_svg
from personsearch.benchmarks.report.style import CSS
from personsearch.benchmarks.results import Result
from personsearch.benchmarks.roofline import RooflinePoint, recorded_points

NUMBER = re.compile(r"[-+.,/0-9 e–]*")
TABLED = {
    "flops", "peers", "latency", "multi", "offline", "stream", "energy", "accuracy", "gallery", "parity", "ablation",
    "build", "paired", "training",
}  # fmt: skip
BENCH_CSS = """
table.figures tbody th { text-align: left; white-space: nowrap; }
table.figures thead tr th { text-align: left; white-space: normal; padding-bottom: 7px; }
table.figures td.words { text-align: left; white-space: normal; min-width: 9ch; }
tr.beaten th, tr.beaten td { color: var(--ink-soft); }
code { font-size: 12.5px; overflow-wrap: anywhere; }
details { margin: 0 0 10px; border: 1px solid var(--rule); border-radius: 10px; background: var(--card); }
summary { padding: 8px 16px; cursor: pointer; }
details dl { display: grid; grid-template-columns: minmax(12ch, auto) 1fr; gap: 2px 18px; margin: 0; font-size: 13px;
  padding: 0 16px 12px; }
dt { color: var(--ink-soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""


def pareto_page(groups: Mapping[str, Sequence[ParetoPoint]]) -> str:
    """Charts and tables of accuracy against cost, one pair a data set."""
    return _page("Accuracy against cost", _pareto_sections(groups))


def bench_page(results: Sequence[Result]) -> str:
    """Everything that the records say, on one self-contained page.

    Args:
        results: the records, in the order in which the rest of them is shown.
    """
    groups = pareto_points(results)
    tables = {
        "Side by side": peers_table(results),
        "Latency": latency_table(results),
        "Roofline": roofline_table(results),
        "Energy": energy_table(results),
        "Gallery": gallery_table(results),
        "Operations, weights and memory": flops_table(results),
        "Accuracy": accuracy_table(results),
        "The same queries": paired_table(results),
        "Training speed": training_table(results),
        "Parity": parity_table(results),
        "Engines built": build_table(results),
    }
    sections = [
        *_pareto_sections(groups),
        *(_section(title, _table(table)) for title, table in tables.items() if table is not None),
        *(_section(title, _table(table)) for title, table in ablation_tables(results)),
    ]
    if points := recorded_points(results):
        sections.append(_section("Roofline", _roofline(points)))
    rest = [result for result in results if result.kind not in TABLED]
    if rest:
        sections.append(_section("Other records", "".join(_record(result) for result in rest)))
    machines = dict.fromkeys(f"{result.machine.cpu}, {result.machine.cores} cores" for result in results)
    about = f"{len(results)} records, measured on {'; '.join(machines)}. Every table names the command that made it."
    return _page("Benchmarks", sections, about)


def _pareto_sections(groups: Mapping[str, Sequence[ParetoPoint]]) -> list[str]:
    sections = []
    for data, points in groups.items():
        chart = ""
        if any_cost(points):
            described = f"Search mAP against cost on {data}"
            chart = f'<figure class="chart">{pareto_svg(points, described)}<figcaption>Filled and joined: nobody is as '
            chart += "accurate at less cost. Hollow: beaten.</figcaption></figure>"
        commands = list(dict.fromkeys(command for point in points for command in point.commands))
        table = RecordTable(pareto_titles(), pareto_rows(points), (), commands)
        beaten = [bool(point.dominated) and _everywhere(point) for point in points]
        sections.append(_section(f"Accuracy against cost: {data}", chart + _table(table, beaten)))
    return sections


def _everywhere(point: ParetoPoint) -> bool:
    return all(cost in point.dominated for cost in COSTS if getattr(point, cost) is not None)


def _roofline(points: Sequence[RooflinePoint]) -> str:
    described = f"Operations a second over operations a byte of {', '.join(point.system for point in points)}"
    caption = "Lines: what the machine reached with each library in the same run. Points: one frame, network alone."
    return f'<figure class="chart">{roofline_svg(points, escape(described))}<figcaption>{caption}</figcaption></figure>'


def _table(table: RecordTable, beaten: Sequence[bool] | None = None) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.titles)
    body = []
    for number, row in enumerate(table.rows):
        cells = "".join(f"<td{_words(cell)}>{escape(cell)}</td>" for cell in row[1:])
        kind = ' class="beaten"' if beaten is not None and beaten[number] else ""
        body.append(f'<tr{kind}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    commands = "".join(f"<li><code>{escape(command)}</code></li>" for command in table.commands)
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><ul class="notes">{notes}{commands}</ul>'
    )


def _words(cell: str) -> str:
    return "" if NUMBER.fullmatch(cell) else ' class="words"'


def _record(result: Result) -> str:
    pairs = [(name, f"{figure.value:.6g} {figure.unit}") for name, figure in result.figures.items()]
    pairs += list(result.settings.items())
    pairs += [("machine", f"{result.machine.cpu}, {result.machine.cores} cores"), ("measured", result.created)]
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return (
        f"<details><summary>{escape(result.kind)}: {escape(result.subject)}</summary><dl>{items}"
        f"<dt>command</dt><dd><code>{escape(result.command)}</code></dd></dl></details>"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _page(title: str, sections: Sequence[str], about: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{BENCH_CSS}</style></head>\n<body><main>"
        f"<header><h1>{escape(title)}</h1>{f'<p>{escape(about)}</p>' if about else ''}</header>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )
