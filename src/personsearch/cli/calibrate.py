"""``personsearch calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.evaluate import evaluation_options
from personsearch.cli.skipping import SkipBad, readable_part
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.score_calibration import Chosen, ScoreCalibration
    from personsearch.benchmarks.systems import SearchSystem
    from personsearch.data import SearchDataset

CRITERIA = ("search", "detection", "match")
MATCH_IMAGES = 400


def calibrate(
    model: Annotated[Path, typer.Argument(help="Checkpoint file, run folder or artifact folder.")],
    dataset: Annotated[Path, typer.Argument(help="Data set: folder or specification.")],
    split: Annotated[str, typer.Option(help="What the model was trained on, or a split for validation.")] = "train",
    hold_out: Annotated[
        float | None,
        typer.Option(help="Share of the images; what training held out, else 0.2 of its split, all of another."),
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="Declare the split one for validation, whatever its name.")
    ] = False,
    criterion: Annotated[
        str, typer.Option(help="Score: search (highest mAP) or detection (highest F1); match: cosine of a match.")
    ] = "search",
    false_match_rate: Annotated[
        float, typer.Option(help="Of criterion match: share of pairs of different people that may pass as one.")
    ] = 0.002,
    mode: Annotated[str, typer.Option(help="As for evaluate.")] = "strict",
    query_features: Annotated[str, typer.Option(help="As for evaluate.")] = "gt_box",
    cws: Annotated[bool, typer.Option("--cws", help="As for evaluate.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the choice of images; training's, or 0.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the engine's choice if absent.")] = None,
    skip_bad: SkipBad = False,
    write: Annotated[bool, typer.Option("--write", help="Put the threshold into the artifact.")] = False,
    out: Annotated[Path | None, typer.Option(help="File (.svg) for the curve.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Choose the score from which on a detection counts, on images held out from training, never on test.

    With `--criterion match` the cosine from which on a detection is reported as the query. A model whose recipe has
    `data.hold_out` is measured on the images that it left out.

    Example: personsearch calibrate artifacts/street data/prw --split train --write
    """
    if criterion not in CRITERIA:
        raise InputError(f"--criterion is `{criterion}`", expected=f"one of {', '.join(CRITERIA)}")
    if not 0 < false_match_rate < 1:
        raise InputError(f"--false-match-rate is {false_match_rate:g}", expected="a share between 0 and 1")
    if criterion == "match" and out is not None:
        raise InputError("--criterion match draws no curve", remedy="leave --out out")
    options = evaluation_options(mode, query_features, cws, None, False, None)
    from personsearch.benchmarks.score_calibration import THRESHOLDS, calibrate_score, choose_images, training_facts
    from personsearch.benchmarks.systems import checkpoint_file, open_system, system_name
    from personsearch.data import open_dataset

    trained = checkpoint_file(model) is not None
    if trained:
        require("torch", "train", "calibrating a checkpoint")
    if write and trained:
        raise InputError("is not an artifact", where=str(model), remedy="export it first, or leave --write out")
    if write:
        require("torch", "train", "writing to an artifact")
    if out is not None:
        require("matplotlib", "train", "drawing the curve")
        if out.suffix.lower() != ".svg":
            raise InputError(f"suffix is {out.suffix}", where=f"--out {out}", expected=".svg")
    facts, opened = training_facts(model), open_dataset(dataset, split)
    chosen = choose_images(facts, opened, split, share=hold_out, seed=seed, declared=validation)
    if criterion == "match":
        _calibrate_match(open_system(model, threads), model, opened, chosen, false_match_rate, write, as_json)
        return
    result = calibrate_score(
        open_system(model, threads, score_threshold=min(THRESHOLDS)),
        opened,
        chosen,
        name=system_name(model),
        split=split,
        criterion="search" if criterion == "search" else "detection",
        options=options,
        readable=readable_part if skip_bad else None,
    )
    if out is not None:
        _draw(result, out)
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), indent=2))
    else:
        typer.echo(_table(result))
    if write:
        from personsearch.export.artifact import update_figures

        figures = result.model_dump(mode="json", exclude={"figures"})
        update_figures(model, {"score_calibration": figures}, score_threshold=result.threshold)
        typer.echo(f"written to {model}: score_threshold {result.threshold:g}", err=True)


