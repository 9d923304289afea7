"""``recipe.yaml`` and ``run.json``: enough to say later where a checkpoint came from."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file, write_json
from personsearch.core.recipe import dump_recipe, recipe_hash
from personsearch.train.checkpoint import RunIdentity

RECORD_NAME = "run.json"


class RunRecord:
    """Writes ``recipe.yaml`` at once and ``run.json`` when asked.

    Args:
        run_dir: the run folder, which exists.
        identity: recipe and data.
        facts: more to record, plain data.
    """

    def __init__(self, run_dir: Path, identity: RunIdentity, facts: dict[str, Any]) -> None:
        self._path = run_dir / RECORD_NAME
        with atomic_file(run_dir / "recipe.yaml") as part:
            part.write_text(dump_recipe(identity.recipe), encoding="utf-8")
        self._content = {
            "kind": identity.kind,
            "name": identity.recipe.name,
            "recipe_hash": recipe_hash(identity.recipe),
            "seed": identity.recipe.seed,
            "person_count": identity.person_count,
            "data": [entry.model_dump(mode="json", exclude_none=True) for entry in identity.data],
            "versions": _versions(),
            "machine": _machine(),
            **facts,
        }

    def write(self, *, epoch: int, step: int, wall_s: float) -> None:
        """Replaces ``run.json``.

        Args:
            epoch: epochs completed.
            step: steps taken.
            wall_s: seconds spent on the run so far, over all resumes, up to its last completed epoch.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        progress = {"epochs_done": epoch, "steps_done": step, "wall_s": round(wall_s, 1), "written": now}
        write_json(self._path, {**self._content, **progress})


def previous_record(run_dir: Path) -> dict[str, Any]:
    """``run.json`` of the run to be resumed, empty where it has none.

    Raises:
        InputError: the file is not a run record.
    """
    path = run_dir / RECORD_NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("wall_s"), float):
        raise InputError("is not a run record", where=str(path), remedy="remove it and resume again")
    return content


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}  # with its CUDA build
    for name in ("edge-person-search", "torchvision", "lightning", "numpy", "opencv-python"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": platform.platform(),
    }
