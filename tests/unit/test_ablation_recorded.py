"""Tables of runs made from their records: cells and order from made-up ones, through the files that `--save` writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from personsearch.benchmarks.ablation.order import Spread, spread_of
from personsearch.benchmarks.ablation.recipe import PaperFigures
from personsearch.benchmarks.ablation.recorded import ablation_tables, recorded_table
from personsearch.benchmarks.ablation.table import Table, TableRow, orders_of, records
from personsearch.benchmarks.readme import with_tables
from personsearch.benchmarks.record_tables import RecordTable
from personsearch.benchmarks.report.bench_page import bench_page
from personsearch.benchmarks.results import Result, read_results, write_result

DATA = "synthetic, split test, protocol default, 40 queries"
COMMAND = ["bench", "ablation", "recipes/ablation/hdl_levels_demo.yaml", "--save", "results"]
MEANING = (
    "percent; mean ± standard deviation over seeds, lowest..highest; teachers are trained once, so that the spread "
    "is the students' alone; 1 MAC = 2 FLOPs, frame with K = 32 people"
)


def spreads(**values: list[float]) -> dict[str, Spread]:
    made = {name: spread_of(each) for name, each in values.items()}
    return {name: spread for name, spread in made.items() if spread is not None}


def row(name: str, title: str, paper: float | None, seeds: int = 1, **values: list[float]) -> TableRow:
    return TableRow(
        name=name, title=title, paper=PaperFigures(search_map=paper), figures=spreads(**values),
        runs={seed: f"{seed}" * 64 for seed in range(seeds)},
        scene_gflops=0.325890496, person_mflops=8.518864, frame_gflops=0.598494144, persons=32,
        recipe=f"name: {name}\n",
    )  # fmt: skip


def table(*rows: TableRow, name: str = "hdl-levels-demo", title: str = "Small HDL", dataset: str = DATA) -> Table:
    return Table(
        name=name, title=title, source="HDL, table 6", dataset=dataset, chance_map=1.75, seeds=(0, 1), rows=rows,
        orders=orders_of(rows),
    )  # fmt: skip


def saved(folder: Path, *tables: Table, command: list[str] | None = None) -> list[Result]:
    """What is in the folder after these tables."""
    folder.mkdir(exist_ok=True)
    for each in tables:
        for record in records(each, command or COMMAND):
            write_result(record, folder)
    return read_results(folder)


def only(results: list[Result]) -> RecordTable:
    ((_, made),) = ablation_tables(results)
    return made


NONE = row("none", "none", 45.1, search_map=[36.25], search_top1=[80.0], true_boxes_map=[56.0])
FD = row("fd", "FD", 54.1, search_map=[33.5], search_top1=[77.5], detection_ap=[63.75])
ALL = row("all", "all", 66.4, seeds=2, search_map=[45.0, 47.0], search_top1=[87.5, 87.5], detection_ap=[70.0, 71.0])


def test_rows_stand_in_the_recipes_order_with_the_papers_figures_beside_them(tmp_path: Path) -> None:
    results = saved(tmp_path, table(ALL, NONE, FD))
    # By file name all comes first and none last.
    assert [each.subject.removeprefix("hdl-levels-demo-") for each in results] == ["all", "fd", "none"]
    made = only(results)
    assert made.titles == [
        "row", "search mAP", "paper", "top-1", "detection AP", "true-box mAP", "scene GFLOP", "person MFLOP",
        "frame GFLOP", "seeds",
    ]  # fmt: skip
    costs = ["0.3259", "8.519", "0.5985"]
    assert made.rows == [
        ["none", "36.2", "45.1", "80.0", "–", "56.0", *costs, "1"],
        ["FD", "33.5", "54.1", "77.5", "63.8", "–", *costs, "1"],
        ["all", "46.0 ± 1.4 (45.0..47.0)", "66.4", "87.5 ± 0.0 (87.5..87.5)", "70.5 ± 0.7 (70.0..71.0)", "–", *costs,
         "2"],
    ]  # fmt: skip
    assert made.notes == [
        "paper: HDL, table 6",
        f"measured on {DATA}; chance: search mAP 1.8",
        MEANING,
        "order by search mAP: Kendall tau 0.33 over 3 pairs; swapped within the spread, or with one seed only: 1",
        "rows without a record: AD; PD; FD + AD; FD + PD; AD + PD",
    ]
    assert made.commands == [" ".join(["personsearch", *COMMAND])]


def test_a_table_of_records_says_what_the_saved_one_said(tmp_path: Path) -> None:
    before = table(NONE, FD, ALL)
    after = recorded_table(saved(tmp_path, before))
    names = [f"hdl-levels-demo-{each.name}" for each in before.rows]
    renamed = [each.model_copy(update={"name": name}) for each, name in zip(before.rows, names, strict=True)]
    assert list(after.rows) == renamed
    assert after == before.model_copy(update={"rows": after.rows, "orders": orders_of(renamed)})


def test_a_sequence_has_its_columns_and_says_which_it_is(tmp_path: Path) -> None:
    walk = "walk, 7 frames, 4 true boxes as queries; chance: rank-1 37.5, mAP 50.0"
    seen = row("fd", "FD", 54.1, search_map=[33.5], reentry_rank1=[62.5], reentry_recall=[81.0])
    before = table(NONE, seen).model_copy(update={"reentry": walk})
    found = saved(tmp_path, before)
    assert recorded_table(found).reentry == walk
    assert ["reentry" in each.settings for each in found] == [True, False], "a row without them does not claim them"
    made = only(found)
    assert made.titles[:8] == [
        "row", "search mAP", "paper", "top-1", "true-box mAP", "re-entry rank-1", "re-entry recall", "scene GFLOP",
    ]  # fmt: skip
    assert [each[5:7] for each in made.rows] == [["–", "–"], ["62.5", "81.0"]]
    assert made.notes[2] == f"re-entry: {walk}; recall and precision at IoU 0.5 and the recipe's score threshold"


def test_pairs_that_seeds_tell_apart_are_named(tmp_path: Path) -> None:
    none = row("none", "none", 45.1, seeds=2, search_map=[50.0, 52.0])
    notes = only(saved(tmp_path, table(none, ALL))).notes
    assert notes[3] == (
        "order by search mAP: Kendall tau -1.00 over 1 pairs; DIFFERS from the paper in 1, ranges of the seeds apart: "
        "`all` (46.0, paper 66.4) below `none` (51.0, 45.1)"
    )


def test_a_record_without_chance_or_a_paper_has_a_table_all_the_same(tmp_path: Path) -> None:
    detector = row("none", "detector", None, detection_ap=[60.0])
    (record,) = saved(tmp_path, table(detector))
    assert "chance_map" not in record.figures, "nobody was searched"
    made = only([record])
    assert made.rows == [["detector", "60.0", "0.3259", "8.519", "0.5985", "1"]]
    assert list(made.notes[:3]) == ["paper: HDL, table 6", f"measured on {DATA}", MEANING]
    assert not any("Kendall" in note for note in made.notes)


def test_other_data_and_other_recipes_are_tables_of_their_own(tmp_path: Path) -> None:
    mine = table(ALL, FD, name="mine", title="Mine")
    # `hdl-levels-demo-none` begins like a row of `hdl-levels`, too.
    large = table(NONE, name="hdl-levels", title="HDL")
    elsewhere = table(FD, dataset="elsewhere")
    again = [*COMMAND, "--rows", "all"]
    saved(tmp_path, table(NONE), mine, large, elsewhere)
    tables = ablation_tables(saved(tmp_path, table(ALL), command=again))
    shown = [(title, [each[0] for each in made.rows]) for title, made in tables]
    assert shown == [
        ("Small HDL", ["none", "all"]),
        ("Small HDL", ["FD"]),
        ("HDL", ["none"]),
        ("Mine", ["all", "FD"]),
    ]
    assert tables[0][1].commands == [" ".join(["personsearch", *words]) for words in (again, COMMAND)]
    assert tables[1][1].notes[1].startswith("measured on elsewhere; chance")
    assert not any("without a record" in note for note in tables[3][1].notes), "nobody knows the rows of that recipe"


def test_docs_and_report_show_them(tmp_path: Path) -> None:
    marker = "<!-- table:ablation -->\nold\n<!-- /table:ablation -->"
    assert "*Not recorded yet.*" in with_tables(marker, [])
    results = saved(tmp_path, table(NONE, FD))
    text = with_tables(marker, results)
    assert "**Small HDL**\n\n| row | search mAP | paper |" in text
    assert "| FD | 33.5 | 54.1 | 77.5 | 63.8 | – | 0.3259 | 8.519 | 0.5985 | 1 |" in text
    assert "chance: search mAP 1.8" in text
    assert "old" not in text
    page = bench_page(results)
    assert "<h2>Small HDL</h2>" in page
    assert "Other records" not in page


def test_tables_of_records_need_no_torch() -> None:
    code = "import sys, personsearch.benchmarks.readme, personsearch.benchmarks.report.bench_page; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "lightning"} & set(loaded)