def _calibrate_match(
    system: SearchSystem,
    model: Path,
    dataset: SearchDataset,
    chosen: Chosen,
    false_match_rate: float,
    write: bool,
    as_json: bool,
) -> None:
    from personsearch.benchmarks.calibration import calibrate_threshold

    among = chosen.held_out.images
    result = calibrate_threshold(system, dataset, false_match_rate=false_match_rate, images=MATCH_IMAGES, among=among)
    on = f"{dataset.name}, {min(MATCH_IMAGES, len(among))} images" + (", seen in training" if chosen.seen else "")
    figures = {**result.model_dump(mode="json"), "on": on}
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        typer.echo(
            f"{on}: {result.same_pairs} pairs of one person in two cameras, {result.different_pairs} of two people\n"
            f"  cosine >= {result.threshold:.3f}: {100 * result.false_match_rate:.2f} % of two people pass as one, "
            f"{100 * result.true_match_rate:.1f} % of one person are recognised"
        )
    if write:
        from personsearch.export.artifact import update_figures

        update_figures(model, {"match_calibration": figures}, result.threshold)
        typer.echo(f"written to {model}: match_threshold {result.threshold:.4f}", err=True)


def _table(result: ScoreCalibration) -> str:
    whole = "the whole split" if result.unit == "split" else f"{_groups(result)} held out"
    lines = [
        f"{result.dataset}, split {result.split}: {result.images} of {result.split_images} images, {whole}, "
        f"{result.queries} queries",
        *([f"  without {result.skipped_images} images that cannot be read"] if result.skipped_images else []),
        "  score >=   mAP  top-1     F1  precision  recall  detections an image",
    ]
    for one in result.figures:
        search = "    -      -" if one.mean_ap is None else f"{100 * one.mean_ap:5.1f}  {100 * (one.top_1 or 0):5.1f}"
        mark = "  <- chosen" if one.threshold == result.threshold else ""
        lines.append(
            f"  {one.threshold:8.2f} {search}  {100 * one.f1:5.1f}  {100 * one.precision:9.1f}  "
            f"{100 * one.recall:6.1f}  {one.detections:8.1f}{mark}"
        )
    best = "mAP of search" if result.criterion == "search" else "F1 of detection"
    lines.append(f"  chosen: {result.threshold:g}, the highest within 0.1 points of the best {best}")
    if result.seen_in_training:
        lines.append("  the model was trained on this split: unless these images were left out, it has seen them,")
        lines.append("  and the threshold is rather too high for new ones")
    elif result.trained_identities:
        lines.append(
            f"  not seen in training, which left these images out; {result.trained_identities} of the "
            f"{result.identities} people in them stand in others that it saw"
        )
    elif result.trained_identities is not None:
        lines.append("  not seen in training, which left these images and everybody in them out")
    return "\n".join(lines)


def _groups(result: ScoreCalibration) -> str:
    if result.unit == "identities":
        return f"{result.identities} identities in {result.groups} groups that share nobody"
    if result.unit == "stretches":
        return f"consecutive frames of {result.groups} cameras"
    return f"{result.groups} {result.unit}"


def _draw(result: ScoreCalibration, out: Path) -> None:
    from personsearch.benchmarks.report.charts import Curve, curve_panel, standalone
    from personsearch.core.files import atomic_file

    places = [one.threshold for one in result.figures]
    series = {"precision": [one.precision for one in result.figures], "recall": [one.recall for one in result.figures]}
    series["F1"] = [one.f1 for one in result.figures]
    if result.figures[0].mean_ap is not None:
        series["mAP"] = [one.mean_ap or 0.0 for one in result.figures]
    curves = [Curve(name, places, ys, ys, ys, colour) for colour, (name, ys) in enumerate(series.items())]
    chart = curve_panel(
        curves,
        x_label="score threshold",
        y_label="percent",
        description="Search and detection figures against the score threshold",
        chosen=result.threshold,
    )
    with atomic_file(out) as part:
        part.write_text(standalone(chart), encoding="utf-8")
