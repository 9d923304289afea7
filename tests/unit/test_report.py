"""The report page: self-contained, escaped, the same bytes for the same figures."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from rich.console import Console

from personsearch.benchmarks.report import Check, Match, Picture, Ranking, Report, Row, StageTime, render_page
from personsearch.benchmarks.report.charts import INK, Line, Panel, line_panels, timeline
from personsearch.benchmarks.report.pictures import crop, data_uri, fit
from personsearch.benchmarks.report.table import COLUMNS, MISSING, html_table, terminal_tables


def picture(width: int = 20, height: int = 40, level: int = 90) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


LOSS = Panel("Loss", "epoch", (Line("teacher", [1, 2], [3.0, 1.0], 0),))
MATCHES = (Match(picture(), 0.9, True), Match(picture(), 0.8, False))


def report(**changes: object) -> Report:
    content: dict[str, object] = {
        "title": "A & B <b>",
        "summary": ("One <script>alert(1)</script> sentence.",),
        "rows": (Row("Teacher", "PyTorch", {"map": 0.5, "scene_flops": 6.4e9}, emphasis=True), Row("Chance", "", {})),
        "table_notes": ("held out",),
        "checks": (Check("holds", True, "2 > 1"), Check("fails", False, "1 < 2")),
        "charts": ((line_panels([LOSS], "loss"), "caption"),),
        "rankings": (Ranking(picture(), "Person 3", 0.75, MATCHES),),
        "ranking_note": "every second query",
        "stream_note": "a video",
        "stream_charts": ((timeline([0.0, 0.1, 0.2], [0.2, None, 0.9], [False, True, True], 0.6, "time"), "caption"),),
        "frames": (Picture(picture(64, 36), "frame 3"),),
        "stages": (StageTime("1 data", 3.0), StageTime("2 teacher", 4.5)),
        "facts": (("Seed", "0"),),
    }
    return Report(**{**content, **changes})  # type: ignore[arg-type]  # the fields above, some replaced


class Tags(HTMLParser):
    """Collects tags, and complains about one that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    return tags


def test_page_needs_nothing_from_outside() -> None:
    tags = parsed(render_page(report()))
    assert not [tag for tag, _ in tags.seen if tag in ("script", "link", "iframe")]
    for tag, attributes in tags.seen:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/jpeg;base64,", "#")), (tag, address)
    images = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert len(images) == 4  # the query, two matches, one frame
    assert all(attributes["loading"] == "lazy" and attributes["alt"] for attributes in images)


def test_page_escapes_what_it_is_given() -> None:
    text = render_page(report())
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "A &amp; B &lt;b&gt;" in text


def test_page_is_the_same_for_the_same_figures() -> None:
    assert render_page(report()) == render_page(report())


def test_page_counts_the_checks() -> None:
    assert "1 of 2 checks passed" in render_page(report())
    assert 'verdict good">1 of 1' in render_page(report(checks=(Check("holds", True, ""),)))


def test_page_leaves_out_empty_sections() -> None:
    text = render_page(report(checks=(), charts=(), rankings=(), frames=()))
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Figures", "How it was made"]


def test_right_and_wrong_matches_are_told_without_colour() -> None:
    text = render_page(report())
    assert "✓ 0.90" in text
    assert "✗ 0.80" in text


def test_table_has_one_cell_a_column_and_a_dash_where_nothing_was_measured() -> None:
    teacher = Row("Teacher", "", {"map": 0.5, "scene_flops": 6.4e9, "parameters": 1_234_500.0})
    text = html_table((teacher, Row("Chance", "", {})))
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)][2:]
    keys = [column.key for column in COLUMNS]
    assert [len(row) for row in rows] == [len(keys)] * 2
    assert rows[0][keys.index("map")] == "50.0"
    assert rows[0][keys.index("scene_flops")] == "6.400"
    assert rows[0][keys.index("parameters")] == "1,234.5"
    assert set(rows[1]) == {MISSING}


def test_zero_is_shown_as_zero() -> None:
    assert COLUMNS[0].text(Row("x", "", {COLUMNS[0].key: 0.0})) == "0.0"


@pytest.mark.parametrize(("width", "tables"), [(160, 1), (80, 2)])
def test_terminal_tables_hold_every_figure_at_any_width(width: int, tables: int) -> None:
    figures = {column.key: (number + 1) / column.scale for number, column in enumerate(COLUMNS)}
    console = Console(width=width, record=True, file=io.StringIO())
    made = terminal_tables((Row("Colour histogram", "", figures), Row("Chance", "", {"map": 0.5})), "title", width)
    assert len(made) == tables
    for table in made:
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    lines = [line for line in text.splitlines() if "Colour histogram" in line]
    shown = [float(value) for line in lines for value in line.split()[2:]]
    assert shown == [number + 1 for number in range(len(COLUMNS))]


def test_charts_follow_the_page_colours() -> None:
    svg = line_panels([LOSS], 'the "loss"')
    assert "var(--series-0)" in svg
    assert INK not in svg
    assert 'aria-label="the loss"' in svg
    assert not re.search(r"#01021\d", svg)


def test_timeline_shades_each_time_the_query_is_in_view() -> None:
    shown = [False, True, True, False, True, False]
    svg = timeline([0.1 * i for i in range(6)], [0.5] * 6, shown, 0.6, "time")
    none = timeline([0.1 * i for i in range(6)], [0.5] * 6, [False] * 6, 0.6, "time")
    # Two visits and their entry in the legend.
    assert svg.count("fill: var(--shade)") == 3
    assert none.count("fill: var(--shade)") == 0


def test_data_uri_decodes_to_the_picture() -> None:
    image = picture(8, 6, 120)
    encoded = base64.b64decode(data_uri(image).partition(",")[2])
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - 120).max() <= 2


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4), (4, 4, 4)])
def test_data_uri_refuses_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        data_uri(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("wh", [(20, 40), (200, 10), (1, 300)])
def test_fit_keeps_the_aspect_and_the_size_asked_for(wh: tuple[int, int]) -> None:
    framed = fit(np.full((wh[1], wh[0], 3), 255, np.uint8), (64, 128), grey=0)
    assert framed.shape == (128, 64, 3)
    inked = framed[..., 0] > 127
    height, width = inked.any(1).sum(), inked.any(0).sum()
    assert width == 64 or height == 128
    assert abs(width - max(1, wh[0] * min(64 / wh[0], 128 / wh[1]))) <= 1


def test_crop_stops_at_the_frame() -> None:
    frame = np.arange(20 * 30 * 3, dtype=np.uint32).reshape(20, 30, 3).astype(np.uint8)
    assert np.array_equal(crop(frame, np.array([-5.0, -5.0, 10.0, 10.0]), margin=0), frame[:10, :10])
    assert crop(frame, np.array([10.0, 5.0, 20.0, 15.0]), margin=0.1).shape == (12, 12, 3)
    with pytest.raises(ValueError, match="outside a frame of 30x20"):
        crop(frame, np.array([40.0, 0.0, 50.0, 10.0]))
