"""Tables of runs: reading and resolving them, the order of rows, the table; nothing here trains."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from personsearch.benchmarks.ablation.order import Spread, compare_order, spread_of
from personsearch.benchmarks.ablation.plan import Plan, plan_ablation
from personsearch.benchmarks.ablation.recipe import load_ablation, merged
from personsearch.benchmarks.ablation.table import make_table, markdown, orders_of, remarks
from personsearch.cli.bench_ablation import parse_seeds
from personsearch.core.errors import InputError
from personsearch.core.recipe import recipe_hash
from personsearch.core.recipes import DistillRecipe, TrainRecipe

RECIPES = Path(str(files("personsearch.recipes")))
TABLES = sorted((RECIPES / "ablation").glob("*.yaml"))
BASE = {
    "name": "base", "model": {"trunk": {"kind": "depthwise"}}, "preprocess": {"input_wh": [96, 64]},
    "data": {"root": "nowhere"}, "epochs": 7, "teacher": "elsewhere.pt",
    "hierarchical": {"feature": True, "temperature": 2},
}  # fmt: skip
STUDENT = {"base": "b", "teachers": {"teacher": "big"}}


def table(folder: Path, **changes: Any) -> Path:
    """A table of two rows, one of them under a teacher."""
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    content = {
        "name": "tiny", "title": "Tiny", "source": "nobody", "bases": {"b": "base.yaml"}, "seeds": [0, 1],
        "teachers": {"big": {"base": "b", "changes": {"epochs": 9}}},
        "rows": [{"name": "none", "base": "b"}, {"name": "taught", **STUDENT}],
        "scale": {"data": {"root": "data"}}, **changes,
    }  # fmt: skip
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def plan(path: Path, *overrides: str, **options: Any) -> Plan:
    return plan_ablation(load_ablation(path, overrides), Path("out"), where=str(path), **options)


def refused(path: Path, *overrides: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        plan(path, *overrides, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.stem))
def test_shipped_tables_resolve_every_run_and_fit_a_screen(path: Path) -> None:
    planned = plan(path, teachers_there=False)  # tables of our own name networks that are not ours to ship
    assert len(path.read_text().splitlines()) <= 55
    assert len({recipe_hash(run.recipe) for run in planned.in_order()}) == len(planned.in_order())
    for row in planned.rows:
        for run in planned.runs[row.name]:
            assert isinstance(run.recipe, DistillRecipe) == bool(row.teachers), row.name


def test_hdl_has_all_eight_combinations_each_on_the_same_network() -> None:
    planned = plan(RECIPES / "ablation" / "hdl_levels.yaml", seeds=[4])
    shown = {}
    for row in planned.rows:
        recipe = planned.runs[row.name][0].recipe
        block = recipe.hierarchical if isinstance(recipe, DistillRecipe) else None
        shown[row.name] = (block.feature, block.attention, block.prediction) if block else (False, False, False)
        same = recipe.model_copy(update={"name": "x"})
        first = planned.runs["none"][0].recipe
        assert {key: getattr(same, key) for key in TrainRecipe.model_fields if key != "name"} == {
            key: getattr(first, key) for key in TrainRecipe.model_fields if key != "name"
        }
    assert len(set(shown.values())) == 8
    for name, levels in shown.items():
        parts = [part for part, on in zip(("fd", "ad", "pd"), levels, strict=True) if on]
        assert name == ("all" if all(levels) else "-".join(parts) or "none")
    teachers = {run.label for run in planned.in_order()} - {run[0].label for run in planned.runs.values()}
    assert teachers == {"hdl50-seed0"}, "one teacher, whatever the seed of its students"


def test_kd_controls_differ_from_their_students_in_knowledge_alone() -> None:
    planned = plan(RECIPES / "ablation" / "kd_table3.yaml", seeds=[0])
    for control, student in (("oim18", "det-1"), ("control-0.6", "det-0.6"), ("control-0.1", "det-0.1")):
        one, other = planned.runs[control][0].recipe, planned.runs[student][0].recipe
        for key in set(TrainRecipe.model_fields) - {"name"}:
            assert getattr(one, key) == getattr(other, key), (control, key)
    weak = planned.runs["reid-oim18"][0]
    assert weak.teachers == planned.runs["oim18"], "a row teaches another one"


def test_changes_scale_and_seeds_reach_the_runs(tmp_path: Path) -> None:
    path = table(tmp_path, scale={"data": {"root": "data"}, "every": {"epochs": 3}, "of": {"b": {"batch_images": 2}}})
    planned = plan(path, "scale.every.data.workers=0")
    control, taught = (planned.runs[name][1].recipe for name in ("none", "taught"))
    assert (control.epochs, control.batch_images, control.seed, control.data.workers) == (3, 2, 1, 0)
    assert (control.name, control.data.root) == ("tiny-none", "data")
    assert isinstance(taught, DistillRecipe)
    assert taught.hierarchical is not None
    assert taught.hierarchical.temperature == 2
    assert Path(taught.teacher) == Path("out/runs/big-seed0/checkpoint.pt")
    assert [run.label for run in planned.in_order()] == [
        "none-seed0", "big-seed0", "taught-seed0", "none-seed1", "taught-seed1",
    ]  # fmt: skip
    assert planned.in_order()[1].recipe.epochs == 9, "a run's own changes come last"


def test_a_table_extends_another_in_another_folder(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "small").mkdir()
    path = tmp_path / "small" / "small.yaml"
    path.write_text(yaml.safe_dump({"extends": "../table.yaml", "scale": {"every": {"epochs": 1}}}))
    assert plan(path).runs["none"][0].recipe.epochs == 1
    path.write_text(yaml.safe_dump({"extends": "small.yaml"}))
    assert "extends itself" in refused(path)


def test_a_group_with_a_kind_is_replaced_as_a_whole() -> None:
    base = {"model": {"trunk": {"kind": "resnet_c4", "depth": 50}, "attention": "full"}, "epochs": 1}
    assert merged(base, {"model": {"trunk": {"width": 8}}})["model"]["trunk"] == {
        "kind": "resnet_c4", "depth": 50, "width": 8,
    }  # fmt: skip
    changed = merged(base, {"model": {"trunk": {"kind": "depthwise"}}})
    assert changed == {"model": {"trunk": {"kind": "depthwise"}, "attention": "full"}, "epochs": 1}
    assert base["model"]["trunk"]["depth"] == 50, "the base is not changed"


def test_a_row_starts_from_the_weights_of_another_run(tmp_path: Path) -> None:
    rows = [
        {"name": "first", "base": "b"},
        {"name": "second", "base": "b", "starts_from": "first"},
        {"name": "third", **STUDENT, "starts_from": "second"},
    ]
    planned = plan(table(tmp_path, rows=rows), seeds=[5])
    second, third = (planned.runs[name][0] for name in ("second", "third"))
    assert not isinstance(second.recipe, DistillRecipe), "weights are no teacher"
    assert second.recipe.init_from == "out/runs/first-seed0/checkpoint.pt", "one start for all seeds"
    assert third.recipe.init_from == "out/runs/second-seed0/checkpoint.pt"
    assert [run.label for run in third.teachers] == ["big-seed0", "second-seed0"]
    order = [run.label for run in planned.in_order()]
    assert order.index("first-seed0") < order.index("second-seed0") < order.index("third-seed5")
    assert "teaches itself" in refused(table(tmp_path, rows=[{"name": "row", "base": "b", "starts_from": "row"}]))
    base = {**BASE, "init_from": "elsewhere.pt"}
    path = table(tmp_path, rows=[{"name": "row", "base": "b"}], teachers={})
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    assert "`init_from` is elsewhere.pt, of the base recipe" in refused(path)


def test_all_runs_of_a_base_start_from_one_run_unless_they_say_another(tmp_path: Path) -> None:
    rows = [{"name": "first", "base": "b"}, {"name": "second", "base": "b", "starts_from": "first"}]
    path = table(tmp_path, rows=rows, teachers={"begin": {"base": "c"}})
    content = yaml.safe_load(path.read_text())
    content["bases"]["c"] = content["bases"]["b"]
    content["scale"]["starts"] = {"b": "begin"}
    path.write_text(yaml.safe_dump(content))
    planned = plan(path, seeds=[5])
    first, second = (planned.runs[name][0] for name in ("first", "second"))
    assert first.recipe.init_from == "out/runs/begin-seed0/checkpoint.pt"
    assert second.recipe.init_from == "out/runs/first-seed0/checkpoint.pt"
    (begin,) = first.teachers
    assert begin.recipe.init_from is None, "another base starts from nothing"
    content["scale"]["starts"] = {"b": "begin", "c": "begin"}
    path.write_text(yaml.safe_dump(content))
    assert "teaches itself" in refused(path)
    content["scale"]["starts"] = {"d": "begin"}
    path.write_text(yaml.safe_dump(content))
    assert "scale.starts names `d`" in refused(path)


def test_qeeps_rows_start_from_oim_and_learn_from_its_table() -> None:
    for name, start in (("kd_table1", "oim50"), ("kd_table3", "oim18")):
        planned = plan(RECIPES / "ablation" / f"{name}.yaml", seeds=[0])
        rows = [row.name for row in planned.rows if row.name.startswith("qeeps")]
        assert len(rows) == 3
        for row in rows:
            run = planned.runs[row][0]
            assert run.recipe.model.kind == "qeeps"
            assert run.recipe.init_from == str(planned.runs[start][0].checkpoint)
            assert run.recipe.data.images_per_identity == 2
            block = run.recipe.lookup_table if isinstance(run.recipe, DistillRecipe) else None
            assert (block is None) == (row in ("qeeps50", "qeeps18"))
            assert block is None or block.lambda_oim == 0.1


def test_bad_tables_are_one_line_before_anything_trains(tmp_path: Path) -> None:
    path = table(tmp_path)
    assert "no row `fd`; expected one of none, taught" in refused(path, rows=["fd"])
    row: dict[str, Any] = {"name": "row", "base": "b"}
    for changes, message in (
        ({"rows": [{**row, "teachers": {"teacher": "huge"}}]}, "no teacher `huge`; expected one of big, row"),
        ({"rows": [{**row, "changes": {"model": {"attentoin": "none"}}}]}, "`row`: unknown key `model.attentoin`"),
        ({"rows": [{**row, "changes": {"hierarchical": {}}}]}, "unknown key `hierarchical`"),
        ({"rows": [{**row, "base": "c"}]}, "no base `c`"),
        ({"rows": [row, row]}, "`row` is there twice"),
        ({"rows": [{**row, "teachers": {"teacher": "row"}}]}, "`row`: teaches itself"),
        ({"rows": [{**row, "teachers": {"detection.teacher": "big"}}]}, "`teacher` is missing in `teachers`"),
        ({"rows": [{**row, "teachers": {"teacher": "big"}, "changes": {"hierarchical": NOTHING}}]}, "all off"),
        ({"rows": [{**row, **STUDENT, "changes": {"detection": {"teacher": "x.pt"}}}]}, "`detection.teacher` is x.pt"),
        ({"teachers": {"big": {"file": "gone.pt"}}}, "gone.pt: teacher of `taught` is missing"),
        ({"teachers": {"big": {"bsae": "b"}}}, "`teachers.big.base` is missing"),
        ({"bases": {"b": "gone.yaml"}}, "gone.yaml: cannot be read"),
        ({"scale": {}}, "one of data.root and generate"),
        ({"scale": {"data": {"root": "x"}, "of": {"c": {}}}}, "scale.of names `c`"),
    ):
        assert message in refused(table(tmp_path, **changes)), changes
    only = plan(table(tmp_path, teachers={"big": {"file": "gone.pt"}}), rows=["none"])
    assert [run.name for run in only.in_order()] == ["none", "none"], "what a row does not need may be missing"
    with pytest.raises(InputError, match="--seeds is `a,1`"):
        parse_seeds("a,1")
    assert parse_seeds("0, 2") == [0, 2]


NOTHING = {"feature": False, "attention": False, "prediction": False}


def spread(low: float, high: float) -> Spread:
    found = spread_of([low, high])
    assert found is not None
    return found


def test_order_of_rows_worked_by_hand() -> None:
    paper = {"a": 60.0, "b": 50.0, "c": 40.0, "d": 40.0}
    # a above b swapped with ranges apart; b above c swapped, ranges overlap; c and d are told apart by nobody.
    found = {"a": spread(30, 31), "b": spread(35, 40), "c": spread(36, 41), "d": spread(10, 11)}
    order = compare_order("search_map", paper, found)
    assert order is not None
    assert (order.pairs, {(swap.above, swap.below): swap.apart for swap in order.swaps}) == (
        5, {("a", "b"): True, ("a", "c"): True, ("b", "c"): False},
    )  # fmt: skip
    assert order.kendall_tau == pytest.approx((2 - 3) / 5)
    assert [(swap.above, swap.below) for swap in order.differs] == [("a", "b"), ("a", "c")]
    assert compare_order("search_map", paper, {"c": found["c"], "d": found["d"]}) is None
    single = spread_of([1.0])
    assert single is not None
    assert single.std is None
    alone = compare_order("search_map", paper, {"a": single, "b": spread(3, 4)})
    assert alone is not None
    assert not alone.differs, "one seed says nothing about the spread"
    assert spread_of([]) is None


@given(st.lists(st.floats(0, 100), min_size=2, max_size=7, unique=True))
def test_tau_is_one_for_the_papers_order_and_minus_one_for_its_reverse(values: list[float]) -> None:
    paper = {str(index): value for index, value in enumerate(values)}
    for sign in (1, -1):
        found = {name: Spread(mean=sign * value, std=None, low=0, high=0, seeds=1) for name, value in paper.items()}
        order = compare_order("x", paper, found)
        assert order is not None
        assert order.kendall_tau == sign


def test_what_is_said_about_the_order_of_rows() -> None:
    planned = plan(RECIPES / "ablation" / "hdl_levels.yaml", rows=["none", "fd", "ad"])
    empty = make_table(planned, {})

    def said(none: Spread, fd: Spread, ad: Spread) -> str:
        found = {"none": none, "fd": fd, "ad": ad}
        rows = tuple(row.model_copy(update={"figures": {"search_map": found[row.name]}}) for row in empty.rows)
        paper = {row.name: row.paper.search_map or 0.0 for row in rows}
        order = compare_order("search_map", paper, found)
        assert order is not None
        return remarks(empty.model_copy(update={"rows": rows, "orders": (order,)}))[-1]

    assert said(spread(1, 2), spread(5, 6), spread(3, 4)).endswith("tau 1.00 over 3 pairs, as in the paper")
    assert "no pair swapped, some equal" in said(spread(1, 2), spread(1, 2), spread(1, 2))
    text = said(spread(7, 8), spread(5, 6), spread(5.4, 6.4))
    assert (
        "DIFFERS from the paper in 2, ranges of the seeds apart: `FD` (5.5, paper 54.1) below `none` (7.5, 45.1)"
        in text
    )
    assert "; `AD` (5.9, paper 47.8) below `none` (7.5, 45.1); swapped" in text
    assert text.endswith("within the spread, or with one seed only: FD / AD")


def test_a_row_that_is_below_several_is_named_once() -> None:
    planned = plan(RECIPES / "ablation" / "hdl_levels.yaml", rows=["none", "fd", "ad"])
    empty = make_table(planned, {})
    found = {"none": spread(7, 8), "fd": spread(1, 2), "ad": spread(4, 5)}
    rows = tuple(row.model_copy(update={"figures": {"search_map": found[row.name]}}) for row in empty.rows)
    (order,) = orders_of(rows)
    assert remarks(empty.model_copy(update={"rows": rows, "orders": (order,)}))[-1].endswith(
        "DIFFERS from the paper in 3, ranges of the seeds apart: "
        "`FD` (1.5, paper 54.1) below `none` (7.5, 45.1), `AD` (4.5, 47.8); "
        "`AD` (4.5, paper 47.8) below `none` (7.5, 45.1)"
    )


def test_an_empty_table_has_the_papers_figures() -> None:
    planned = plan(RECIPES / "ablation" / "hdl_levels.yaml")
    text = markdown(make_table(planned, {}))
    assert "| FD + AD |  | 55.8 |  | 59.4 |" in text
    assert "Kendall" not in text
