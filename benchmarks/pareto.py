"""Accuracy against what it costs: every measured system in one table, those marked that another one beats in both.

Points are put together from records: times, operations and energy belong to the accuracy of the same weights (by hash).
Only systems that were scored on the same data are compared. A record of `peers` brings its own times and accuracy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from personsearch.benchmarks.results import Result
from personsearch.core.recipe import StrictModel

Cost = Literal["gflops", "ms", "joules"]
COSTS: dict[Cost, str] = {"gflops": "GFLOPs a frame", "ms": "ms a frame", "joules": "J a frame, net"}
MISSING = "–"


class ParetoPoint(StrictModel):
    """One system on one data set."""

    name: str
    data: str
    precision: str = ""
    runner: str = ""
    size: str = ""
    mean_ap: float = Field(description="search, share")
    detection_ap: float | None = None
    gflops: float | None = Field(default=None, description="2 x MAC of a frame with K people")
    ms: float | None = Field(default=None, description="median frame, pre- and post-processing in")
    joules: float | None = None
    dominated: dict[Cost, str] = Field(
        default_factory=dict, description="by cost: who is no less accurate and no dearer, and better in one"
    )
    commands: tuple[str, ...] = ()


def pareto_points(results: Sequence[Result]) -> dict[str, list[ParetoPoint]]:
    """Points by data set, most points first, best accuracy first; each knows who beats it."""
    costs = _costs(results)
    groups: dict[str, list[ParetoPoint]] = defaultdict(list)
    for result in results:
        for point in _points(result, costs):
            groups[point.data].append(point)
    marked = {data: _marked(_without_repeats(points)) for data, points in groups.items()}
    return dict(sorted(marked.items(), key=lambda item: (-len(item[1]), item[0])))


def dominators(points: Sequence[ParetoPoint], cost: Cost) -> dict[int, int]:
    """For each beaten point, by index, the most accurate one that beats it; points without the cost stay out."""
    known = [(index, point, value) for index, point in enumerate(points) if (value := getattr(point, cost)) is not None]
    found: dict[int, int] = {}
    for index, point, value in known:
        beating = [
            (other.mean_ap, -other_value, -other_index)
            for other_index, other, other_value in known
            if other.mean_ap >= point.mean_ap
            and other_value <= value
            and (other.mean_ap > point.mean_ap or other_value < value)
        ]
        if beating:
            found[index] = -max(beating)[2]
    return found


def any_cost(points: Sequence[ParetoPoint]) -> bool:
    """Whether there is anything to draw."""
    return any((getattr(point, cost) or 0) > 0 for point in points for cost in COSTS)


def pareto_titles() -> list[str]:
    """Of the columns of `pareto_rows`."""
    return ["", "precision", "run by", "input", "search mAP %", "detection AP %", *COSTS.values(), "beaten by"]


def pareto_rows(points: Sequence[ParetoPoint]) -> list[list[str]]:
    """The table's cells, numbered as in the chart; the last says by whom and in which cost a point is beaten."""
    return [
        [
            f"{number} {point.name}",
            point.precision or MISSING,
            point.runner or MISSING,
            point.size or MISSING,
            f"{100 * point.mean_ap:.1f}",
            MISSING if point.detection_ap is None else f"{100 * point.detection_ap:.1f}",
            _number(point.gflops, 3),
            _number(point.ms, 2),
            _number(point.joules, 3),
            "; ".join(f"{COSTS[cost].split()[0]}: {name}" for cost, name in point.dominated.items()),
        ]
        for number, point in enumerate(points, start=1)
    ]


def _number(value: float | None, decimals: int) -> str:
    return MISSING if value is None else f"{value:.{decimals}f}"


class _Costs(StrictModel):
    """What is known of some weights, and of them with one runner."""

    flops: dict[str, Result] = Field(default_factory=dict)
    energy: dict[tuple[str, str], Result] = Field(default_factory=dict)
    latency: dict[str, list[Result]] = Field(default_factory=dict)


def _costs(results: Sequence[Result]) -> _Costs:
    found = _Costs()
    for result in results:
        if not result.sha256:
            continue
        if result.kind == "flops":
            found.flops[result.sha256] = result
        elif result.kind == "energy":
            found.energy[result.sha256, _runner(result.settings.get("runner", ""))] = result
        elif result.kind == "latency" and "frame_p50_ms" in result.figures:
            found.latency.setdefault(result.sha256, []).append(result)
    return found


