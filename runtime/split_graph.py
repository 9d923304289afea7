"""Scene and person graph joined by the host: a frame in which nobody is costs no person work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.runtime.graph import Array, Graph, TensorSpec, check_graph

_FRAMES = "frames"
_EMBEDDINGS = "embeddings"


class SplitGraph:
    """Two graphs as one search graph of one frame.

    The scene graph gives ``boxes``, ``scores`` and whatever the person graph reads; the person graph reads ``frames``
    or outputs of the scene graph by their names and gives ``embeddings``, and better ``boxes`` and ``scores`` where it
    refines them. Where no score reaches the threshold the person graph is not run and the embeddings are zeros, which
    no detection refers to.

    Args:
        scene: see above.
        person: see above.
        threshold: of scores. Where the person graph refines them, any score above 0 has it run.
        path: of the person graph, for messages.

    Raises:
        InputError: the person graph reads what the scene graph does not give.
    """

    max_batch: int | None = None

    def __init__(self, scene: Graph, person: Graph, threshold: float, path: Path) -> None:
        given = {**scene.inputs, **scene.outputs}
        check_graph(
            person,
            path,
            inputs={name: given[name] for name in person.inputs if name in given},
            outputs=person.outputs,
        )
        if not {"boxes", "scores"} <= scene.outputs.keys() or _EMBEDDINGS not in person.outputs:
            raise InputError(
                "the two graphs together give no boxes, scores and embeddings",
                where=str(path),
                remedy="export the artifact again",
            )
        self._scene, self._person = scene, person
        unused = float(np.finfo(np.float32).tiny)
        self._threshold = unused if "scores" in person.outputs else max(threshold, unused)
        self.inputs: Mapping[str, TensorSpec] = {_FRAMES: scene.inputs[_FRAMES]}
        together = {**scene.outputs, **person.outputs}
        self.outputs: Mapping[str, TensorSpec] = {name: together[name] for name in ("boxes", "scores", _EMBEDDINGS)}

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        found = dict(self._scene.run(feeds))
        # Not below, rather than at least: NaN is left to the caller's check, not passed over as an empty street.
        if (found["scores"] < self._threshold).all():
            return {**found, **self._no_embeddings()}
        given = {**feeds, **found}
        return {**found, **self._person.run({name: given[name] for name in self._person.inputs})}

    def close(self) -> None:
        self._scene.close()
        self._person.close()

    def _no_embeddings(self) -> dict[str, Array]:
        spec = self.outputs[_EMBEDDINGS]
        return {_EMBEDDINGS: np.zeros([side or 1 for side in spec.shape], np.dtype(spec.dtype))}
