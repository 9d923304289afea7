"""The record of a measurement: the number, its unit, what it was measured on and how to repeat it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydantic import Field

from personsearch.benchmarks.machine import Machine, describe_machine
from personsearch.core.errors import InputError
from personsearch.core.files import write_json
from personsearch.core.recipe import StrictModel, validate


class Figure(StrictModel):
    """A number that is never without its unit; shares have the unit ``share``."""

    value: float = Field(allow_inf_nan=False)
    unit: str = Field(min_length=1)


class Result(StrictModel):
    """One measurement of one subject, as it is kept under ``benchmarks/results``."""

    kind: str = Field(pattern=r"^[a-z]+$", description="accuracy, reentry, flops, latency or evaluator")
    subject: str = Field(min_length=1, description="checkpoint, artifact or recipe, by its bare name")
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$", description="of the weights; empty where there are none")
    figures: dict[str, Figure] = Field(min_length=1)
    settings: dict[str, str] = Field(description="what else the figures depend on: data set, threshold, threads")
    machine: Machine
    command: str
    created: str = Field(description="ISO date and time, UTC")


def make_result(
    kind: str,
    subject: str,
    figures: Mapping[str, tuple[float, str]],
    *,
    sha256: str = "",
    settings: Mapping[str, str] | None = None,
    arguments: Sequence[str],
) -> Result:
    """A record of now and here.

    Args:
        kind: what was measured.
        subject: what it was measured on.
        figures: value and unit under each name.
        sha256: of the weights.
        settings: what else the figures depend on.
        arguments: the command's words; paths outside the working folder are cut to their last part.
    """
    return Result(
        kind=kind,
        subject=subject,
        sha256=sha256,
        figures={name: Figure(value=value, unit=unit) for name, (value, unit) in figures.items()},
        settings=dict(settings or {}),
        machine=describe_machine(),
        command=" ".join(["personsearch", *(_without_place(word) for word in arguments)]),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def write_result(result: Result, folder: Path) -> Path:
    """Writes ``<kind>-<subject>.json`` into ``folder``, replacing the older record of the same subject."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{result.kind}-{result.subject}")
    path = folder / f"{name}.json"
    write_json(path, result.model_dump(mode="json"))
    return path


def read_results(folder: Path) -> list[Result]:
    """Every record of a folder, by file name.

    Raises:
        InputError: a file is not a record.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError("is not JSON", where=str(path), remedy=str(error)) from None
        results.append(validate(Result, content, where=str(path)))
    return results


def _without_place(word: str) -> str:
    # An absolute path tells where somebody's files lie and repeats nowhere else; its last part tells what it was.
    return Path(word).name if os.path.isabs(word) else word
