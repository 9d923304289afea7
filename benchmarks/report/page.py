"""One self-contained HTML file: no script, no address outside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from personsearch.benchmarks.report.content import Check, Image, Match, Picture, Ranking, Report, StageTime
from personsearch.benchmarks.report.pictures import data_uri, fit
from personsearch.benchmarks.report.style import CSS
from personsearch.benchmarks.report.table import html_table

CROP_WH = (112, 224)


def render_page(report: Report) -> str:
    """The whole page as text; a section without content is left out."""
    sections = [
        _section("Figures", html_table(report.rows) + _notes(report.table_notes)),
        _section("Checks", _checks(report.checks)) if report.checks else "",
        _section("Learning", _charts(report.charts)) if report.charts else "",
        _section("Ranked matches", _rankings(report)) if report.rankings else "",
        _section("The stream", _stream(report)) if report.frames else "",
        _section("How it was made", f'<div class="pair">{_stages(report.stages)}{_facts(report.facts)}</div>'),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{CSS}</style></head>\n<body><main>"
        f"<header><h1>{escape(report.title)}</h1>{''.join(f'<p>{escape(text)}</p>' for text in report.summary)}"
        f"{_verdict(report.checks)}</header>\n" + "\n".join(filter(None, sections)) + "\n</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>' if text else ""


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _verdict(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    passed = sum(check.passed for check in checks)
    kind = "good" if passed == len(checks) else "bad"
    return f'<span class="verdict {kind}">{passed} of {len(checks)} checks passed</span>'


def _checks(checks: Sequence[Check]) -> str:
    items = "".join(
        f'<li class="{_kind(check.passed)}"><b>{"✓ passed" if check.passed else "✗ failed"}</b>'
        f"<div>{escape(check.claim)}<span>{escape(check.measured)}</span></div></li>"
        for check in checks
    )
    return f'<ul class="checks">{items}</ul>'


def _charts(charts: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<figure><div class="chart">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'
        for svg, caption in charts
    )


def _rankings(report: Report) -> str:
    return _soft(report.ranking_note) + "".join(map(_ranking, report.rankings))


def _stream(report: Report) -> str:
    return _soft(report.stream_note) + _charts(report.stream_charts) + _frames(report.frames)


def _ranking(ranking: Ranking) -> str:
    picture = _image(fit(ranking.query, CROP_WH), "query")
    query = f'<figure class="query">{picture}<figcaption>query</figcaption></figure>'
    return (
        f'<div class="ranking"><h3>{escape(ranking.title)} <span>AP {100 * ranking.average_precision:.0f} %</span></h3>'
        f'<div class="strip">{query}{"".join(map(_match, ranking.matches))}</div></div>'
    )


def _match(match: Match) -> str:
    # A mark beside the colour: red and green alone do not reach every reader.
    mark, word = ("✓", "right") if match.right else ("✗", "wrong")
    return (
        f'<figure class="{_kind(match.right)}">{_image(fit(match.crop, CROP_WH), word)}'
        f"<figcaption>{mark} {match.similarity:.2f}</figcaption></figure>"
    )


def _frames(frames: Sequence[Picture]) -> str:
    return f'<div class="frames">{"".join(map(_frame, frames))}</div>'


def _frame(frame: Picture) -> str:
    return f"<figure>{_image(frame.image, frame.caption)}<figcaption>{escape(frame.caption)}</figcaption></figure>"


def _stages(stages: Sequence[StageTime]) -> str:
    rows = "".join(f"<tr><th>{escape(stage.name)}</th><td>{stage.seconds:,.1f} s</td></tr>" for stage in stages)
    total = sum(stage.seconds for stage in stages)
    return f'<table class="plain right">{rows}<tr><th><b>All stages</b></th><td><b>{total:,.1f} s</b></td></tr></table>'


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    return f'<table class="plain">{rows}</table>'


def _image(image: Image, text: str) -> str:
    height, width = image.shape[:2]
    return f'<img loading="lazy" width="{width}" height="{height}" alt="{escape(text)}" src="{data_uri(image)}">'


def _kind(good: bool) -> str:
    return "good" if good else "bad"
