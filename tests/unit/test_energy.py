"""Joules a frame: sensors read from a made-up sysfs, areas under power worked by hand, refusals."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from runtime_stub import write_artifact
from typer.testing import CliRunner

from personsearch.benchmarks.energy import Drawn, Recorder, Stretch, energy_of, measure_energy, summarise_energy
from personsearch.benchmarks.latency_records import LatencyPlan, Opened
from personsearch.benchmarks.named_systems import open_spec, parse_system
from personsearch.benchmarks.power_sensors import NvmlSensor, find_sensors, require_sensors
from personsearch.cli.bench import app
from personsearch.core.errors import InputError

ORIN = "sys/class/hwmon/hwmon3"
XAVIER = "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
RAPL = "sys/class/powercap"


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def orin_nano(root: Path) -> None:
    put(
        root,
        {
            "sys/class/hwmon/hwmon0/name": "tmp451\n",
            f"{ORIN}/name": "ina3221\n",
            f"{ORIN}/in1_label": "VDD_IN\n",
            f"{ORIN}/in1_input": "5000\n",
            f"{ORIN}/curr1_input": "1400\n",
            f"{ORIN}/in2_label": "VDD_CPU_GPU_CV\n",
            f"{ORIN}/in2_input": "5000\n",
            f"{ORIN}/curr2_input": "600\n",
            f"{ORIN}/in7_label": "sum of shunt voltages\n",
            f"{ORIN}/in7_input": "3\n",
        },
    )


def test_a_board_with_a_rail_for_its_whole_input(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    (sensor,), _ = find_sensors(tmp_path)
    assert (sensor.name, sensor.covers) == ("INA3221 VDD_IN", "the board's whole input")
    assert sensor.watts() == pytest.approx(7.0)  # 5 V times 1.4 A
    assert sensor.joules() is None
    (tmp_path / ORIN / "curr1_input").unlink()
    with pytest.raises(InputError, match="curr1_input: cannot be read"):
        sensor.watts()


def test_a_board_whose_rails_are_added_up(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            f"{XAVIER}/rail_name_0": "GPU\n",
            f"{XAVIER}/in_power0_input": "2500\n",
            f"{XAVIER}/rail_name_1": "CPU\n",
            f"{XAVIER}/in_power1_input": "1200\n",
            f"{XAVIER}/rail_name_2": "NC\n",
            f"{XAVIER}/in_power2_input": "9000\n",
        },
    )
    (sensor,), _ = find_sensors(tmp_path)
    assert sensor.watts() == pytest.approx(3.7)
    assert sensor.covers == "the sum of 2 rails, of which one may feed another"


def test_rapl_counts_on_when_its_register_starts_again(tmp_path: Path) -> None:
    for zone, name, start in (("intel-rapl:0", "package-0", 900), ("intel-rapl:0:0", "core", 1)):
        files = {"name": name, "energy_uj": str(start), "max_energy_range_uj": "1000"}
        put(tmp_path, {f"{RAPL}/{zone}/{file}": text for file, text in files.items()})
    (sensor,), _ = find_sensors(tmp_path)
    counter = tmp_path / RAPL / "intel-rapl:0/energy_uj"
    counter.write_text("950")
    assert sensor.joules() == pytest.approx(50e-6)
    counter.write_text("30")
    assert sensor.joules() == pytest.approx(130e-6)  # to 1000, and 30 more
    assert (sensor.name, sensor.watts()) == ("RAPL package-0", None)


def test_without_a_sensor_one_line_says_what_was_looked_for(tmp_path: Path) -> None:
    put(tmp_path, {f"{RAPL}/intel-rapl:0/name": "package-0", f"{RAPL}/intel-rapl:0/max_energy_range_uj": "9"})
    with pytest.raises(InputError, match="no power sensor can be read here") as refused:
        require_sensors(tmp_path)
    message = str(refused.value)
    assert "no INA3221 of a Jetson" in message
    assert "RAPL counters, but the system lets only the administrator read them" in message
    assert "\n" not in message


class Nvml:
    """The calls of NVIDIA's library that are used, on a GPU with or without an energy counter."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, counts: bool, tells: bool = True) -> None:
        self._counts, self._tells = counts, tells

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # NVIDIA's name
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"Board"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if not self._counts:
            raise self.NVMLError("Not Supported")
        return 12_500

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if not self._tells:
            raise self.NVMLError("Not Supported")
        return 41_000


