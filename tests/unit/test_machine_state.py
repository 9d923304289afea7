"""The machine's state from a made-up sysfs: what is there is read, what is missing or broken is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from personsearch.benchmarks.machine_state import MachineState, read_state, state_settings


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = "sys/devices/system/cpu"
    put(
        tmp_path,
        {
            **{f"{cpu}/cpu{n}/cpufreq/scaling_cur_freq": f"{khz}\n" for n, khz in ((0, 1510400), (1, 729600), (10, 1))},
            **{f"{cpu}/cpu{n}/cpufreq/scaling_max_freq": "1510400\n" for n in (0, 1, 10)},
            **{f"{cpu}/cpu{n}/cpufreq/scaling_governor": "schedutil\n" for n in (0, 1, 10)},
            f"{cpu}/cpufreq/boost": "1",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "50000\n",
            "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
            "sys/class/thermal/thermal_zone2/temp": "-256000\n",
            "sys/class/thermal/thermal_zone10/type": "gpu-thermal\n",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\nmore\n",
        },
    )
    tool = tmp_path / "bin/nvpmodel"
    put(tmp_path, {"bin/nvpmodel": "#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n"})
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    state = read_state(tmp_path)
    assert state.clock_mhz == (1510, 730, 0)
    assert state.governor == "schedutil"
    assert state.temperature_c == {"cpu-thermal": 48.5, "cpu-thermal 1": 50.0}
    assert state.power_mode == "NV Power Mode: 15W, 0"
    assert state.board_release == "# R36 (release), REVISION: 4.3"
    later = state.model_copy(update={"clock_mhz": (730, 730, 730), "temperature_c": {"cpu-thermal": 71.2}})
    settings = state_settings(state, later)
    assert settings["clocks"] == "0 to 1510 MHz before, 730 MHz after of at most 1510"
    assert settings["temperatures"] == "cpu-thermal 48 C to 71 C"
    assert settings["power_mode"] == "NV Power Mode: 15W, 0"


def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = read_state(tmp_path)
    assert (state.clock_mhz, state.governor, state.temperature_c, state.power_mode) == ((), "", {}, "")
    settings = state_settings(MachineState(), MachineState())
    assert set(settings.values()) == {"not readable here"}