def _points(result: Result, costs: _Costs) -> list[ParetoPoint]:
    if result.kind == "demo":
        return _demo_point(result)
    if result.kind == "peers":
        return _peer_points(result, costs)
    if result.kind == "accuracy" and "search_mean_ap" in result.figures:
        return _accuracy_points(result, costs)
    return []


def _demo_point(result: Result) -> list[ParetoPoint]:
    figures = {name: figure.value for name, figure in result.figures.items()}
    if "map" not in figures or "latency_p50_ms" not in figures:
        return []
    facts = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    return [
        ParetoPoint(
            name=result.subject,
            data=f"the demo's generated test set ({facts})",
            precision="int8" if "int8" in result.subject else "fp32",
            runner="onnxruntime" if "engine" in result.subject else "torch",
            mean_ap=figures["map"],
            detection_ap=figures.get("detection_ap"),
            ms=figures["latency_p50_ms"],  # its records have operations of the scene and a person, not of a frame
            commands=(result.command,),
        )
    ]


def _peer_points(result: Result, costs: _Costs) -> list[ParetoPoint]:
    figures, settings = result.figures, result.settings
    counts = settings["people"].split(", ")
    people = "5" if "5" in counts else counts[-1]
    points = []
    for name in settings["systems"].split("; "):
        accuracy = figures.get(f"{name} | map")
        if accuracy is None:
            continue
        _, precision, runner = settings[f"{name} | about"].split("; ", 2)
        detection = figures.get(f"{name} | detection_ap")
        sha256 = settings.get(f"{name} | sha256", "")
        point = ParetoPoint(
            name=name,
            data=settings["data"],
            precision=precision,
            runner=_runner(runner),
            mean_ap=accuracy.value,
            detection_ap=None if detection is None else detection.value,
            ms=figures[f"{name} | {people} | frame_p50_ms"].value,
            commands=(result.command,),
        )
        points.append(_with_weights(point, sha256, costs))
    return points


def _accuracy_points(result: Result, costs: _Costs) -> list[ParetoPoint]:
    figures, settings = result.figures, result.settings
    detection = figures.get("detection_average_precision")
    base = ParetoPoint(
        name=result.subject,
        data=f"{settings['dataset']}, split {settings['split']}, {settings['images']} images",
        mean_ap=figures["search_mean_ap"].value,
        detection_ap=None if detection is None else detection.value,
        commands=(result.command,),
    )
    timed = costs.latency.get(result.sha256, [])
    points = [
        base.model_copy(
            update={
                "name": latency.subject,
                "runner": _runner(latency.settings.get("runner", "")),
                "ms": latency.figures["frame_p50_ms"].value,
                "commands": (result.command, latency.command),
            }
        )
        for latency in timed
    ]
    return [_with_weights(point, result.sha256, costs) for point in points or [base]]


def _with_weights(point: ParetoPoint, sha256: str, costs: _Costs) -> ParetoPoint:
    """The point with the operations and the energy of the same weights."""
    changes: dict[str, object] = {}
    commands = list(point.commands)
    flops, energy = costs.flops.get(sha256), costs.energy.get((sha256, point.runner))
    if flops is not None:
        changes |= {"gflops": 2e-9 * flops.figures["total"].value, "size": flops.settings.get("input", "")}
        commands.append(flops.command)
    if energy is not None:
        changes["joules"] = energy.figures["net_j_per_frame"].value
        commands.append(energy.command)
    return point.model_copy(update={**changes, "commands": tuple(dict.fromkeys(commands))})


def _without_repeats(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """One point a name; of several the one with more costs, and of these the last."""
    kept: dict[str, ParetoPoint] = {}
    for point in points:
        before = kept.get(point.name)
        if before is None or _known(point) >= _known(before):
            kept[point.name] = point
    return sorted(kept.values(), key=lambda point: -point.mean_ap)


def _known(point: ParetoPoint) -> int:
    return sum(getattr(point, cost) is not None for cost in COSTS)


def _marked(points: list[ParetoPoint]) -> list[ParetoPoint]:
    beaten: Mapping[Cost, dict[int, int]] = {cost: dominators(points, cost) for cost in COSTS}
    return [
        point.model_copy(
            update={"dominated": {cost: points[by[index]].name for cost, by in beaten.items() if index in by}}
        )
        for index, point in enumerate(points)
    ]


def _runner(text: str) -> str:
    """The library alone: versions and threads are in the record."""
    return re.split(r",| \d", text, maxsplit=1)[0].strip()
