"""Records of measurements: round trip, and nothing of the place they were made at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personsearch.benchmarks.results import make_result, read_results, write_result
from personsearch.core.errors import InputError


def test_round_trip(tmp_path: Path) -> None:
    result = make_result(
        "accuracy",
        "street v1",
        {"mean_ap": (0.5, "share")},
        sha256="a" * 64,
        settings={"split": "test"},
        arguments=["evaluate", "artifacts/street"],
    )
    path = write_result(result, tmp_path)
    assert path.name == "accuracy-street-v1.json"
    assert read_results(tmp_path) == [result]


def test_absolute_paths_stay_out(tmp_path: Path) -> None:
    arguments = ["evaluate", str(tmp_path / "run" / "checkpoint.pt"), "data/prw", "--save", str(tmp_path)]
    result = make_result("accuracy", "run", {"mean_ap": (0.5, "share")}, arguments=arguments)
    text = write_result(result, tmp_path).read_text()
    assert result.command == f"personsearch evaluate checkpoint.pt data/prw --save {tmp_path.name}"
    assert str(tmp_path) not in text
    assert set(json.loads(text)["machine"]) == {"cpu", "cores", "memory_gib", "system", "python", "libraries"}


@pytest.mark.parametrize("figures", [{}, {"mean_ap": (float("nan"), "share")}, {"mean_ap": (0.5, "")}])
def test_a_figure_needs_a_number_and_a_unit(figures: dict[str, tuple[float, str]]) -> None:
    with pytest.raises(ValueError, match=r"figures|finite|at least 1"):
        make_result("accuracy", "run", figures, arguments=[])


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: is not JSON"):
        read_results(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"kind": "accuracy"}))
    with pytest.raises(InputError, match="is missing"):
        read_results(tmp_path)
