"""Tables of runs made again from their records, in the order of the recipe's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from personsearch.benchmarks.ablation.order import Spread
from personsearch.benchmarks.ablation.recipe import AblationRecipe, PaperFigures, load_ablation
from personsearch.benchmarks.ablation.table import METRICS, Table, TableRow, orders_of, remarks, titles_and_cells
from personsearch.benchmarks.record_tables import MISSING, RecordTable
from personsearch.benchmarks.results import Result

KIND = "ablation"


def ablation_tables(results: Sequence[Result]) -> list[tuple[str, RecordTable]]:
    """Title and cells of every table that has records, by the first record of each.

    Rows stand in the order of the shipped recipe whose name and row the subject is, those of other recipes by subject.
    Rows without a record are named under the table. Rows measured on other data are a table of their own.
    """
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.kind == KIND:
            recipe = _shipped().get(result.subject)
            about = result.settings["table"], result.settings["dataset"]
            groups.setdefault(("" if recipe is None else recipe.name, *about), []).append(result)
    return [(title, _record_table(records)) for (_, title, _), records in groups.items()]


def recorded_table(records: Sequence[Result]) -> Table:
    """The table that records of one recipe, measured on the same data, are the rows of; figures are percent."""
    first, recipe = records[0], _shipped().get(records[0].subject)
    places = {subject: place for place, subject in enumerate(() if recipe is None else _subjects(recipe))}
    ordered = sorted(records, key=lambda one: (places.get(one.subject, len(places)), one.subject))
    rows = [_row(record) for record in ordered]
    return Table(
        name="" if recipe is None else recipe.name,
        title=first.settings["table"],
        source=first.settings["paper"],
        dataset=first.settings["dataset"],
        # Records older than this figure do not have it; a plain detector's never do.
        chance_map=next((chance for one in ordered if (chance := _value(one, "chance_map")) is not None), None),
        reentry=next((text for one in ordered if (text := one.settings.get("reentry", ""))), ""),
        seeds=tuple(sorted({seed for row in rows for seed in row.runs})),
        rows=tuple(rows),
        orders=orders_of(rows),
    )


def _record_table(records: Sequence[Result]) -> RecordTable:
    table = recorded_table(records)
    titles, rows = titles_and_cells(table)
    notes = remarks(table, brief=True)
    recipe, recorded = _shipped().get(records[0].subject), {record.subject for record in records}
    if recipe is not None:
        pairs = zip(_subjects(recipe), recipe.rows, strict=True)
        missing = [row.shown for subject, row in pairs if subject not in recorded]
        notes += [f"rows without a record: {'; '.join(missing)}"] if missing else []
    cells = [[cell or MISSING for cell in row] for row in rows]
    return RecordTable(titles, cells, notes, list(dict.fromkeys(record.command for record in records)))


def _row(record: Result) -> TableRow:
    settings = record.settings
    runs = zip(settings["seeds"].split(", "), settings["checkpoints"].split(", "), strict=True)
    seeds = {int(seed): sha256 for seed, sha256 in runs}
    return TableRow(
        name=record.subject,
        title=settings["row"],
        paper=PaperFigures(**{name: _value(record, f"paper_{name}") for name in PaperFigures.model_fields}),
        figures=dict(_spreads(record, len(seeds))),
        runs=seeds,
        scene_gflops=_value(record, "scene"),
        person_mflops=_value(record, "person"),
        frame_gflops=_value(record, "frame"),
        persons=int(settings["persons"]),
        recipe=settings.get("recipe", ""),
    )


def _spreads(record: Result, seeds: int) -> Iterator[tuple[str, Spread]]:
    for metric in METRICS:
        mean, low, high = (_value(record, f"{metric}{ending}") for ending in ("", "_low", "_high"))
        if mean is not None and low is not None and high is not None:
            yield metric, Spread(mean=mean, std=_value(record, f"{metric}_std"), low=low, high=high, seeds=seeds)


def _value(record: Result, name: str) -> float | None:
    figure = record.figures.get(name)
    return None if figure is None else figure.value


def _subjects(recipe: AblationRecipe) -> list[str]:
    return [f"{recipe.name}-{row.name}" for row in recipe.rows]


@cache
def _shipped() -> dict[str, AblationRecipe]:
    """The shipped recipe of every subject; names hold hyphens, so that a subject alone does not tell where one ends."""
    found: dict[str, AblationRecipe] = {}
    for path in sorted(Path(str(files("personsearch.recipes"))).glob("ablation/*.yaml")):
        recipe = load_ablation(path)
        found |= dict.fromkeys(_subjects(recipe), recipe)
    return found