def test_a_gpu_counts_or_tells_its_power_or_neither() -> None:
    counting, telling = NvmlSensor(Nvml(counts=True), 0), NvmlSensor(Nvml(counts=False), 0)
    assert (counting.joules(), counting.watts()) == (12.5, None)
    assert (telling.joules(), telling.watts()) == (None, 41.0)
    assert counting.name == "NVML Board"
    with pytest.raises(InputError, match="NVML Board: NVML tells neither its power nor its energy"):
        NvmlSensor(Nvml(counts=False, tells=False), 0)


def test_energy_is_the_area_under_power() -> None:
    # 10 W for a second, rising to 20 W in the next two: 10 + 30 joules.
    assert energy_of([(0.0, 10.0), (1.0, 10.0), (3.0, 20.0)]) == 40.0


def test_idle_is_subtracted_repetition_by_repetition(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    (sensor,), _ = find_sensors(tmp_path)

    def stretch(joules: float, seconds: float, frames: int) -> Stretch:
        drawn = Drawn(joules=joules, seconds=seconds, samples=101, counted=False)
        return Stretch(frames=frames, drawn={sensor.name: drawn})

    opened = Opened(runner="stub 1", sha256="", open_ms=1, first_ms=1, warmup=1, settled=True)
    idle = [stretch(40, 10, 0), stretch(60, 10, 0), stretch(50, 10, 0)]  # 4, 6 and 5 W
    work = [stretch(100, 10, 100), stretch(120, 10, 100), stretch(90, 9, 100)]
    found = summarise_energy("student", opened, sensor, idle, work)
    assert (found.gross_lowest, found.gross_j_per_frame, found.gross_highest) == pytest.approx((0.9, 1.0, 1.2))
    # 100 - 40, 120 - 60 and 90 - 45 joules, by a hundred frames.
    assert (found.net_lowest, found.net_j_per_frame, found.net_highest) == pytest.approx((0.45, 0.6, 0.6))
    assert (found.idle_w, found.load_w) == pytest.approx((5.0, 10.0))
    assert found.sampling_hz == pytest.approx(300 / 29)
    assert found.frames_per_s == pytest.approx(300 / 29)


def test_a_sensor_that_stops_telling_ends_the_measurement(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    sensors, _ = find_sensors(tmp_path)
    gone = tmp_path / ORIN / "curr1_input"
    with pytest.raises(InputError, match="curr1_input"), Recorder(sensors, rate_hz=100):  # noqa: PT012
        gone.unlink()
        time.sleep(0.2)


def test_a_system_at_work_beside_a_sensor(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    sensors, _ = find_sensors(tmp_path)
    artifact = write_artifact(tmp_path / "stub")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        cv2.imwrite(str(pictures / f"{number}.png"), np.full((48, 64, 3), 60 * number, np.uint8))
    plan = LatencyPlan(source=str(pictures), turn=3, threads=1, warmup_limit=1)
    makers = {"stub": (open_spec, (parse_system(str(artifact)), 1))}
    (found,) = measure_energy(makers, plan, sensors, seconds=0.1, idle_seconds=0.1, repeats=2, rate_hz=50)
    # The sensor always tells 7 W: nothing is left above idle, and gross is 7 W by the frames a second.
    assert found.idle_w == pytest.approx(7.0)
    assert found.net_j_per_frame == pytest.approx(0.0, abs=1e-9)
    assert found.frames >= 8
    assert found.gross_lowest <= 7.0 * 1 / found.frames_per_s <= found.gross_highest


@pytest.mark.skipif(
    any(Path(place).exists() for place in ("/sys/class/powercap", "/dev/nvidia0", "/sys/class/hwmon")),
    reason="this machine may have a power sensor",
)
def test_the_command_says_plainly_that_there_is_no_sensor(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "stub")
    with pytest.raises(InputError, match="no power sensor can be read here"):
        CliRunner().invoke(app, ["energy", str(artifact)], catch_exceptions=False)
    assert os.listdir(tmp_path) == ["stub"]
