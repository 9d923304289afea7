"""Tables made from records, as titles and rows: for the README, the documentation and the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from personsearch.benchmarks.results import Result

MISSING = "–"


@dataclass(frozen=True)
class RecordTable:
    """Cells and what is said under them.

    Attributes:
        titles: of the columns; the first one's rows are names.
        rows: as many cells each.
        notes: sentences under the table.
        commands: that made it.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    commands: Sequence[str] = field(default=())


def flops_table(results: Sequence[Result]) -> RecordTable | None:
    """Every network of a paper, counted, beside what is printed; none without such records."""
    records = [result for result in results if result.kind == "flops" and "row" in result.settings]
    if not records:
        return None
    titles = (
        "", "input", "scene GMAC", "GFLOP", "K", "person MMAC", "MFLOP", "weights M", "peak MB", "moved MB",
        "printed scene G / person M", "printed / MAC", "note",
    )  # fmt: skip
    rows, notes = [], dict[str, int]()
    for result in sorted(records, key=lambda one: one.settings["row"]):
        scene, person = (result.figures[name].value for name in ("scene", "person"))
        printed = [result.figures.get(name) for name in ("paper_scene", "paper_person")]
        ratios = [
            f"{one.value / counted:.2f}"
            for one, counted in zip(printed, (scene, person), strict=True)
            if one is not None
        ]
        note = result.settings["note"]
        rows.append(
            (
                result.subject, result.settings["input"], f"{scene / 1e9:.2f}", f"{2 * scene / 1e9:.2f}",
                result.settings["persons"], f"{person / 1e6:.2f}", f"{2 * person / 1e6:.2f}",
                f"{result.figures['parameters'].value / 1e6:.2f}", f"{_largest(result, '_peak') / 1e6:.1f}",
                f"{_sum(result, '_traffic') / 1e6:.0f}",
                " / ".join(
                    MISSING if one is None else f"{one.value / scale:g}"
                    for one, scale in zip(printed, (1e9, 1e6), strict=True)
                ),
                ", ".join(ratios) or MISSING,
                str(notes.setdefault(note, len(notes) + 1)) if note else "",
            )
        )  # fmt: skip
    said = [f"{number}: {note}" for note, number in notes.items()]
    return RecordTable(titles, rows, [f"{records[0].settings['convention']}", *said], [records[0].command])


def peers_table(results: Sequence[Result]) -> RecordTable | None:
    """The newest run of `bench peers`; its targets are the notes; none without one."""
    from personsearch.benchmarks.peers_record import record_table, record_targets

    records = sorted((result for result in results if result.kind == "peers"), key=lambda one: one.created)
    if not records:
        return None
    record = records[-1]
    titles, rows = record_table(record)
    about = f"{record.settings['size']}, {record.settings['threads']} threads, {record.machine.cpu}, " + (
        f"{record.machine.cores} cores; {record.settings['boxes']}"
    )
    return RecordTable(titles, rows, [about, *record_targets(record)], [record.command])


def pareto_tables(results: Sequence[Result]) -> dict[str, RecordTable]:
    """Accuracy and cost of everything, by data set."""
    from personsearch.benchmarks.pareto import pareto_points, pareto_rows, pareto_titles

    return {
        data: RecordTable(
            pareto_titles(),
            pareto_rows(points),
            (),
            list(dict.fromkeys(command for point in points for command in point.commands)),
        )
        for data, points in pareto_points(results).items()
    }


def latency_table(results: Sequence[Result]) -> RecordTable | None:
    """Single frames, batches, streams and offline passes; none without such records."""
    kinds = {"latency": "frame", "multi": "frame", "offline": "frame", "stream": "published"}
    rows, commands = [], []
    for result in results:
        scope = kinds.get(result.kind, "")
        if f"{scope}_p50_ms" not in result.figures:
            continue
        settings = result.settings
        times = [_value(result, f"{scope}_{share}_ms", 2) for share in ("p50", "p90", "p99")]
        rows.append(
            [
                result.subject, settings.get("runner", ""), settings.get("scenario", "single"),
                settings.get("batch", "1"), settings.get("size", ""), *times, _value(result, "frames_per_s", 1),
                _value(result, "host_share", 1, 100),
            ]
        )  # fmt: skip
        commands.append(result.command)
    if not rows:
        return None
    titles = ["", "run by", "scenario", "batch", "frames", "p50 ms", "p90 ms", "p99 ms", "frames/s", "around it %"]
    note = "around it: pre-, post-processing and matching in a frame's time"
    return RecordTable(titles, rows, [note], list(dict.fromkeys(commands)))


def roofline_table(results: Sequence[Result]) -> RecordTable | None:
    """Each timed system under the roof that its run measured; none without such records."""
    from personsearch.benchmarks.roofline import recorded_points

    points = recorded_points(results)
    if not points:
        return None
    rows = [
        [
            point.system, point.library, point.work.precision, f"{point.work.flops / 1e9:.2f}",
            f"{point.work.traffic_bytes / 1e6:.1f}", f"{point.graph_ms:.2f}", f"{point.flops_per_s / 1e9:.1f}",
            f"{100 * point.share_of_peak:.0f}", f"{100 * point.share_of_bandwidth:.0f}", point.bound,
        ]
        for point in points
    ]  # fmt: skip
    titles = [
        "", "library", "products", "GFLOP", "MB moved", "network ms", "GFLOP/s", "of the peak %", "of the bandwidth %",
        "nearer roof",
    ]  # fmt: skip
    return RecordTable(titles, rows, ["peak and bandwidth are the machine's own, measured in the same run"])


