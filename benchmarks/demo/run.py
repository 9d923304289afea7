"""The order of the stages, and the folder they write."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from personsearch.benchmarks.demo import stages, story
from personsearch.benchmarks.demo.checks import judge
from personsearch.benchmarks.demo.ranking import rank_people
from personsearch.benchmarks.demo.settings import DemoFolders, DemoSettings
from personsearch.benchmarks.report import Check, Report, Row, StageTime, render_page
from personsearch.benchmarks.report.table import UNITS, terminal_tables
from personsearch.benchmarks.results import make_result, write_result
from personsearch.benchmarks.systems import open_system
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file, write_json
from personsearch.data import open_dataset

FORMAT = "personsearch-demo/1"
MARKER = "demo.json"
STAGES = (
    "generate the data and the video",
    "train the teacher, the control beside it",
    "distil the student",
    "export the engines",
    "evaluate on held-out people",
    "search the video",
    "write the report",
)


@dataclass(frozen=True)
class DemoOutcome:
    """What a demo ended with.

    Attributes:
        rows: the table.
        checks: what the figures show; `passed` when all hold.
        report: ``report.html``.
        figures: ``figures.json``: accuracy figures without timings, equal for equal seeds.
        seconds: wall time of all stages.
    """

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    report: Path
    figures: Path
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def show(self, console: Console) -> None:
        """Prints table, checks and where the report lies."""
        for table in terminal_tables(self.rows, "On held-out identities and cameras", console.width):
            console.print(table)
        for check in self.checks:
            word, colour = ("passed", "green") if check.passed else ("FAILED", "bold red")
            console.print(f"[{colour}]{word}[/]  {check.claim}: {check.measured}", highlight=False, soft_wrap=True)
        minutes, seconds = divmod(round(self.seconds), 60)
        console.print(f"\n{minutes} min {seconds} s; report: {self.report}", highlight=False, soft_wrap=True)


def run_demo(settings: DemoSettings, out: Path) -> DemoOutcome:
    """Runs the seven stages in ``out``; an earlier demo there is replaced.

    Raises:
        InputError: ``out`` is something else than a demo's folder.
        TrainingDiverged: a training run left the finite numbers.
    """
    folders = open_folders(out)
    clock = _Clock()
    with clock.stage(1):
        stages.make_data(settings, folders)
    with stages.control_beside(settings, folders) as control:
        with clock.stage(2):
            stages.train_teacher(settings, folders)
        with clock.stage(3):
            stages.distil_student(settings, folders, control)
    with clock.stage(4):
        engines = stages.export_engines(settings, folders)
    with clock.stage(5):
        measured = stages.measure(settings, folders)
    with clock.stage(6):
        stream = stages.search_video(settings, folders)
    with clock.stage(7):
        parity = {name: manifest.parity for name, manifest in engines.manifests.items()}
        checks = judge(measured.accuracy, parity, stream.scores)
        write_json(folders.figures, figures(settings, engines, measured, stream, checks))
        report = tell(settings, folders, engines, measured, stream, checks)
    record_rows(report.rows, settings, folders.root / "results")
    # The page states the time of its own making too, but for these last milliseconds.
    with atomic_file(folders.report) as part:
        part.write_text(render_page(replace(report, stages=tuple(clock.times))), encoding="utf-8")
    _mark(folders.root, complete=True)
    seconds = sum(entry.seconds for entry in clock.times)
    return DemoOutcome(report.rows, checks, folders.report, folders.figures, seconds)


def open_folders(out: Path) -> DemoFolders:
    """An empty demo folder at ``out``; what an earlier demo left there is removed.

    Raises:
        InputError: ``out`` is a file, the working folder, cannot be written, or holds something no demo wrote.
    """
    root = out.expanduser()
    place = root.resolve()
    if place in (Path.cwd(), *Path.cwd().parents):
        raise InputError("is the folder you are in, or above it", where=str(out), remedy="name a folder of its own")
    try:
        if place.exists():
            _clear(place, out)
        place.mkdir(parents=True, exist_ok=True)
        _mark(place, complete=False)
    except OSError as error:
        raise InputError("cannot be written", where=str(out), remedy=error.strerror or "choose another --out") from None
    return DemoFolders(root)


def _clear(place: Path, out: Path) -> None:
    if not place.is_dir():
        raise InputError("is a file", where=str(out), expected="a folder to write", remedy="choose another --out")
    if not any(place.iterdir()):
        return
    if not _is_demo(place):
        raise InputError(
            "holds other files, which would be lost",
            where=str(out),
            expected="a new or empty folder, or one of an earlier demo",
            remedy="choose another --out",
        )
    # Renamed first: a removal that is interrupted must not leave half of an old demo under this name.
    old = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.old")
    place.rename(old)
    shutil.rmtree(old)


def figures(
    settings: DemoSettings,
    engines: stages.ExportOutcome,
    measured: stages.Measured,
    stream: stages.StreamOutcome,
    checks: tuple[Check, ...],
) -> dict[str, Any]:
    """Every accuracy figure, no timing and no hash of a file that holds a date: equal for equal seeds."""
    return {
        "seed": settings.seed,
        "accuracy": {
            name: result.model_dump(mode="json", exclude={"sha256"}) for name, result in measured.accuracy.items()
        },
        "operations": {name: result.model_dump(mode="json") for name, result in measured.flops.items()},
        "match_threshold": {name: one.model_dump(mode="json") for name, one in engines.calibrations.items()},
        "parity": {name: manifest.parity for name, manifest in engines.manifests.items()},
        "stream": asdict(stream.scores),
        "checks": [check.as_dict() for check in checks],
    }


def tell(
    settings: DemoSettings,
    folders: DemoFolders,
    engines: stages.ExportOutcome,
    measured: stages.Measured,
    stream: stages.StreamOutcome,
    checks: tuple[Check, ...],
) -> Report:
    """The report, without the stages' times."""
    artifact = stages.system_paths(folders)[stages.STREAM_ENGINE]
    rankings = rank_people(open_system(artifact), open_dataset(folders.data, "test"), queries=settings.rankings)
    return Report(
        title="Person search: from a teacher to a stream",
        summary=story.summary(measured, stream),
        rows=story.table_rows(measured, engines),
        table_notes=story.table_notes(measured, engines),
        checks=checks,
        charts=story.loss_charts(folders),
        rankings=rankings,
        ranking_note=(
            f"Evenly spaced test queries of different people, whatever the outcome, with the {stages.STREAM_ENGINE} "
            "engine's best detections in the frames searched, and their cosine with the query."
        ),
        stream_note=story.stream_note(stream),
        stream_charts=story.stream_charts(stream, settings.in_view_px),
        frames=story.stream_pictures(stream, folders, settings),
        stages=(),
        facts=story.facts(settings),
    )


def record_rows(rows: Sequence[Row], settings: DemoSettings, folder: Path) -> None:
    """Every row of the table as a record, in the form kept under ``benchmarks/results``."""
    facts = {
        "seed": str(settings.seed),
        "test people": str(settings.data.test_identities),
        "test frames": str(settings.data.test_frames),
    }
    for row in rows:
        figures = {name: (value, UNITS[name]) for name, value in row.figures.items()}
        subject = row.name.lower().replace(" ", "-")
        write_result(make_result("demo", subject, figures, settings=facts, arguments=sys.argv[1:]), folder)


class _Clock:
    """Announces each stage and keeps its wall time."""

    def __init__(self) -> None:
        self.times: list[StageTime] = []
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        title = STAGES[number - 1]
        self._console.print(f"[bold]stage {number}/{len(STAGES)}: {title}[/]", highlight=False)
        started = time.monotonic()
        yield
        self.times.append(StageTime(f"{number}  {title}", time.monotonic() - started))


def _is_demo(root: Path) -> bool:
    try:
        content = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _mark(root: Path, *, complete: bool) -> None:
    write_json(root / MARKER, {"format": FORMAT, "complete": complete})
