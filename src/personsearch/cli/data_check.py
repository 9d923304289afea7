"""``personsearch data check``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.core.progress import StageProgress

if TYPE_CHECKING:
    from personsearch.data.checking import DatasetReport, SplitCheck

_LOG_COLUMNS = 140
_ROWS_OF_A_KIND = 20
_COLUMNS: dict[str, dict[str, Any]] = {
    "": {"width": 2},
    "split": {},
    "what": {"overflow": "fold", "ratio": 3},
    "found": {"justify": "right"},
    "expected": {"justify": "right"},
    "what to do": {"overflow": "fold", "ratio": 2},
}
_WELL, _AMISS, _NOTE, _PLAIN = "ok", "!!", "--", ""


def check(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Data set: folder, .json, .yaml or .zip.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every image, compare it with its labels and look for copies.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Count and list images that cannot be read; else the first ends --deep.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
) -> None:
    """Say in one table what of a data set is there, what is missing or wrong, and what to do about it.

    Example: personsearch data check data/prw --deep --skip-bad

    Marks: `ok` as it should be, `!!` missing or wrong, `--` good to know. Exit code: 0 when all is well, 1 when
    something is missing or wrong, 2 when there is no data set.
    """
    from personsearch.data.checking import check_dataset

    with _bar(deep) as progress:
        report = check_dataset(root, deep=deep, skip_bad=skip_bad, progress=progress)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else describe(report))
    if not report.ok:
        raise typer.Exit(1)


@contextmanager
def _bar(deep: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar that appears with the first image read."""
    opened: list[StageProgress] = []

    def progress(done: int, total: int) -> None:
        if not opened:
            opened.append(StageProgress("reading images", total))
            opened[0].__enter__()
        opened[0].advance_to(done)

    try:
        yield progress if deep else None
    finally:
        if opened:
            opened[0].__exit__(None, None, None)


def describe(report: DatasetReport, columns: int | None = None) -> str:
    """The report for people: one table and a closing line.

    Args:
        report: to be told.
        columns: characters a line; none for the terminal's width.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        expand=True,
        title=Text(f"{report.path}: {report.format}"),
        title_justify="left",
        pad_edge=False,
    )
    for name, options in _COLUMNS.items():
        table.add_column(name, **options)
    before = None
    for mark, split, *cells in _rows(report):
        if before is not None and split != before:
            table.add_section()
        before = split
        style = {_AMISS: "bold red", _WELL: "green"}.get(mark, "")
        table.add_row(Text(mark, style=style), Text(split), *map(Text, cells))
    if columns is None:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _LOG_COLUMNS
    console = Console(width=max(columns, 60), highlight=False, markup=False, force_terminal=sys.stdout.isatty())
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().rstrip().splitlines()]
    return "\n".join([*lines, "", *_closing(report)])


def _rows(report: DatasetReport) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Mark, split, what, found, expected, what to do: the files, then split by split its counts and findings."""
    for file in report.files:
        wanted, optional = file.expected, "optional, " if file.expected.optional else ""
        if file.ok:
            there = "there" if wanted.count == 1 else f"{file.found:,}"
            expected = "" if wanted.count == 1 else f"{wanted.count:,}"
            yield _WELL, "", f"{wanted.path}: {wanted.what}", there, expected, ""
        else:
            mark = _NOTE if wanted.optional else _AMISS
            found = "missing" if not file.found else f"{file.found:,}"
            expected = "" if wanted.count == 1 else f"{wanted.count:,}"
            yield mark, "", f"{wanted.path}: {wanted.what}", found, expected, f"{optional}{wanted.remedy}"
    yield from _noticed("", report)
    for one in report.splits:
        yield from _counts(one)
        yield from _noticed(one.name, report)


def _counts(split: SplitCheck) -> Iterator[tuple[str, str, str, str, str, str]]:
    from personsearch.data.checking import IMAGE_FILES, MISCOUNT_REMEDY

    if not split.counts:
        yield _AMISS, split.name, "cannot be opened", "", "", "see the other rows"
    for count in split.counts:
        expected = "" if count.expected is None else f"{count.expected:,}"
        mark = _AMISS if not count.ok else _WELL if expected else _PLAIN
        note = "" if count.ok or count.name == IMAGE_FILES else MISCOUNT_REMEDY
        if split.looked_at < split.frames and count.name not in ("images", "identities"):
            note = f"in the {split.looked_at:,} frames looked at"
        yield mark, split.name, count.name, f"{count.found:,}", expected, note


def _noticed(split: str, report: DatasetReport) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Findings of a split; of many alike the first ones and how many more."""
    amiss = {id(problem) for _, problem in report.problems}
    shown: dict[tuple[str, str], int] = {}
    left: dict[tuple[str, str], int] = {}
    problems = [problem for name, problem in report.noticed if name == split]
    for problem in sorted(problems, key=lambda problem: id(problem) not in amiss):
        alike = (problem.kind, problem.remedy)
        shown[alike] = shown.get(alike, 0) + 1
        if shown[alike] > _ROWS_OF_A_KIND:
            left[alike] = left.get(alike, 0) + 1
            continue
        file = "./" if problem.file == "." else problem.file
        what = f"{file}: {problem.what}" if file else problem.what
        yield _AMISS if id(problem) in amiss else _NOTE, split, what, f"{problem.count:,}", "", problem.remedy
    for (kind, remedy), count in left.items():
        yield (
            _AMISS if kind != "noted" else _NOTE,
            split,
            f"and {count:,} more like these",
            "",
            "",
            f"{remedy} (--json)",
        )


def _closing(report: DatasetReport) -> Iterator[str]:
    from collections import Counter

    if report.deep:
        read = f"{report.images_read:,} images read, {report.unreadable:,} of them bad"
        yield f"{read}; stopped at the first bad one, --skip-bad goes on and lists all" if report.stopped else read
    else:
        yield "Images were not read: --deep decodes each."
    kinds = Counter(problem.kind for _, problem in report.problems)
    amiss = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    yield "All is well." if report.ok else f"Not well: {amiss}."
