"""Scene and person graph joined by the host, as one search graph: an empty street costs no person work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.manifest import Manifest
from personsearch.core.split import SplitSearch
from personsearch.runtime.graph import Array, Graph, TensorSpec, check_graph

_FRAMES = "frames"


class SplitGraph:
    """Two graphs as one search graph of one frame; see `personsearch.core.split`.

    Args:
        scene: frames to proposals, objectness and feature map.
        person: feature map and P boxes to margins, refined boxes and embeddings.
        manifest: its ``split`` says how they are joined. Rows below its score threshold are unused in the answer.
        path: of the artifact, for messages.

    Raises:
        InputError: the manifest does not say how, or the graphs do not fit to it or to each other.
    """

    max_batch: int | None = None

    def __init__(self, scene: Graph, person: Graph, manifest: Manifest, path: Path) -> None:
        settings, rows, dim = manifest.split, manifest.max_detections, manifest.embedding_dim
        if settings is None:
            raise InputError(
                "layout split, but the manifest does not say how the graphs are joined (`split`)",
                where=str(path),
                remedy="export the artifact again",
            )
        _check(scene, person, manifest, path)
        self._scene, self._person = scene, person
        self._split = SplitSearch(
            scene.run,
            person.run,
            settings,
            manifest.preprocess.input_wh,
            rows,
            dim,
            manifest.score_threshold,
        )
        self.inputs: Mapping[str, TensorSpec] = {_FRAMES: scene.inputs[_FRAMES]}
        self.outputs: Mapping[str, TensorSpec] = {
            "boxes": TensorSpec("float32", (1, rows, 4)),
            "scores": TensorSpec("float32", (1, rows)),
            **({"embeddings": TensorSpec("float32", (1, rows, dim))} if dim else {}),
        }

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        answer = self._split.search(feeds[_FRAMES])
        return {name: rows[None] for name, rows in zip(self.outputs, answer, strict=False)}

    def embed(self, frames: Array, boxes: FloatArray) -> FloatArray:
        """Unit embeddings ``(N, D)`` of boxes ``(N, 4)``, input pixels, on one frame ``(1, H, W, 3)``."""
        return self._split.embed(frames, boxes)

    def close(self) -> None:
        self._scene.close()
        self._person.close()


def _check(scene: Graph, person: Graph, manifest: Manifest, path: Path) -> None:
    width, height = manifest.preprocess.input_wh
    count = manifest.split.person_boxes if manifest.split is not None else None
    embeddings = (
        {"embeddings": TensorSpec("float32", (1, count, manifest.embedding_dim))} if manifest.embedding_dim else {}
    )
    check_graph(
        scene,
        path / manifest.graphs["scene"].file,
        inputs={_FRAMES: TensorSpec("uint8", (1, height, width, 3))},
        outputs={
            "proposals": TensorSpec("float32", (1, None, 4)),
            "objectness": TensorSpec("float32", (1, None)),
            "feature": TensorSpec("float32", (1, None, None, None)),
        },
    )
    check_graph(
        person,
        path / manifest.graphs["person"].file,
        inputs={"feature": scene.outputs["feature"], "boxes": TensorSpec("float32", (1, count, 4))},
        outputs={
            "margins": TensorSpec("float32", (1, count)),
            "refined": TensorSpec("float32", (1, count, 4)),
            **embeddings,
        },
    )
