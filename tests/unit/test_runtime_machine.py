"""The doctor: says what is, and fails only when the base runtime does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runtime_stub as stub
import typer
from typer.testing import CliRunner

from personsearch.cli.doctor import doctor
from personsearch.core.cuda_driver import probe_cuda
from personsearch.runtime import engine, machine

app = typer.Typer()
app.command("doctor")(doctor)


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose shipped artifacts are in an empty folder."""
    monkeypatch.setattr(engine, "files", lambda package: tmp_path)
    return tmp_path


def report() -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(app, ["--json"])
    return result.exit_code, json.loads(result.stdout)


def test_without_an_artifact_the_base_runtime_works(artifacts: Path) -> None:
    code, content = report()
    assert (code, content["works"], content["problems"]) == (0, True, [])
    # JSON, checked by what it holds.
    assert content["engines"]["onnxruntime cpu"] == {"runs": True, "problem": ""}  # type: ignore[index]
    # JSON, checked by what it holds.
    assert "no artifact is shipped" in content["artifact"]["problem"]  # type: ignore[index]


def test_a_good_artifact_is_run(artifacts: Path) -> None:
    stub.write_artifact(artifacts / "small")
    (artifacts / "default.json").write_text('{"artifact": "small"}')
    code, content = report()
    assert (code, content["artifact"]) == (0, {"name": "small", "problem": ""})
    assert "small: hashes match" in CliRunner().invoke(app, []).stdout


def test_a_changed_artifact_is_a_problem(artifacts: Path) -> None:
    stub.write_artifact(artifacts / "small")
    (artifacts / "small" / "query.onnx").write_bytes(b"changed")
    (artifacts / "default.json").write_text('{"artifact": "small"}')
    code, content = report()
    assert (code, content["works"]) == (1, False)
    text = CliRunner().invoke(app, [])
    assert text.exit_code == 1
    assert "SHA-256" in text.stdout


def test_extras_name_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine,
        "requires",
        lambda name: [
            "numpy>=1.26",
            "no-such-package>=2; extra == 'train'",
            "numpy>=1; extra == 'train'",
            'edge-person-search[train]; extra == "dev"',
            "pytest>=8; python_version > '3' and extra == \"dev\"",
        ],
    )
    assert machine.installed_extras() == (
        machine.Extra("train", ("no-such-package",)),
        machine.Extra("dev", ()),
    )


def test_cuda_probe_gives_devices_or_the_reason() -> None:
    found = probe_cuda()
    assert bool(found.devices) != bool(found.problem)


def test_cores_and_memory_are_plausible() -> None:
    assert machine.usable_cores() >= 1
    assert machine.memory_bytes() > 2**28
