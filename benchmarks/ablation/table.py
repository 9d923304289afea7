"""The table itself: figures over seeds beside the printed ones, for a terminal, as Markdown, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from personsearch.benchmarks.ablation.order import Order, Spread, compare_order, spread_of
from personsearch.benchmarks.ablation.recipe import PaperFigures
from personsearch.benchmarks.accuracy import AccuracyResult
from personsearch.benchmarks.reentry import ReentryResult
from personsearch.benchmarks.results import Result, make_result
from personsearch.core.recipe import StrictModel

if TYPE_CHECKING:  # these two import PyTorch
    from personsearch.benchmarks.ablation.plan import Plan, PlannedRun
    from personsearch.benchmarks.ablation.runs import RunFigures


def _searched(read: Callable[[AccuracyResult], float | None]) -> Callable[[RunFigures], float | None]:
    return lambda found: read(found.accuracy)


def _came_back(read: Callable[[ReentryResult], float | None]) -> Callable[[RunFigures], float | None]:
    return lambda found: None if found.reentry is None else read(found.reentry)


METRICS: Mapping[str, tuple[str, Callable[[RunFigures], float | None]]] = {
    "search_map": ("search mAP", _searched(lambda of: of.search.mean_ap if of.search else None)),
    "search_top1": ("top-1", _searched(lambda of: of.search.top[1] if of.search else None)),
    "detection_ap": ("detection AP", _searched(lambda of: of.detection.average_precision if of.detection else None)),
    "detection_recall": ("recall", _searched(lambda of: of.detection.recall if of.detection else None)),
    "true_boxes_map": ("true-box mAP", _searched(lambda of: of.true_boxes.mean_ap if of.true_boxes else None)),
    "true_boxes_top1": ("true-box top-1", _searched(lambda of: of.true_boxes.top[1] if of.true_boxes else None)),
    "reentry_rank1": ("re-entry rank-1", _came_back(lambda of: of.rank_1)),
    "reentry_map": ("re-entry mAP", _came_back(lambda of: of.mean_ap)),
    "reentry_recall": ("re-entry recall", _came_back(lambda of: of.detection_recall)),
    "reentry_precision": ("re-entry precision", _came_back(lambda of: of.detection_precision)),
}
_PRINTED = tuple(PaperFigures.model_fields)


class TableRow(StrictModel):
    """One row: its figures in percent, over the seeds that are finished."""

    name: str
    title: str
    paper: PaperFigures
    figures: dict[str, Spread]
    runs: dict[int, str] = Field(description="seed to SHA-256 of the finished checkpoint")
    scene_gflops: float | None = Field(description="once a frame; none before the first run is finished")
    person_mflops: float | None = Field(description="for each person")
    frame_gflops: float | None = Field(description="with K people")
    persons: int | None = Field(description="K")
    recipe: str = Field(
        default="",
        description="resolved recipe of the first seed, as YAML; an absolute path is relative to the table's folder or "
        "its last part alone; empty in records that are older than this field",
    )


class Table(StrictModel):
    """What a table says so far."""

    name: str
    title: str
    source: str
    dataset: str = Field(description="name, split and protocol; empty before the first run is finished")
    chance_map: float | None = Field(description="search mAP of random similarities, percent, of the first run")
    reentry: str = Field(default="", description="the sequence of the re-entry figures, and chance; empty for none")
    seeds: tuple[int, ...] = Field(description="of the recipe and those asked for beside them")
    rows: tuple[TableRow, ...]
    orders: tuple[Order, ...]


def make_table(plan: Plan, figures: Mapping[str, RunFigures]) -> Table:
    """The table of the runs that have figures, by their label."""
    rows = []
    for row in plan.rows:
        found = {
            seed: figures[run.label]
            for seed, run in zip(plan.seeds, plan.runs[row.name], strict=True)
            if run.label in figures
        }
        spreads = {}
        for metric, (_, read) in METRICS.items():
            values = [100 * value for one in found.values() if (value := read(one)) is not None]
            if (spread := spread_of(values)) is not None:
                spreads[metric] = spread
        flops = next((one.flops for one in found.values()), None)
        rows.append(
            TableRow(
                name=row.name,
                title=row.shown,
                paper=row.paper,
                figures=spreads,
                runs={seed: one.accuracy.sha256 for seed, one in found.items()},
                scene_gflops=None if flops is None else 2 * flops.scene_macs / 1e9,
                person_mflops=None if flops is None else 2 * flops.person_macs / 1e6,
                frame_gflops=None if flops is None else 2 * flops.total_macs / 1e9,
                persons=None if flops is None else flops.persons,
                recipe=_resolved(plan.runs[row.name][0]),
            )
        )
    # A plain detector is measured without the queries.
    found_first = sorted(figures.values(), key=lambda one: one.accuracy.search is None)
    first = found_first[0].accuracy if found_first else None
    return Table(
        name=plan.recipe.name,
        title=plan.recipe.title,
        source=plan.recipe.source,
        dataset="" if first is None else _measured_on(first),
        chance_map=None if first is None or first.search is None else 100 * first.search.chance_mean_ap,
        reentry=next((_sequence(one.reentry) for one in figures.values() if one.reentry is not None), ""),
        seeds=plan.seeds,
        rows=tuple(rows),
        orders=orders_of(rows),
    )


def terminal_table(table: Table) -> RichTable:
    """For a console of 140 characters or more."""
    shown = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("row", no_wrap=True)
    printed, metrics = _printed(table), _measured(table)
    for metric in metrics:
        shown.add_column(METRICS[metric][0], justify="right")
        if metric in printed:
            shown.add_column("paper", justify="right", style="dim")
    for title in ("scene GFLOP", "person MFLOP", "frame GFLOP", "seeds"):
        shown.add_column(title, justify="right")
    for row in table.rows:
        shown.add_row(*map(Text, _cells(row, metrics, printed, "\n")))
    return shown


def remarks(table: Table, *, brief: bool = False) -> list[str]:
    """What has to be said under the table: data, spread, FLOPs, and the order of the rows beside the paper's.

    Args:
        table: with rows of figures, or without.
        brief: swapped pairs that are no evidence are counted, not named.
    """
    lines = [f"paper: {table.source}"]
    if table.dataset:
        chance = "" if table.chance_map is None else f"; chance: search mAP {table.chance_map:.1f}"
        lines.append(f"measured on {table.dataset}{chance}")
    if table.reentry:
        lines.append(f"re-entry: {table.reentry}; recall and precision at IoU 0.5 and the recipe's score threshold")
    lines.append(
        "percent; mean ± standard deviation over seeds, lowest..highest; teachers are trained once, so that the spread "
        "is the students' alone; 1 MAC = 2 FLOPs, frame with K = "
        + (", ".join(sorted({str(row.persons) for row in table.rows if row.persons is not None})) or "?")
        + " people"
    )
    lines += [_order_text(order, table, brief) for order in table.orders]
    return lines


def titles_and_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Titles of the columns, and as many cells for each row; those without a figure are empty."""
    printed, metrics = _printed(table), _measured(table)
    titles = ["row"]
    for metric in metrics:
        titles += [METRICS[metric][0], *(["paper"] if metric in printed else [])]
    titles += ["scene GFLOP", "person MFLOP", "frame GFLOP", "seeds"]
    return titles, [_cells(row, metrics, printed, " ") for row in table.rows]