def gallery_table(results: Sequence[Result]) -> RecordTable | None:
    """Time to find the nearest of a number of embeddings, by searcher; none without such records."""
    records = [result for result in results if result.kind == "gallery"]
    sizes = sorted({int(name.partition("_")[0]) for result in records for name in result.figures})
    if not records:
        return None
    rows = [
        [
            result.subject,
            *(_value(result, f"{size}_{what}", 3) for size in sizes for what in ("single_p50", "batch_p50")),
        ]
        for result in records
    ]
    titles = ["", *(f"{size:,} {what}, ms" for size in sizes for what in ("one", "batch"))]
    return RecordTable(titles, rows, (), list(dict.fromkeys(result.command for result in records)))


def energy_table(results: Sequence[Result]) -> RecordTable | None:
    """Joules a frame; none without such records."""
    records = [result for result in results if result.kind == "energy"]
    if not records:
        return None
    rows = [
        [
            result.subject, result.settings.get("runner", ""), result.settings.get("sensor", ""),
            _value(result, "gross_j_per_frame", 3), _value(result, "net_j_per_frame", 3),
        ]
        for result in records
    ]  # fmt: skip
    titles = ["", "run by", "sensor", "gross J a frame", "net J a frame"]
    return RecordTable(titles, rows, (), list(dict.fromkeys(result.command for result in records)))


def training_table(results: Sequence[Result]) -> RecordTable | None:
    """Loader and training step of each recipe, a row for each way to run the step; none without such records."""
    rows, commands, conditions = [], [], []
    for result in results:
        ways = [name.removesuffix("_first") for name in result.figures if name.endswith("_first")]
        if result.kind != "training" or not ways:
            continue
        settings = result.settings
        for way in ways:
            rows.append(
                [
                    result.subject, settings["input"], settings["batch"].partition(" ")[0],
                    _value(result, "loader", 1), _value(result, "loader_main", 1),
                    way.removeprefix("step_"), _value(result, way, 2), _value(result, f"{way}_cpu", 1),
                    _value(result, f"{way}_first", 1),
                ]
            )  # fmt: skip
        commands.append(result.command)
        conditions.append(
            f"{result.subject}: {settings['device']}, {settings['threads']} threads, {settings['workers']} loader "
            f"processes, {settings['load_before']} running before"
        )
    if not rows:
        return None
    titles = [
        "", "input", "batch", "loader images/s", "of the training process, ms an image", "step", "step images/s",
        "processor ms an image", "first step s",
    ]  # fmt: skip
    return RecordTable(titles, rows, conditions, list(dict.fromkeys(commands)))


def paired_table(results: Sequence[Result]) -> RecordTable | None:
    """Differences of two systems on the same queries, with their intervals; none without such records."""
    records = sorted(
        (result for result in results if result.kind == "paired"),
        key=lambda one: (one.settings["against"], one.settings["system"]),
    )
    if not records:
        return None
    rows = []
    for result in records:
        settings = result.settings
        found = [
            [_value(result, f"{metric}_{name}", 1, 100) for name in ("difference", "low", "high")]
            for metric in ("mean_ap", "top_1")
        ]
        rows.append(
            [
                settings["system"], settings["against"], settings["queries"], settings["people"],
                *(f"{difference} ({low}..{high})" for difference, low, high in found),
                f"{100 * float(settings['margin']):g}", _value(result, "mean_ap_below_margin", 1, 100),
            ]
        )  # fmt: skip
    titles = [
        "", "against", "queries", "people", "search mAP, points", "top-1, points", "margin",
        "mAP beyond it, % of resamples",
    ]  # fmt: skip
    notes = [
        "95 % intervals of the choice of people; another seed of a training is not in them",
        "files of `personsearch evaluate --per-query`, by the names of the row",
    ]
    return RecordTable(titles, rows, notes, ["personsearch bench paired SYSTEM.json --against OTHER.json --margin M"])


def accuracy_table(results: Sequence[Result]) -> RecordTable | None:
    """What `evaluate` recorded; none without such records."""
    records = [result for result in results if result.kind == "accuracy"]
    if not records:
        return None
    rows = [
        [
            result.subject, f"{result.settings['dataset']}, {result.settings['split']}", result.settings["mode"],
            _value(result, "detection_average_precision", 1, 100), _value(result, "search_mean_ap", 1, 100),
            _value(result, "search_top_1", 1, 100), _value(result, "true_boxes_mean_ap", 1, 100),
        ]
        for result in records
    ]  # fmt: skip
    titles = ["", "data", "mode", "detection AP %", "search mAP %", "top-1 %", "mAP on true boxes %"]
    return RecordTable(titles, rows, (), list(dict.fromkeys(result.command for result in records)))


def _value(result: Result, name: str, decimals: int, scale: float = 1.0) -> str:
    figure = result.figures.get(name)
    return MISSING if figure is None else f"{figure.value * scale:.{decimals}f}"


def _largest(result: Result, ending: str) -> float:
    return max(figure.value for name, figure in result.figures.items() if name.endswith(ending))


def _sum(result: Result, ending: str) -> float:
    return sum(figure.value for name, figure in result.figures.items() if name.endswith(ending))
