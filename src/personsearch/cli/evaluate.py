"""``personsearch evaluate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.evaluate_pairs import guided_result
from personsearch.cli.skipping import SkipBad, readable_part
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.accuracy import AccuracyResult, EvaluationOptions
    from personsearch.benchmarks.collecting import Collected
    from personsearch.data import SearchDataset

MODES = ("strict", "compat", "compat-repeats")
QUERY_FEATURES = ("gt_box", "detection")


def evaluate(
    model: Annotated[
        Path, typer.Argument(help="Checkpoint file, run folder, artifact folder, or .npz file of detections.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Data set: folder or specification.")],
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    protocol: Annotated[str | None, typer.Option(help="Search protocol, such as g100; the set's first.")] = None,
    mode: Annotated[str, typer.Option(help="strict; compat: as SeqNet; compat-repeats: as OIM, AlignPS.")] = "strict",
    query_features: Annotated[str, typer.Option(help="gt_box, or detection: the best-overlapping one.")] = "gt_box",
    cws: Annotated[bool, typer.Option("--cws", help="Weight similarities by detection scores.")] = False,
    cbgm: Annotated[str | None, typer.Option(help="Context bipartite graph matching, K1,K2.")] = None,
    coco: Annotated[bool, typer.Option("--coco", help="Add COCO's average precision.")] = False,
    score_threshold: Annotated[float | None, typer.Option(help="Detection score; the system's own if absent.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the engine's choice if absent.")] = None,
    engine: Annotated[str | None, typer.Option(help="Runs an artifact, in place of the one it was made for.")] = None,
    histogram: Annotated[bool, typer.Option(help="Add the colour-histogram baseline on true boxes.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")] = None,
    per_query: Annotated[Path | None, typer.Option(help="File for every query's outcome as JSON.")] = None,
    detections: Annotated[Path | None, typer.Option(help="File (.npz) for what was found, to score again.")] = None,
    query_independent: Annotated[
        bool, typer.Option("--query-independent", help="Of a query-guided network, the branch without a query.")
    ] = False,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Measure detection and search accuracy on a data set, beside chance.

    Example: personsearch evaluate artifacts/street data/prw --mode compat --cws --json
    """
    options = evaluation_options(mode, query_features, cws, cbgm, coco, score_threshold)
    from personsearch.benchmarks.accuracy import measure_histogram, score
    from personsearch.data import open_dataset

    opened = open_dataset(dataset, split, protocol)
    if skip_bad:
        opened = readable_part(opened)
    guided = None
    if not query_independent:
        guided = guided_result(model, opened, split, options, threads, detections=detections, per_query=per_query)
    if guided is not None:
        results = [guided]
    else:
        collected = collect_model(model, opened, dataset, threads, engine)
        if detections is not None:
            from personsearch.benchmarks.stored_detections import write_detections

            write_detections(detections, collected, dataset)
        results = [score(collected, opened, split=split, options=options)]
        if per_query is not None:
            _write_outcomes(per_query, collected, opened, options)
    if histogram:
        results.append(measure_histogram(opened, split=split, options=options))
    if save is not None:
        _save(results[0], save)
    if as_json:
        typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
    else:
        for result in results:
            typer.echo(accuracy_table(result))


def accuracy_table(result: AccuracyResult) -> str:
    """The figures of one system as short lines, percent."""
    options = result.options
    lines = [
        f"{result.system} on {result.dataset}, split {result.split}: {result.images} images, "
        f"{result.people} people, {result.queries} queries"
    ]
    if result.skipped_images:
        lines.append(f"  without {result.skipped_images} images that cannot be read")
    if result.detection is not None:
        found = result.detection
        lines.append(
            f"  detection     AP {found.average_precision:.1%} (without recall factor {found.ranking_precision:.1%})  "
            f"recall {found.recall:.1%}  precision {found.precision:.1%}  "
            f"at IoU 0.5, score >= {result.score_threshold}, mode {options.mode}"
        )
        if found.labelled_recall is not None:
            lines.append(f"                recall over labelled people {found.labelled_recall:.1%}")
        if found.coco_ap is not None:
            lines.append(
                f"                COCO AP {found.coco_ap:.1%}  at IoU 0.5 {found.coco_ap_50:.1%}  "
                f"score >= {result.score_threshold}, 100 detections an image"
            )
    for title, search in (("search", result.search), ("on true boxes", result.true_boxes)):
        if search is not None:
            top = "  ".join(f"top-{k} {share:.1%}" for k, share in search.top.items())
            lines.append(
                f"  {title:<13} mAP {search.mean_ap:.1%}  {top}  "
                f"chance: mAP {search.chance_mean_ap:.1%} top-1 {search.chance_top[1]:.1%}, "
                f"{search.gallery_boxes:.0f} boxes in {search.gallery_images:.0f} images a query"
            )
            if search.queries_scored < result.queries:
                lines.append(
                    f"                {result.queries - search.queries_scored} queries have no answer: left out"
                )
            if search.queries_not_detected:
                lines.append(f"                {search.queries_not_detected} queries were not detected: scored 0")
    if result.pairs is not None:
        cost = result.pairs
        lines.append(
            f"  cost a query  {2 * cost.query_macs / 1e12:.4g} TFLOP, {cost.query_seconds:.3g} s (measured): "
            f"{cost.pairs} pairs of query and image, {2 * cost.pair_macs / 1e9:.4g} GFLOP each"
        )
    if result.queries:
        lines.append(f"  {_rules(result)}")
    else:
        lines.append("  the split has no queries: detection only")
    return "\n".join(lines)


