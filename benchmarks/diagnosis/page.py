"""A diagnosis as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from personsearch.benchmarks.diagnosis.gallery_size import GalleryCurve
from personsearch.benchmarks.diagnosis.records import DiagnosisSummary
from personsearch.benchmarks.diagnosis.strips import Cell, Strip
from personsearch.benchmarks.report.charts import Curve, curve_panel
from personsearch.benchmarks.report.pictures import data_uri
from personsearch.benchmarks.report.style import CSS

_CSS = """
.bars { width: auto; font-size: 13.5px; font-variant-numeric: tabular-nums; }
.bars th, .bars td { padding: 4px 14px 4px 0; font-weight: 400; text-align: left; white-space: nowrap; }
.bars td.number { text-align: right; }
.bars td.bar { width: 320px; padding-right: 0; }
.bars td.bar span { display: block; height: 11px; border-radius: 3px; background: var(--series-2); }
.bars tr.whole span { background: var(--series-1); }
.bars + p { margin-top: 12px; }
.case { border-top: 1px solid var(--rule); padding: 14px 0 6px; break-inside: avoid; }
.case h3 { font-size: 14px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.case p { font-size: 13px; color: var(--ink-soft); margin: 2px 0 8px; }
.row { display: flex; flex-wrap: wrap; gap: 6px 22px; align-items: flex-start; }
.group { display: grid; grid-template-columns: repeat(var(--cells), 94px); gap: 4px 6px; }
.group > b { grid-column: 1 / -1; font-size: 12px; font-weight: 400; color: var(--ink-soft); min-height: 18px; }
.group figure { margin: 0; width: 94px; }
.group img { display: block; width: 94px; height: auto; border-radius: 5px; border: 3px solid var(--rule); }
.group .good img { border-color: var(--good); }
.group .bad img { border-color: var(--bad); }
.group .lost img { border-color: var(--series-2); }
.group figcaption { font-size: 11.5px; line-height: 1.3; margin-top: 2px; overflow-wrap: anywhere; }
@media (max-width: 760px) { .group { display: flex; flex-wrap: wrap; } .group > b { flex-basis: 100%; } }
"""
_MARKS = {"query": "", "good": "✓ ", "lost": "– ", "bad": "✗ "}


def gallery_chart(curve: GalleryCurve) -> str:
    """mAP and top-1 against the size of the gallery, as SVG."""
    sizes = [point.images for point in curve.points]
    lines = [
        Curve(
            name,
            sizes,
            [spread.mean for spread in spreads],
            [spread.low for spread in spreads],
            [spread.high for spread in spreads],
            colour,
        )
        for colour, (name, spreads) in enumerate(
            (("mAP", [point.mean_ap for point in curve.points]), ("top-1", [point.top_1 for point in curve.points]))
        )
    ]
    return curve_panel(
        lines,
        x_label="images searched for one query",
        y_label="percent",
        description="mAP and top-1 against the size of the gallery",
        logarithmic=True,
    )


def diagnosis_page(summary: DiagnosisSummary, curve: GalleryCurve | None, worst: Sequence[Strip]) -> str:
    """The whole page as text; what is not there is left out."""
    title = f"{summary.system} on {summary.dataset}, split {summary.split}"
    top = ", ".join(f"top-{k} {_percent(share)}" for k, share in summary.top.items())
    sections = [
        f"<header><h1>{escape(title)}</h1><p>mAP {_percent(summary.mean_ap)}, {top} over {summary.queries_scored} "
        f"queries; {escape(_rules(summary))}.</p></header>",
        _section("Where the rest of the mAP is lost", _costs(summary)),
        _section("To whom", _bars(summary.costs_by_whom, None) + _pairs(summary)),
        "" if curve is None else _section("Size of the gallery", _curve(curve)),
        _section("Worst queries", _LEGEND + "".join(map(_strip, worst))) if worst else "",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: diagnosis</title><style>{CSS}{_CSS}</style></head>\n<body><main>"
        + "\n".join(filter(None, sections))
        + "\n</main></body></html>\n"
    )


_LEGEND = (
    '<p class="soft">The queries of lowest average precision, one a person. Of the answers only errors are shown, '
    "a few of each kind: ✓ found, at this rank (green); – missed or mislocalised (orange), with the person's true box "
    "in green and the detection in orange. ✗ wrong detections that stand before an answer (red): for everyone who is "
    "shown the most similar one.</p>"
)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _rules(summary: DiagnosisSummary) -> str:
    options = summary.options
    parts = [f"protocol {summary.protocol}", f"mode {options.mode}", f"score at least {summary.score_threshold:g}"]
    parts.append(f"query features from {'true boxes' if options.query_features == 'gt_box' else 'detections'}")
    if options.weighted_by_score:
        parts.append("similarities weighted by score")
    if options.context is not None:
        parts.append(f"context matching k1 {options.context[0]}, k2 {options.context[1]}")
    return ", ".join(parts)


def _costs(summary: DiagnosisSummary) -> str:
    note = (
        "Points of mAP, repaired in this order: who was missed is found at the true box, who is mislocalised gets the "
        "detection moved there; the rest is lost to wrong detections that are as similar. One who is found by repair "
        f"ranks {summary.repaired_rank}. Ranked late: behind {summary.late_after} or more wrong detections of which "
        "no single person has half."
    )
    if summary.true_boxes_mean_ap is not None:
        note += f" With true boxes in place of all detections the mAP is {_percent(summary.true_boxes_mean_ap)}."
    shown = {kind: cost for kind, cost in summary.costs.items() if cost or kind in summary.answers}
    return _bars({"mAP": summary.mean_ap, **shown}, summary.answers) + f'<p class="soft">{escape(note)}</p>'


def _bars(costs: Mapping[str, float], answers: Mapping[str, int] | None) -> str:
    widest = max(costs.values(), default=0.0) or 1.0
    rows = []
    for name, cost in costs.items():
        count = (answers or {}).get("right" if name == "mAP" else name)
        counted = "" if count is None else f"{count:,} answers{' in place' if name == 'mAP' else ''}"
        kind = ' class="whole"' if name == "mAP" else ""
        rows.append(
            f'<tr{kind}><th>{escape(name)}</th><td class="number">{100 * cost:.1f}</td>'
            f'<td class="bar"><span style="width:{100 * max(0.0, cost) / widest:.1f}%"></span></td>'
            f'<td class="number">{counted}</td></tr>'
        )
    return f'<table class="bars">{"".join(rows)}</table>'


def _pairs(summary: DiagnosisSummary) -> str:
    if not summary.confused_pairs:
        return ""
    rows = "".join(
        f"<tr><td>{escape(pair.person_name)}</td><td>{escape(pair.taken_for_name)}</td>"
        f"<td>{pair.queries}</td><td>{100 * pair.cost:.2f}</td></tr>"
        for pair in summary.confused_pairs[:10]
    )
    head = "<tr><th>person searched</th><th>taken for</th><th>queries</th><th>points of mAP</th></tr>"
    return f'<p class="soft">The dearest confusions of two people:</p><table class="bars">{head}{rows}</table>'


def _curve(curve: GalleryCurve) -> str:
    if curve.galleries == "published":
        note = "The galleries that the data set publishes."
    else:
        draws = max(point.draws for point in curve.points)
        note = (
            f"Galleries drawn from the protocol's, the smaller within the larger, each with all answers of its query: "
            f"mean and span of {draws} draws, seed {curve.seed}."
        )
        above = [f"{point.queries_above} at {point.name}" for point in curve.points if point.queries_above]
        if above:
            note += f" Queries with more answers than the size keep them all: {', '.join(above)}."
    return f'<figure><div class="chart">{gallery_chart(curve)}</div><figcaption>{escape(note)}</figcaption></figure>'


def _strip(strip: Strip) -> str:
    groups = [_group("", [strip.query]), _group("answers", strip.answers), _group("wrong, before them", strip.wrong)]
    return (
        f'<div class="case"><h3>AP {_percent(strip.average_precision)} · {escape(strip.title)}</h3>'
        f'<p>{escape(strip.note)}</p><div class="row">{"".join(groups)}</div></div>'
    )


def _group(title: str, cells: Sequence[Cell]) -> str:
    if not cells:
        return ""
    pictures = "".join(map(_cell, cells))
    return f'<div class="group" style="--cells:{len(cells)}"><b>{escape(title)}</b>{pictures}</div>'


def _cell(cell: Cell) -> str:
    height, width = cell.picture.shape[:2]
    picture = f'<img loading="lazy" width="{width}" height="{height}" alt="" src="{data_uri(cell.picture)}">'
    second = f"<br>{escape(cell.second)}" if cell.second else ""
    return (
        f'<figure class="{cell.mark}">{picture}<figcaption>{_MARKS[cell.mark]}{escape(cell.first)}{second}'
        "</figcaption></figure>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
