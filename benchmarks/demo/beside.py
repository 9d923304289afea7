"""Training one network in a process of its own beside another.

The demo's networks are small enough that one core trains them as fast as two share the work: a second thread would
mostly wait, and on a busy machine two threads in step are ten times slower than one. The control needs no teacher,
so it takes the second core while the teacher trains on the first.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from personsearch.core.progress import StageProgress
from personsearch.core.recipes import TrainRecipe
from personsearch.train import run_training


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread; the number of threads is part of what makes figures repeat."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TrainingBeside:
    """A training run in a process of its own; its progress goes to ``<folder>.log``, to keep one bar on the screen.

    Use as a context manager: leaving it early (an error, Ctrl-C) ends the process.
    """

    def __init__(self, recipe: TrainRecipe, folder: Path) -> None:
        self._log = folder.with_suffix(".log")
        # A fresh interpreter: a fork would inherit torch's threads in whatever state they are.
        self._process = multiprocessing.get_context("spawn").Process(
            target=_train, args=(recipe.model_dump_json(), folder, self._log), daemon=False
        )

    def __enter__(self) -> TrainingBeside:
        self._process.start()
        return self

    def wait(self, title: str) -> None:
        """Returns when the run has ended.

        Raises:
            RuntimeError: it failed; the message ends with its last line.
        """
        if self._process.is_alive():
            with StageProgress(title, None) as progress:
                while self._process.is_alive():
                    self._process.join(timeout=1)
                    progress.advance(0, note=_last_line(self._log))
        self._process.join()
        if self._process.exitcode != 0:
            raise RuntimeError(f"{title} failed: {_last_line(self._log)}")

    def __exit__(self, *error: object) -> None:
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _train(recipe_json: str, folder: Path, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # The descriptor itself: warnings of native libraries go there as well.
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), sys.stderr.fileno())
    with one_thread():
        run_training(TrainRecipe.model_validate_json(recipe_json), folder)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else ""
