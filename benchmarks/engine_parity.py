"""The parity gate on the machine where an artifact runs: its engines against its graphs under ONNX Runtime.

A device has no checkpoint and often no torch, but engines of its own, which the machine that exported could not run.
They are held to the same limits; the reference is ONNX Runtime, and what tells its ties is ONNX Runtime without
optimisations, another correct implementation of the same graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.engine_names import ENGINES, engine_name, require_library
from personsearch.core.errors import InputError
from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.manifest import Manifest, load_artifact
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.export.end_figures import LabelledImages, labelled_images
from personsearch.export.gate import Candidate, Reference, gate_steps, run_gate
from personsearch.export.gate_frames import GateFrame, dataset_gate_frames, drawn_gate_frames
from personsearch.export.onnx_graphs import OnnxGraphs
from personsearch.export.rows import Graphs, Rows
from personsearch.export.split_graphs import joining, split_onnx
from personsearch.runtime import Engine, open_engine

REFERENCE = "onnxruntime"
NO_CHECKPOINT = "torch: no checkpoint is asked; the reference is ONNX Runtime on the artifact's own graphs"


class EngineGraphs:
    """`personsearch.export.rows.Graphs` of a loaded engine.

    Args:
        engine: opened with score threshold 0, so that every used row of the graph comes back.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def search(self, frame: Frame) -> Rows:
        """The people in a letterboxed frame: of the network's input size, so that nothing is letterboxed again."""
        found = self._engine.infer([frame])[0]
        return Rows(found.boxes_xyxy, found.scores, found.embeddings)

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """``(Q, D)`` embeddings of ``(Q, 4)`` boxes; D is 0 for a detector."""
        if not self._engine.spec.embedding_dim:
            return np.zeros((len(boxes), 0), np.float32)
        return self._engine.embed(frame, boxes)


def check_engines(
    artifact: Path,
    engines: Sequence[str] | None = None,
    *,
    data: Path | None = None,
    recipe: GateRecipe | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Runs the gate on an artifact's engines.

    Args:
        artifact: the folder.
        engines: of `personsearch.core.engine_names.ENGINES`; none for all that can run here.
        data: data set whose frames are looked at, and labels for the end figures; never its test split. Without it
            frames are drawn and the end figures do not run.
        recipe: limits; none for the defaults.
        threads: CPU threads of an engine.

    Returns:
        As `personsearch.export.gate.run_gate`.

    Raises:
        InputError: not an artifact, an engine that was named cannot run here, or none can.
    """
    manifest, recipe = load_artifact(artifact), recipe or GateRecipe()
    candidates, not_run = _candidates(artifact, manifest, engines, threads)
    labelled = None if data is None else labelled_images(data, manifest.preprocess, recipe.images)
    frames = _frames(manifest, labelled, recipe.frames)
    reference = Reference(
        [_reference(artifact, manifest, optimised=optimised) for optimised in (True, False)],
        manifest.score_threshold,
        manifest.query_boxes,
        name=f"{REFERENCE} {manifest.precision}",
    )
    images = 0 if labelled is None else len(labelled)
    with StageProgress("parity gate", gate_steps(len(candidates), len(frames), images)) as progress:
        return run_gate(
            reference,
            candidates,
            frames,
            recipe,
            frames_from="drawn" if labelled is None else labelled.dataset.name,
            labelled=labelled,
            not_run=[NO_CHECKPOINT, *not_run],
            advance=progress.advance,
        )


def _reference(artifact: Path, manifest: Manifest, *, optimised: bool) -> Graphs:
    """The artifact's graphs under ONNX Runtime, whatever their layout."""
    if manifest.split is None:
        return OnnxGraphs(artifact, optimised=optimised)
    join = joining(
        manifest.split,
        input_wh=manifest.preprocess.input_wh,
        rows=manifest.max_detections,
        embedding_dim=manifest.embedding_dim,
    )
    return split_onnx(artifact, join, optimised=optimised)


def _frames(manifest: Manifest, labelled: LabelledImages | None, count: int) -> list[GateFrame]:
    if labelled is None:
        return drawn_gate_frames(manifest.preprocess, count)
    return dataset_gate_frames(labelled.dataset, manifest.preprocess, count)


def _candidates(
    artifact: Path, manifest: Manifest, engines: Sequence[str] | None, threads: int | None
) -> tuple[list[Candidate], list[str]]:
    """Engines that open here; one that was named and does not is bad input, any other is noted."""
    candidates, not_run = [], []
    for name in engines or [name for name in ENGINES if name != REFERENCE]:
        try:
            require_library(engine_name(name))
            engine = open_engine(artifact, threads, engine=name, score_threshold=0.0)
        except InputError as error:
            if engines:
                raise
            not_run.append(f"{name}: {error}")
            continue
        label = engine.label.split(",")[0]
        candidates.append(Candidate(label, manifest.precision, partial(EngineGraphs, engine)))
    if not candidates:
        raise InputError(
            "no other engine than ONNX Runtime can run here",
            where=str(artifact),
            expected="one to compare with it",
            remedy="; ".join(not_run),
        )
    return candidates, not_run
