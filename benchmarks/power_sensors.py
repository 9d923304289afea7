"""Power that a machine draws, from whatever sensor it has: NVML, a Jetson's INA3221, Intel's RAPL counters.

Jetson: JetPack 5 and 6 show the INA3221 as hwmon (``in<n>_label``, ``in<n>_input`` in mV, ``curr<n>_input`` in mA),
JetPack 4 as iio (``rail_name_<n>``, ``in_power<n>_input`` in mW). A board with a rail for its whole input (``VDD_IN``,
``POM_5V_IN``) is read there; of one without, the rails are added up, which counts twice what one rail feeds into
another, and is said. RAPL counts microjoules in a register that starts again from zero; it covers the processor's
package, not the board.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError

ROOT = Path("/")
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
"""Rails through which a Jetson's whole input passes."""


class PowerSensor(ABC):
    """Something that draws power and can be asked how much."""

    name: str
    covers: str
    """What its figure is of, in words."""

    @abstractmethod
    def watts(self) -> float | None:
        """Now; none for a sensor that only counts."""

    @abstractmethod
    def joules(self) -> float | None:
        """Counted since some moment, rising; none for a sensor that only tells the present power."""


class InaSensor(PowerSensor):
    """The rails of a Jetson's INA3221 monitors.

    Args:
        rails: by name, the files of millivolts and milliamperes, or of milliwatts alone.
    """

    def __init__(self, rails: dict[str, tuple[Path, ...]]) -> None:
        whole = next((name for name in WHOLE_BOARD if name in rails), None)
        self._rails = rails if whole is None else {whole: rails[whole]}
        self.name = f"INA3221 {', '.join(self._rails)}"
        self.covers = (
            f"the sum of {len(rails)} rails, of which one may feed another"
            if whole is None
            else "the board's whole input"
        )

    def watts(self) -> float:
        total = 0.0
        for files in self._rails.values():
            values = [_number(path) for path in files]
            total += values[0] * values[1] / 1e6 if len(values) == 2 else values[0] / 1e3
        return total

    def joules(self) -> None:
        return None


class RaplSensor(PowerSensor):
    """Energy counters of the processor's packages.

    Args:
        zones: folders with ``energy_uj`` and ``max_energy_range_uj``.
    """

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_number(zone / "energy_uj") for zone in zones]
        self._counted = 0.0
        self.name = f"RAPL {', '.join(_text(zone / 'name') or zone.name for zone in zones)}"
        self.covers = "the processor's package, without the rest of the board"

    def watts(self) -> None:
        return None

    def joules(self) -> float:
        """Must be asked before a counter has gone round twice, which takes a minute at the least."""
        for index, zone in enumerate(self._zones):
            now = _number(zone / "energy_uj")
            gone = now - self._last[index]
            self._counted += gone if gone >= 0 else gone + self._ranges[index]
            self._last[index] = now
        return self._counted / 1e6


class NvmlSensor(PowerSensor):
    """An NVIDIA GPU by NVML: its energy counter where it has one, its present power otherwise.

    Args:
        nvml: the module ``pynvml``, initialised.
        index: of the GPU.

    Raises:
        InputError: the GPU has neither.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByIndex(index)
        label = nvml.nvmlDeviceGetName(self._handle)
        self.name = f"NVML {label.decode() if isinstance(label, bytes) else label}"
        self.covers = "the graphics board, without the processor"
        self._counts = self._can(nvml.nvmlDeviceGetTotalEnergyConsumption)
        if not self._counts and not self._can(nvml.nvmlDeviceGetPowerUsage):
            raise InputError("NVML tells neither its power nor its energy", where=self.name)

    def watts(self) -> float | None:
        return None if self._counts else self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3

    def joules(self) -> float | None:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3 if self._counts else None

    def _can(self, query: Any) -> bool:
        try:
            query(self._handle)
        except self._nvml.NVMLError:
            return False
        return True


def find_sensors(root: Path = ROOT) -> tuple[list[PowerSensor], list[str]]:
    """The sensors that can be read, and why each of the others cannot.

    Args:
        root: of ``sys``.
    """
    found: list[PowerSensor] = []
    missing: list[str] = []
    for look in (_find_ina, _find_rapl):
        sensor = look(root)
        if isinstance(sensor, str):
            missing.append(sensor)
        else:
            found.append(sensor)
    gpus, reason = _find_nvml()
    return found + gpus, [*missing, *([reason] if reason else [])]


def require_sensors(root: Path = ROOT) -> list[PowerSensor]:
    """`find_sensors`; an `InputError` where there is none, with what was looked for."""
    found, missing = find_sensors(root)
    if not found:
        raise InputError(
            f"no power sensor can be read here ({'; '.join(missing)})",
            remedy="energy is measured on a Jetson, an NVIDIA GPU or a processor whose RAPL counters may be read",
        )
    return found


def _find_ina(root: Path) -> InaSensor | str:
    rails: dict[str, tuple[Path, ...]] = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(folder / "name") != "ina3221":
            continue
        for label in sorted(folder.glob("in*_label")):
            number = label.name[len("in") : -len("_label")]
            files = folder / f"in{number}_input", folder / f"curr{number}_input"
            # Channel 7 of the chip is the sum of the others' shunts: it has no current of its own.
            if all(path.is_file() for path in files):
                rails[_text(label)] = files
    for label in sorted((root / "sys/bus/i2c/drivers").glob("ina3221x/*/iio:device*/rail_name_*")):
        rails[_text(label)] = (label.parent / f"in_power{label.name.rpartition('_')[2]}_input",)
    rails = {name: files for name, files in rails.items() if name and name != "NC" and _readable(files)}
    return InaSensor(rails) if rails else "no INA3221 of a Jetson"


def _find_rapl(root: Path) -> RaplSensor | str:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    packages = [zone for zone in zones if zone.name.count(":") == 1 and _text(zone / "name").startswith("package")]
    if not packages:
        return "no RAPL counters"
    if not all(_readable((zone / "energy_uj", zone / "max_energy_range_uj")) for zone in packages):
        return "RAPL counters, but the system lets only the administrator read them"
    return RaplSensor(packages)


def _find_nvml() -> tuple[list[PowerSensor], str]:
    try:
        import pynvml
    except ImportError:
        return [], "no NVML library: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], f"no NVIDIA driver ({error})"
    found: list[PowerSensor] = []
    reasons = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            found.append(NvmlSensor(pynvml, index))
        except InputError as error:
            reasons.append(str(error))
    return found, "; ".join(reasons) if reasons else "" if found else "no NVIDIA GPU"


def _readable(paths: Sequence[Path]) -> bool:
    try:
        for path in paths:
            _number(path)
    except InputError:
        return False
    return True


def _number(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError("cannot be read", where=str(path), expected="a number", remedy=str(error)) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""
