"""What a run tells while it goes on: the progress bar, the metrics and the record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from personsearch.core.progress import StageProgress
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.metrics import MetricsLog
from personsearch.train.record import RunRecord, previous_record
from personsearch.train.run_folder import clear_leftovers


class RunReport:
    """Everything a run writes but its checkpoint; use as a context manager, in one process only.

    Args:
        run_dir: the run folder, made where it is missing.
        identity: recipe and data.
        facts: more for ``run.json``.
        epoch: epochs completed before.
        step: steps taken before.
        total_steps: of the whole run.
    """

    def __init__(
        self, run_dir: Path, identity: RunIdentity, facts: dict[str, Any], *, epoch: int, step: int, total_steps: int
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        clear_leftovers(run_dir)
        previous = previous_record(run_dir) if step else {}
        self._started, self._wall_before_s = time.monotonic(), float(previous.get("wall_s", 0.0))
        started_from: dict[str, Any] = {
            name: previous[name] for name in ("init_from", "init_from_sha256") if name in previous
        }
        self._record = RunRecord(run_dir, identity, {**started_from, **facts})
        self._log = MetricsLog(run_dir, step=step, total_steps=total_steps)
        self._progress = StageProgress(f"{identity.kind} {identity.recipe.name}", total_steps - step)
        self._epochs = identity.recipe.epochs
        self.epoch_done(epoch, step)

    def __enter__(self) -> RunReport:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        self._log.close()

    def step_done(self, step: int, epoch: int, lr: float, parts: Mapping[str, float], images_per_s: float) -> None:
        """One step's figures; arguments as `MetricsLog.write`."""
        self._log.write(step, epoch, lr, parts, images_per_s)
        self._progress.advance(note=f"epoch {epoch}/{self._epochs} loss {parts['loss']:.4g}")

    def epoch_done(self, epoch: int, step: int) -> None:
        """Renews ``run.json``; both count what is completed and saved."""
        wall_s = self._wall_before_s + time.monotonic() - self._started
        self._record.write(epoch=epoch, step=step, wall_s=wall_s)
