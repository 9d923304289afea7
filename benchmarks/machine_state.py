"""What a machine does while something is timed: clocks, governor, power mode, temperatures, load.

`benchmarks.machine` says what it is; this says in which state. Everything is read from files or from tools that are
there; what cannot be read is left out, never guessed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from personsearch.core.recipe import StrictModel

ROOT = Path("/")
_TOOL_S = 5.0


class MachineState(StrictModel):
    """One moment."""

    load: float | None = None
    clock_mhz: tuple[int, ...] = ()
    clock_limit_mhz: tuple[int, ...] = ()
    governor: str = ""
    power_mode: str = ""
    board_release: str = ""
    temperature_c: dict[str, float] = Field(default_factory=dict)
    gpu: str = ""


def read_state(root: Path = ROOT) -> MachineState:
    """Reads the state from ``sys`` and ``etc`` under ``root``, ``nvpmodel`` and NVML where they are there."""
    cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    policies = [core / "cpufreq" for core in cores if (core / "cpufreq").is_dir()]
    governors = sorted({text for policy in policies if (text := _text(policy / "scaling_governor"))})
    return MachineState(
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        clock_mhz=tuple(_mhz(policy / "scaling_cur_freq" for policy in policies)),
        clock_limit_mhz=tuple(_mhz(policy / "scaling_max_freq" for policy in policies)),
        governor=", ".join(governors),
        power_mode=_power_mode(),
        board_release=_text(root / "etc/nv_tegra_release").split("\n")[0],
        temperature_c=_temperatures(root / "sys/class/thermal"),
        gpu=_gpu(),
    )


def state_settings(before: MachineState, after: MachineState) -> dict[str, str]:
    """Both states as the settings of a record; what the machine does not tell is named as such."""
    unreadable = "not readable here"
    hot = {name: (before.temperature_c.get(name), value) for name, value in after.temperature_c.items()}
    settings = {
        "load_before": unreadable if before.load is None else f"load average {before.load:.2f}",
        "load_after": unreadable if after.load is None else f"load average {after.load:.2f}",
        "governor": before.governor or unreadable,
        "clocks": _clocks(before, after) or unreadable,
        "temperatures": ", ".join(
            f"{name} {_degrees(first)} to {_degrees(last)}" for name, (first, last) in hot.items()
        )
        or unreadable,
        "power_mode": before.power_mode or unreadable,
    }
    if before.board_release:
        settings["board_release"] = before.board_release
    if before.gpu or after.gpu:
        settings["gpu"] = f"before: {before.gpu}; after: {after.gpu}"
    return settings


def _clocks(before: MachineState, after: MachineState) -> str:
    if not before.clock_mhz:
        return ""
    limit = f" of at most {max(before.clock_limit_mhz)}" if before.clock_limit_mhz else ""
    return f"{_span(before.clock_mhz)} MHz before, {_span(after.clock_mhz)} MHz after{limit}"


def _span(values: tuple[int, ...]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _degrees(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f} C"


def _mhz(paths: Iterator[Path]) -> Iterator[int]:
    for path in paths:
        text = _text(path)  # kHz
        if text.isdecimal():
            yield round(int(text) / 1000)


def _temperatures(folder: Path) -> dict[str, float]:
    """Degrees of every thermal zone; zones of one name are numbered."""
    found: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*"), key=lambda path: int(path.name[len("thermal_zone") :])):
        text = _text(zone / "temp")  # a thousandth of a degree
        # Jetson's zones of parts that are switched off answer with an error, or with -256 degrees.
        if re.fullmatch(r"-?\d+", text) and int(text) > -100_000:
            name = _text(zone / "type") or zone.name
            found[name if name not in found else f"{name} {zone.name[len('thermal_zone') :]}"] = int(text) / 1000
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _power_mode() -> str:
    """What ``nvpmodel -q`` says on a Jetson, in one line."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def _gpu() -> str:
    """Clocks, temperature and why an NVIDIA GPU throttles, where NVML is installed and answers."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        # No library, no driver or one that does not answer: then there is nothing to tell about a GPU.
        return ""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        clock = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
        heat = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return f"SM {clock} MHz, {heat} C, throttle reasons 0x{reasons:x}"
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()
