"""``personsearch bench peers``: our engines beside our teacher and beside what a user would take today."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, Save, Threads, keep_record, parse_size
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.peers_systems import PairSpec


def peers(
    student: Annotated[
        list[str], typer.Argument(help="Artifacts as ARTIFACT or ARTIFACT@ENGINE, in every precision to compare.")
    ],
    own: Annotated[str | None, typer.Option(help="Checkpoint of the student, run by torch: CHECKPOINT@eager.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Checkpoint of the teacher: CHECKPOINT@eager, CHECKPOINT@compiled.")
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PRESET:DETECTOR,PRESET:REID, such as intel=retail-0013:a.xml,retail-0288:b.xml."),
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Video or folder of images, never of test: time every pair in int8 as well.")
    ] = None,
    calibration_frames: Annotated[int, typer.Option(min=16, help="Frames of it.")] = 64,
    plain_detector: Annotated[
        bool, typer.Option(help="Time torchvision's Faster R-CNN R50-FPN, random weights.")
    ] = True,
    data: Annotated[Path | None, typer.Option(help="Labelled data set for search mAP and detection AP.")] = None,
    split: Annotated[str, typer.Option(help="Split of it.")] = "test",
    time_only: Annotated[
        list[str] | None,
        typer.Option(help="System that is timed and not scored, by its name in the table: weights without training."),
    ] = None,
    people: Annotated[str, typer.Option(help="People in view, one series each.")] = "1,5,15",
    size: Annotated[str, typer.Option(help="Size of the frames, WIDTHxHEIGHT.")] = "768x576",
    frames: Annotated[int, typer.Option(min=1, help="Distinct generated frames of a series.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Frames timed in each process.")] = 100,
    restarts: Annotated[int, typer.Option(min=1, help="Processes of each system, one after the other.")] = 3,
    name: Annotated[str, typer.Option(help="Of the record.")] = "street",
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time and score systems side by side in one run, and say which targets are met.

    A pair embeds exactly as many crops as there are people in view, whether its detector finds them or not.

    Example: personsearch bench peers artifacts/street@onnxruntime artifacts/street@openvino --own runs/street@eager
    """
    from personsearch.benchmarks.named_systems import SystemSpec, parse_systems
    from personsearch.benchmarks.peers import PeersPlan, Role, measure_peers
    from personsearch.benchmarks.peers_report import peers_content, peers_record, peers_text
    from personsearch.benchmarks.peers_systems import parse_pair

    plan = PeersPlan(
        people=_counts(people), frame_wh=parse_size(size), frames=frames, rounds=rounds, restarts=restarts,
        threads=threads,
    )  # fmt: skip
    ours: dict[Role, list[SystemSpec]] = {"student": list(parse_systems(student).values())}
    checkpoints = {"own checkpoint": [own] if own else [], "teacher": teacher or []}
    for role, texts in checkpoints.items():
        ours[role] = list(parse_systems(texts).values())  # type: ignore[index]  # both keys are roles
    if any(not spec.is_artifact for spec in ours["student"]):
        raise InputError("a student is an artifact here", remedy="name its checkpoint with `--own`")
    if plain_detector or own or teacher:
        require("torch", "train", "running a checkpoint or torchvision's detector")
    pairs = [parse_pair(text) for text in pair or []]
    dataset = None
    if data is not None:
        from personsearch.data import open_dataset

        dataset = open_dataset(data, split)
    with tempfile.TemporaryDirectory() as folder:
        if calibration is not None:
            pairs += _quantised(pairs, calibration, calibration_frames, Path(folder))
        report = measure_peers(
            ours, pairs, plan, plain_detector=plain_detector, dataset=dataset, split=split, time_only=time_only or ()
        )
    if save is not None:
        figures, settings = peers_record(report)
        keep_record("peers", name, figures, "", settings, save)
    typer.echo(json.dumps(peers_content(report), indent=2) if as_json else peers_text(report))


def _quantised(pairs: list[PairSpec], source: str, count: int, folder: Path) -> list[PairSpec]:
    from personsearch.benchmarks.frame_feed import FrameFeed
    from personsearch.benchmarks.peers_quantise import quantise_pair

    feed = FrameFeed(source)
    try:
        available = feed.frame_count
        frames, _ = feed.take(count if available is None else min(count, available))
    finally:
        feed.close()
    return [quantise_pair(pair, frames, folder) for pair in pairs]


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"people is `{text}`", expected="numbers of people in view, such as 1,5,15")
    return tuple(dict.fromkeys(int(part) for part in parts))
