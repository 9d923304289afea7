"""The parity gate: every candidate, an engine at a precision, against the network in torch; the verdict and the record.

``parity`` compares detections and embeddings frame by frame, ``agreement`` the orders of galleries, ``end_figures``
what remains of the accuracy on labelled images. What could not be run is named in the report, never left out in
silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from personsearch.core.gate_recipe import GateRecipe, ParityLimits, Precision
from personsearch.core.manifest import Int8Flavour
from personsearch.export.end_figures import LabelledImages, drops, measure_end_figures
from personsearch.export.gate_frames import GateFrame
from personsearch.export.onnx_graphs import OnnxGraphs
from personsearch.export.openvino_graphs import OpenVinoGraphs
from personsearch.export.parity import ReferenceAnswers, ask, compare
from personsearch.export.rows import Graphs
from personsearch.export.split_graphs import Join, split_onnx, split_openvino

NO_LABELS = "end figures: no labelled data set was given"
NO_ORDER = "rank agreement: too few people in different frames to order"
DETECTOR = "embeddings, rank agreement and search figures: the network is a detector and embeds nobody"


@dataclass(frozen=True)
class Candidate:
    """Something that has to do what the reference does.

    Attributes:
        engine: library and version, such as ``onnxruntime 1.31.1``.
        precision: of its graphs; decides the limits.
        open: loads it. What it raises is the candidate's failure, not the gate's.
        variant: what else tells it from its neighbours, such as ``s8s8`` or ``split``; empty where nothing does.
    """

    engine: str
    precision: Precision
    open: Callable[[], Graphs]
    variant: str = ""

    @property
    def name(self) -> str:
        """``onnxruntime int8 s8s8``, for tables and messages."""
        return " ".join(part for part in (self.engine.split(" ")[0], self.precision, self.variant) if part)


@dataclass(frozen=True)
class Reference:
    """What candidates are held against.

    Attributes:
        graphs: the reference first, then those that tell its ties; see `reference.references`.
        half: those that tell which of its decisions rounding to float16 turns, for fp16 candidates; none for the ties
            of ``graphs``.
        score_threshold: the model's.
        query_boxes: Q of the query graph.
        name: of the first, for the record.
        end_figures: whose figures on labelled images candidates must keep: the checkpoint as it is evaluated; none for
            the first of ``graphs``.
    """

    graphs: Sequence[Graphs]
    score_threshold: float
    query_boxes: int
    name: str = "torch"
    end_figures: Graphs | None = None
    half: Sequence[Graphs] = ()


def engine_candidates(
    folder: Path, precision: Precision, variant: str = "", *, join: Join | None = None
) -> tuple[list[Candidate], list[str]]:
    """Every engine that can run here, for the graphs of a folder.

    Args:
        folder: holds ``search.onnx`` and ``query.onnx``, or ``scene.onnx`` and ``person.onnx``; must stay until the
            gate has run.
        precision: of these graphs.
        variant: see `Candidate`.
        join: of layout split, joins the two graphs.

    Returns:
        The candidates, and in words the engines that cannot run here.
    """
    flavour: Int8Flavour | None = "s8s8" if variant == "s8s8" else None
    opened: tuple[Callable[[], Graphs], Callable[[], Graphs]] = (
        partial(OnnxGraphs, folder),
        partial(OpenVinoGraphs, folder, flavour),
    )
    if join is not None:
        opened = partial(split_onnx, folder, join), partial(split_openvino, folder, join, flavour)
    found = [Candidate(_named("onnxruntime"), precision, opened[0], variant)]
    if find_spec("openvino") is None:
        return found, ["openvino: not installed"]
    return [*found, Candidate(_named("openvino"), precision, opened[1], variant)], []


def gate_steps(candidates: int, frames: int, images: int) -> int:
    """How often `run_gate` calls ``advance``."""
    return (candidates + 1) * frames + images


def run_gate(
    reference: Reference,
    candidates: Sequence[Candidate],
    frames: Sequence[GateFrame],
    recipe: GateRecipe,
    *,
    frames_from: str,
    labelled: LabelledImages | None = None,
    not_run: Sequence[str] = (),
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Compares every candidate with the reference and judges.

    Args:
        reference: what they are held against.
        candidates: at least one, in the order of the road: first float32, then each precision and engine.
        frames: of several scenes and sizes.
        recipe: limits, by precision.
        frames_from: name of what the frames come from, for the record.
        labelled: images for the end figures; without them that part does not run, and the report says so.
        not_run: what the caller knows could not be compared, such as an engine that is not installed.
        advance: called `gate_steps` times.

    Returns:
        Plain values for the manifest: ``passed``, ``failures`` in words, what was looked at, ``not_run``, and under
        ``candidates`` a report each (see `parity.compare`), with ``end_figures`` where they were measured.
    """
    opened = _open(candidates)
    answers = ask(
        [*reference.graphs, *reference.half],
        [frame.image for frame in frames],
        score_threshold=reference.score_threshold,
        query_boxes=reference.query_boxes,
        advance=advance,
    )
    by_precision = _answers_by_precision(answers, len(reference.graphs))
    reports = []
    for candidate, graphs in zip(candidates, opened, strict=True):
        if isinstance(graphs, str):
            report: dict[str, Any] = {"passed": False, "failures": [graphs]}
            for _ in frames:
                advance()
        else:
            limits = recipe.limits(candidate.precision)
            report = compare(by_precision[candidate.precision], graphs, limits, top_k=recipe.top_k, advance=advance)
        reports.append({"name": candidate.name, "engine": candidate.engine, "precision": candidate.precision, **report})
    figures: dict[str, Any] | None = None
    if labelled is not None:
        figures = _end_figures(
            reference, list(zip(candidates, opened, strict=True)), reports, labelled, recipe, advance
        )
    missing = [*not_run, *([] if labelled is not None else [NO_LABELS])]
    if not answers.embeds:
        missing.append(DETECTOR)
    elif any(report.get("ranking") is None and "detections" in report for report in reports):
        missing.append(NO_ORDER)
    failures = [f"{report['name']}: {words}" for report in reports for words in report["failures"]]
    return {
        "passed": not failures,
        "failures": failures,
        "reference": reference.name,
        "frames": len(frames),
        "frames_from": frames_from,
        "scenes": dict(Counter(frame.scene for frame in frames)),
        "source_sizes": sorted({f"{frame.source_wh[0]}x{frame.source_wh[1]}" for frame in frames}),
        "score_threshold": round(answers.threshold, 6),
        "candidates": reports,
        "end_figures": figures,
        "not_run": missing,
    }