def markdown(table: Table) -> str:
    """The table with its remarks."""
    titles, rows = titles_and_cells(table)
    lines = [f"# {table.title}", "", f"| {' | '.join(titles)} |", f"|{'|'.join('---' for _ in titles)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in remarks(table))]) + "\n"


def records(table: Table, arguments: Sequence[str]) -> list[Result]:
    """A record for each row that has figures."""
    made = []
    for row in table.rows:
        figures: dict[str, tuple[float, str]] = {}
        for metric, spread in row.figures.items():
            figures[metric] = (spread.mean, "percent")
            figures |= {f"{metric}_low": (spread.low, "percent"), f"{metric}_high": (spread.high, "percent")}
            if spread.std is not None:
                figures[f"{metric}_std"] = (spread.std, "percent")
        if not figures or row.scene_gflops is None or row.person_mflops is None or row.frame_gflops is None:
            continue
        if table.chance_map is not None and "search_map" in row.figures:
            figures["chance_map"] = (table.chance_map, "percent")
        figures |= {f"paper_{name}": (value, "percent") for name, value in _paper(row).items()}
        figures["scene"] = (row.scene_gflops, "GFLOP")
        figures["person"] = (row.person_mflops, "MFLOP")
        figures["frame"] = (row.frame_gflops, "GFLOP")
        hashes = list(row.runs.values())
        settings = {
            "table": table.title,
            "row": row.title,
            "paper": table.source,
            "dataset": table.dataset,
            "seeds": ", ".join(map(str, row.runs)),
            "checkpoints": ", ".join(hashes),
            "persons": str(row.persons),
        }
        if row.recipe:
            settings["recipe"] = row.recipe
        if table.reentry and "reentry_rank1" in row.figures:
            settings["reentry"] = table.reentry
        one = hashes[0] if len(hashes) == 1 else ""
        subject = f"{table.name}-{row.name}"
        made.append(make_result("ablation", subject, figures, sha256=one, settings=settings, arguments=arguments))
    return made


def orders_of(rows: Sequence[TableRow]) -> tuple[Order, ...]:
    """The order of the rows by every figure that the paper prints, and tells rows apart by."""
    found = []
    for metric in _PRINTED:
        paper = {row.name: _paper(row)[metric] for row in rows if metric in _paper(row)}
        measured = {row.name: row.figures[metric] for row in rows if metric in row.figures}
        if (order := compare_order(metric, paper, measured)) is not None:
            found.append(order)
    return tuple(found)


def _cells(row: TableRow, metrics: Sequence[str], printed: Sequence[str], between: str) -> list[str]:
    cells = [row.title]
    paper = _paper(row)
    for metric in metrics:
        spread = row.figures.get(metric)
        cells.append("" if spread is None else _spread_text(spread, between))
        if metric in printed:
            cells.append(f"{paper[metric]:.1f}" if metric in paper else "")
    numbers = (row.scene_gflops, row.person_mflops, row.frame_gflops)
    cells += ["" if number is None else f"{number:.4g}" for number in numbers]
    return [*cells, str(len(row.runs))]


def _spread_text(spread: Spread, between: str) -> str:
    if spread.std is None:
        return f"{spread.mean:.1f}"
    return f"{spread.mean:.1f} ± {spread.std:.1f}{between}({spread.low:.1f}..{spread.high:.1f})"


def _order_text(order: Order, table: Table, brief: bool) -> str:
    rows = {row.name: row for row in table.rows}
    text = f"order by {METRICS[order.metric][0]}: Kendall tau {order.kendall_tau:.2f} over {order.pairs} pairs"
    if not order.swaps:
        return f"{text}, as in the paper" if order.kendall_tau == 1 else f"{text}, no pair swapped, some equal"
    if order.differs:
        text += f"; DIFFERS from the paper in {len(order.differs)}, ranges of the seeds apart: "
        # By the row that the paper has above: it may be below many.
        above = dict.fromkeys(swap.above for swap in order.differs)
        text += "; ".join(
            f"{_here_and_printed(rows[name], order.metric, ', paper ')} below "
            + ", ".join(
                _here_and_printed(rows[swap.below], order.metric, ", ") for swap in order.differs if swap.above == name
            )
            for name in above
        )
    rest = [f"{rows[swap.above].title} / {rows[swap.below].title}" for swap in order.swaps if not swap.apart]
    if rest:
        text += f"; swapped within the spread, or with one seed only: {len(rest) if brief else '; '.join(rest)}"
    return text


def _here_and_printed(row: TableRow, metric: str, between: str) -> str:
    return f"`{row.title}` ({row.figures[metric].mean:.1f}{between}{_paper(row)[metric]:.1f})"


def _paper(row: TableRow) -> dict[str, float]:
    return {name: value for name, value in row.paper.model_dump().items() if value is not None}


def _printed(table: Table) -> list[str]:
    return [metric for metric in _PRINTED if any(metric in _paper(row) for row in table.rows)]


def _measured(table: Table) -> list[str]:
    printed = _printed(table)
    return [name for name in METRICS if name in printed or any(name in row.figures for row in table.rows)]


def _resolved(run: PlannedRun) -> str:
    """The recipe of a run without telling where on a disk its table lies."""
    out = run.folder.parent.parent

    def placeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placeless(one) for key, one in value.items()}
        if isinstance(value, list):
            return [placeless(one) for one in value]
        if not isinstance(value, str) or not Path(value).is_absolute():
            return value
        path = Path(value)
        return path.relative_to(out).as_posix() if path.is_relative_to(out) else path.name

    return yaml.safe_dump(placeless(run.recipe.model_dump(mode="json")), sort_keys=False)


def _sequence(walk: ReentryResult) -> str:
    chance = f"chance: rank-1 {100 * walk.chance_rank_1:.1f}, mAP {100 * walk.chance_mean_ap:.1f}"
    return f"{walk.sequence}, {walk.frames} frames, {walk.queries} true boxes as queries; {chance}"


def _measured_on(accuracy: AccuracyResult) -> str:
    return f"{accuracy.dataset}, split {accuracy.split}, protocol {accuracy.protocol}, {accuracy.queries} queries"
