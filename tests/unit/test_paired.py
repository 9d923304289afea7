"""The paired bootstrap against every possible draw, written out, and what files that do not fit get."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from personsearch.benchmarks.paired import paired_bootstrap
from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.core.errors import InputError

PEOPLE = (0, 0, 1, 2, 2, 2, 3)


def write(path: Path, precisions: Sequence[float | None], people: Sequence[int] = PEOPLE, answers: int = 4) -> Path:
    """A file of `evaluate --per-query`; who is found for certain is found first."""
    rows = [
        {
            "query": number, "image": 10 + number, "person_id": person, "average_precision": precision,
            "first_hit_rank": None if not precision else 1 if precision == 1 else 3,
            "answers": 0 if precision is None else answers,
        }
        for number, (person, precision) in enumerate(zip(people, precisions, strict=True))
    ]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


def every_draw(one: Sequence[float], other: Sequence[float], people: Sequence[int]) -> list[float]:
    """The difference of means in each of the P ** P draws of people."""
    names = sorted(set(people))
    found = []
    for draw in itertools.product(names, repeat=len(names)):
        rows = [number for name in draw for number, person in enumerate(people) if person == name]
        found.append(sum(one[row] - other[row] for row in rows) / len(rows))
    return found


def test_resamples_are_those_of_every_draw_of_people(tmp_path: Path) -> None:
    one, other = [0.9, 0.2, 0.4, 1.0, 0.1, 0.3, 0.6], [0.5, 0.1, 0.5, 0.7, 0.2, 0.2, 0.1]
    result = paired_bootstrap([write(tmp_path / "a", one)], [write(tmp_path / "b", other)], margin=-0.15)
    draws = every_draw(one, other, PEOPLE)
    found = result.mean_ap
    assert (result.queries, result.people) == (7, 4)
    assert found.system == pytest.approx(np.mean(one))
    assert found.against == pytest.approx(np.mean(other))
    assert found.difference == pytest.approx(np.mean(one) - np.mean(other))
    assert found.low == pytest.approx(np.quantile(draws, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile(draws, 0.975), abs=0.01)
    assert found.below_margin == pytest.approx(np.mean([draw < 0.15 for draw in draws]), abs=0.02)
    assert result.top_1.difference == pytest.approx(1 / 7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=7, max_size=7), st.integers(0, 3))
def test_sides_that_are_swapped_swap_the_interval(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[float, float]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    one, other = write(folder / "a", [a for a, _ in pairs]), write(folder / "b", [b for _, b in pairs])
    forth = paired_bootstrap([one], [other], resamples=200, seed=seed).mean_ap
    back = paired_bootstrap([other], [one], resamples=200, seed=seed).mean_ap
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert forth.low - 1e-12 <= forth.high
    same = paired_bootstrap([one], [one], resamples=200, seed=seed).mean_ap
    assert (same.difference, same.low, same.high, same.below_margin) == (0, 0, 0, 0)


def test_seeds_are_averaged_query_by_query_and_queries_without_answer_left_out(tmp_path: Path) -> None:
    none: list[float | None] = [None]
    first, second = write(tmp_path / "a0", none + [1.0] * 6), write(tmp_path / "a1", none + [0.5] * 6)
    other = write(tmp_path / "b", none + [0.25] * 6)
    result = paired_bootstrap([first, second], [other])
    assert (result.queries, result.system_files, result.against_files) == (6, 2, 1)
    found = result.mean_ap
    assert (found.difference, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert result.top_1.system == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, [0.1] * 6, PEOPLE[:6]), "has 6 queries, {first} has 7"),
        (lambda path: write(path, [0.1] * 7, answers=5), r"query 0 is \(10, 0, 5\) here and \(10, 0, 4\) in {first}"),
        (lambda path: path.write_text("[]"), "holds no queries"),
        (lambda path: path.write_text("no list"), "cannot be read"),
        (lambda path: path.write_text('[{"query": 0}]'), "entry 0"),
        (lambda path: None, "cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_one_line(tmp_path: Path, make: object, message: str) -> None:
    first, other = write(tmp_path / "first", [0.2] * 7), tmp_path / "other"
    assert callable(make)
    make(other)
    with pytest.raises(InputError, match=message.format(first=first)) as caught:
        paired_bootstrap([first], [other])
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_prints_and_records(tmp_path: Path) -> None:
    one, other = write(tmp_path / "small.json", [0.2] * 7), write(tmp_path / "large.json", [0.25] * 7)
    arguments = ["paired", str(one), "--against", str(other), "--margin", "1.4", "--save", str(tmp_path / "results")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "small against large: 7 queries of 4 people" in shown.stdout
    assert "20.0% - 25.0% = -5.0 points, 95 % interval -5.0 to -5.0; more than 1.4 behind in 100.0%" in shown.stdout
    (record,) = read_results(tmp_path / "results")
    assert (record.kind, record.subject) == ("paired", "small-large")
    assert record.figures["mean_ap_difference"].value == pytest.approx(-0.05)
    assert record.settings["people"] == "4"
    refused = CliRunner().invoke(app, ["paired", str(one), "--against", str(one)])
    assert "is on both sides" in str(refused.exception)