def _rules(result: AccuracyResult) -> str:
    options = result.options
    features = "true boxes" if options.query_features == "gt_box" else "detections"
    parts = [
        f"protocol {result.protocol}",
        f"mode {options.mode}",
        result.camera_rule or "",
        f"query features from {features}",
    ]
    if result.score_threshold is not None:
        parts.append(f"score >= {result.score_threshold}")
    if options.weighted_by_score:
        parts.append("similarities weighted by score (CWS)")
    if options.context is not None:
        parts.append(f"context matching (CBGM) k1 {options.context[0]}, k2 {options.context[1]}")
    return ", ".join(parts)


def evaluation_options(
    mode: str, query_features: str, cws: bool, cbgm: str | None, coco: bool, score_threshold: float | None
) -> EvaluationOptions:
    """What the command line's options say, checked before anything is loaded.

    Raises:
        InputError: an option has a value that it cannot have, or needs a package that is not installed.
    """
    if mode not in MODES:
        raise InputError(f"--mode is `{mode}`", expected=f"one of {', '.join(MODES)}")
    if query_features not in QUERY_FEATURES:
        raise InputError(f"--query-features is `{query_features}`", expected=f"one of {', '.join(QUERY_FEATURES)}")
    context = None
    if cbgm is not None:
        numbers = cbgm.split(",")
        if len(numbers) != 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
            raise InputError(f"--cbgm is `{cbgm}`", expected="K1,K2, such as 10,3 on CUHK-SYSU and 30,4 on PRW")
        context = (int(numbers[0]), int(numbers[1]))
        require("scipy", "evaluate", "context bipartite graph matching")
    if coco:
        require("pycocotools", "evaluate", "COCO's average precision")
    from personsearch.benchmarks.accuracy import EvaluationOptions

    return EvaluationOptions.model_validate(
        {
            "mode": mode,
            "query_features": query_features,
            "weighted_by_score": cws,
            "context": context,
            "coco": coco,
            "score_threshold": score_threshold,
        }
    )


def collect_model(
    model: Path, dataset: SearchDataset, root: Path, threads: int | None, engine: str | None = None
) -> Collected:
    """What a model finds in a split, or what a file of detections says that one found.

    Raises:
        InputError: neither, or a frame cannot be read.
    """
    from personsearch.benchmarks.systems import checkpoint_file, open_system, system_name

    if model.suffix == ".npz":
        from personsearch.benchmarks.stored_detections import read_detections

        return read_detections(model, dataset, root)
    if checkpoint_file(model) is not None:
        require("torch", "train", "evaluating a checkpoint")
    from personsearch.benchmarks.collecting import collect

    system = open_system(model, threads, engine=engine)
    return collect(system, dataset, name=system_name(model), detector=system, all_boxes=True)


def _write_outcomes(path: Path, collected: Collected, dataset: SearchDataset, options: EvaluationOptions) -> None:
    from personsearch.benchmarks.accuracy import prepare_search, query_outcomes, used_threshold
    from personsearch.core.files import write_json

    search = prepare_search(collected, dataset, options, score_threshold=used_threshold(options, collected))
    outcomes = query_outcomes(dataset.queries, search.scores())
    write_json(path, [outcome.model_dump(mode="json") for outcome in outcomes])


def _save(result: AccuracyResult, folder: Path) -> None:
    from personsearch.benchmarks.results import make_result, write_result

    figures: dict[str, tuple[float, str]] = {}
    if result.detection is not None:
        for name, value in result.detection.model_dump().items():
            if value is not None:
                figures[f"detection_{name}"] = (value, "share")
    settings = {
        "dataset": result.dataset,
        "split": result.split,
        "images": str(result.images),
        "skipped_images": str(result.skipped_images),
        "queries": str(result.queries),
        "score_threshold": str(result.score_threshold),
        "protocol": result.protocol,
        "mode": result.options.mode,
        "camera_rule": str(result.camera_rule),
        "query_features": result.options.query_features,
        "cws": str(result.options.weighted_by_score),
        "cbgm": str(result.options.context),
    }
    for prefix, search in (("search", result.search), ("true_boxes", result.true_boxes)):
        if search is not None:
            figures[f"{prefix}_mean_ap"] = (search.mean_ap, "share")
            figures[f"{prefix}_chance_mean_ap"] = (search.chance_mean_ap, "share")
            figures |= {f"{prefix}_top_{k}": (share, "share") for k, share in search.top.items()}
            figures |= {f"{prefix}_chance_top_{k}": (share, "share") for k, share in search.chance_top.items()}
            settings["gallery_images"] = f"{search.gallery_images:.1f}"
    if result.pairs is not None:
        figures["pair"] = (float(result.pairs.pair_macs), "MAC")
        figures["query"] = (result.pairs.query_macs, "MAC")
        figures["query_seconds"] = (result.pairs.query_seconds, "s")
        settings["pairs"] = str(result.pairs.pairs)
    record = make_result(
        "accuracy", result.system, figures, sha256=result.sha256, settings=settings, arguments=sys.argv[1:]
    )
    typer.echo(f"record: {write_result(record, folder)}", err=True)