def merged(parity: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A record with the candidates of another run of the gate added, each with the reference that it was held to.

    Args:
        parity: of the export, against the network in torch.
        more: of engines that only open once the artifact is there, such as TensorRT's.
    """
    added = [{**report, "reference": more["reference"]} for report in more["candidates"]]
    return {
        **parity,
        "passed": parity["passed"] and more["passed"],
        "failures": [*parity["failures"], *more["failures"]],
        "candidates": [*parity["candidates"], *added],
        "not_run": list(dict.fromkeys([*parity["not_run"], *more["not_run"]])),
    }


def _open(candidates: Sequence[Candidate]) -> list[Graphs | str]:
    """Each candidate's graphs, or why its engine does not take them."""
    opened: list[Graphs | str] = []
    for candidate in candidates:
        try:
            opened.append(candidate.open())
        except Exception as error:  # engines raise what they like: each has a class of its own
            said = str(error).strip().splitlines()
            opened.append(f"does not open: {said[-1][:200] if said else type(error).__name__}")
    return opened


def _answers_by_precision(answers: ReferenceAnswers, own: int) -> dict[Precision, ReferenceAnswers]:
    """Of the answers of a reference, its ``own - 1`` copies and those for float16: which tell a precision's ties."""
    float32 = replace(answers, rows=[rows[:own] for rows in answers.rows])
    float16 = replace(answers, rows=[[rows[0], *(rows[own:] or rows[1:])] for rows in answers.rows])
    return {"fp32": float32, "fp16": float16, "int8": float32}


def _end_figures(
    reference: Reference,
    opened: Sequence[tuple[Candidate, Graphs | str]],
    reports: Sequence[dict[str, Any]],
    labelled: LabelledImages,
    recipe: GateRecipe,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """Measures reference and candidates on the same images, adds figures and failures to ``reports``."""
    sides = [reference.end_figures or reference.graphs[0]]
    sides += [graphs for _, graphs in opened if not isinstance(graphs, str)]
    expected, *found = measure_end_figures(
        sides, labelled, score_threshold=reference.score_threshold, query_boxes=reference.query_boxes, advance=advance
    )
    rest = iter(found)
    for (candidate, graphs), report in zip(opened, reports, strict=True):
        if isinstance(graphs, str):
            continue
        figures = next(rest)
        lost = drops(expected, figures)
        report["end_figures"] = {**figures.rounded(), "drop_points": lost}
        report["failures"] = [*report["failures"], *_lost(lost, recipe.limits(candidate.precision))]
        report["passed"] = not report["failures"]
    return {"on": labelled.description, "checkpoint": expected.rounded()}


def _lost(lost: dict[str, float], limits: ParityLimits) -> list[str]:
    allowed = {
        "detection_ap": ("detection AP", limits.max_detection_ap_drop),
        "search_map": ("search mAP", limits.max_search_map_drop),
        "top_1": ("top-1", limits.max_top_1_drop),
    }
    return [
        f"{words} falls by {lost[name]:.2f} points, {most:g} are allowed"
        for name, (words, most) in allowed.items()
        if lost.get(name, 0.0) > most
    ]


def _named(library: str) -> str:
    return f"{library} {version(library)}"
