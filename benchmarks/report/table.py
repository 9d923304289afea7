"""The one table, for a terminal and for a page: columns, units and rounding are defined once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.box import SIMPLE_HEAD
from rich.table import Table

from personsearch.benchmarks.report.content import Row

MISSING = "–"
WIDE = 128


@dataclass(frozen=True)
class Column:
    """A column: ``scale`` turns the base unit of the figure into the unit shown."""

    key: str
    group: str
    title: str
    unit: str
    decimals: int
    scale: float = 1.0

    def text(self, row: Row) -> str:
        """The figure of this column in ``row`` as shown, or a dash where it was not measured."""
        value = row.figures.get(self.key)
        return MISSING if value is None else f"{value * self.scale:,.{self.decimals}f}"


COLUMNS = (
    Column("detection_ap", "Detection", "AP", "%", 1, 100),
    Column("detection_recall", "Detection", "recall", "%", 1, 100),
    Column("map", "Search", "mAP", "%", 1, 100),
    Column("top1", "Search", "top-1", "%", 1, 100),
    Column("top5", "Search", "top-5", "%", 1, 100),
    Column("given_boxes_map", "Given boxes", "mAP", "%", 1, 100),
    Column("scene_macs", "Scene", "", "GMACs", 3, 1e-9),
    Column("scene_flops", "Scene", "", "GFLOPs", 3, 1e-9),
    Column("person_flops", "Person", "", "MFLOPs", 2, 1e-6),
    Column("parameters", "Weights", "", "thousand", 1, 1e-3),
    Column("latency_p50_ms", "Frame time", "p50", "ms", 1),
    Column("latency_p90_ms", "Frame time", "p90", "ms", 1),
    Column("file_bytes", "Size", "", "MB", 2, 1e-6),
)

# Of the figures themselves, before a column scales them.
UNITS = {
    **dict.fromkeys(("detection_ap", "detection_recall", "map", "top1", "top5", "given_boxes_map"), "share"),
    "scene_macs": "MAC",
    "scene_flops": "FLOP",
    "person_flops": "FLOP",
    "parameters": "weights",
    "latency_p50_ms": "ms",
    "latency_p90_ms": "ms",
    "file_bytes": "B",
}


def _groups() -> list[tuple[str, int]]:
    groups: list[tuple[str, int]] = []
    for column in COLUMNS:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups


def terminal_tables(rows: Sequence[Row], title: str, width: int) -> list[Table]:
    """The table for `rich`, figures aligned right; accuracy and cost apart where ``width`` letters hold no more."""
    if width >= WIDE:
        return [_terminal_table(rows, title, COLUMNS)]
    split = next(i for i, column in enumerate(COLUMNS) if column.group == "Scene")
    measured = [row for row in rows if any(column.key in row.figures for column in COLUMNS[split:])]
    return [_terminal_table(rows, title, COLUMNS[:split]), _terminal_table(measured, "", COLUMNS[split:])]


def _terminal_table(rows: Sequence[Row], title: str, columns: Sequence[Column]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Stage", no_wrap=True)
    for column in columns:
        words = [word for word in (*column.group.split(), column.title, column.unit) if word]
        table.add_column("\n".join(words), justify="right", vertical="bottom", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(column.text(row) for column in columns), style="bold" if row.emphasis else None)
    return table


def html_table(rows: Sequence[Row]) -> str:
    """The table as HTML, with a header row of groups and one of titles and units."""
    edges = set()
    position = 0
    for _, span in _groups():
        edges.add(position)  # the first column of a group gets a rule on its left
        position += span
    head = "".join(
        f'<th scope="colgroup" colspan="{span}" class="edge">{escape(name)}</th>' for name, span in _groups()
    )
    units = "".join(
        f'<th scope="col"{_edge(i in edges)}>{escape(column.title)} <small>{escape(column.unit)}</small></th>'
        for i, column in enumerate(COLUMNS)
    )
    body = []
    for row in rows:
        cells = "".join(f"<td{_edge(i in edges)}>{column.text(row)}</td>" for i, column in enumerate(COLUMNS))
        kind = ' class="emphasis"' if row.emphasis else ""
        body.append(f'<tr{kind}><th scope="row">{escape(row.name)}<small>{escape(row.note)}</small></th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="figures"><thead>'
        f'<tr><th rowspan="2" scope="col">Stage</th>{head}</tr><tr>{units}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _edge(first: bool) -> str:
    return ' class="edge"' if first else ""
