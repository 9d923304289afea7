"""``personsearch doctor``: what is installed, what can run here, what is missing and how to get it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from personsearch.runtime.machine import MachineReport


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Say what is installed, what can run here, what is missing and how to get it.

    Example: personsearch doctor --json

    Exit code: 0 when the base runtime (`personsearch stream` on the CPU) works, 1 when it does not.
    """
    from personsearch.runtime.machine import as_dict, inspect_machine

    report = inspect_machine()
    typer.echo(json.dumps(as_dict(report), indent=2) if as_json else describe(report))
    if report.problems:
        raise typer.Exit(1)


def describe(report: MachineReport) -> str:
    """The report for people; each line starts with ``ok``, ``--`` (optional, not there) or ``!!`` (a problem)."""
    lines = [
        _line("ok", "versions", ", ".join(f"{name} {number}" for name, number in report.versions.items())),
        _line("ok", "machine", f"{report.system}, {report.cores} cores, {report.memory_gib:g} GiB"),
        _line(
            "ok" if report.video["ffmpeg"] == "yes" else "!!",
            "video in",
            f"FFmpeg {report.video['ffmpeg']}, GStreamer {report.video['gstreamer']}, V4L {report.video['v4l/v4l2']}",
        ),
        _line(
            "ok" if report.video["mp4_codec"] else "!!",
            "video out",
            f"{report.video['mp4_codec'] or 'no codec'} "
            f"(tried {report.video['mp4_codecs_tried']}: written and read back)",
        ),
    ]
    for name, problem in report.engines.items():
        lines.append(_line("--" if problem else "ok", name, problem or "runs"))
    cuda = report.cuda
    devices = zip(cuda.devices, cuda.compute_capabilities, strict=True)
    found = ", ".join(f"{name} (compute capability {capability})" for name, capability in devices)
    lines.append(_line("--" if cuda.problem else "ok", "CUDA driver", cuda.problem or f"{cuda.version}: {found}"))
    lines.append(_line("ok", "engine cache", f"{report.engine_cache}: {report.cached_engines} engines"))
    for extra in report.extras:
        install = f"lacks {', '.join(extra.missing)}: pip install 'edge-person-search[{extra.name}]'"
        mark, status = ("--", install) if extra.missing else ("ok", "installed")
        lines.append(_line(mark, f"extra [{extra.name}]", status))
    artifact = report.artifact
    if artifact.name:
        status = artifact.problem or "hashes match, runs on a blank frame"
        lines.append(_line("!!" if artifact.problem else "ok", "artifact", f"{artifact.name}: {status}"))
    else:
        lines.append(_line("--", "artifact", artifact.problem))
    lines += [_line("!!", "problem", problem) for problem in report.problems]
    lines.append("The base runtime works." if not report.problems else "The base runtime does not work.")
    return "\n".join(lines)


def _line(mark: str, name: str, text: str) -> str:
    return f"{mark}  {name:<18} {text}"
