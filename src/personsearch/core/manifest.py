"""An artifact: a folder with ``manifest.json`` and one file a graph; ``export`` writes it, ``runtime`` reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import StrictModel, validate
from personsearch.core.split import SplitSettings

MANIFEST_NAME = "manifest.json"

EngineName = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
Int8Flavour = Literal["u8s8", "s8s8"]
GraphLayout = Literal["joined", "split"]
Pooling = Literal["matrix", "roi_align"]
_GRAPH_NAME = re.compile(r"(search|query|scene|person)(\.b[1-9][0-9]*)?")


def graph_name(kind: str, batch: int = 1) -> str:
    """Name of a graph in a manifest: its kind, and ``.bN`` where it takes N frames at a time (``search.b4``)."""
    return kind if batch == 1 else f"{kind}.b{batch}"


HeldOutUnit = Literal["split", "identities", "cameras", "stretches"]


class GraphFile(StrictModel):
    """One graph of an artifact.

    ``search``: ``frames`` uint8 (B, H, W, 3) BGR letterboxed in; ``boxes`` (B, K, 4) xyxy input pixels, ``scores``
    (B, K) descending, ``embeddings`` (B, K, D) unit rows out; an unused row has score 0. ``query``: ``frames``
    (1, H, W, 3) and ``boxes`` float32 (1, Q, 4) xyxy input pixels in, ``embeddings`` (1, Q, D) out. Shapes are fixed:
    B is 1, and N in a graph named ``search.bN``. Layout ``split`` has ``scene`` and ``person`` in their place
    (`personsearch.core.split`): frames to ``proposals`` (1, N, 4), ``objectness`` (1, N) and ``feature`` (1, h, w, C);
    ``feature`` and ``boxes`` (1, P, 4) to ``margins`` (1, P), ``refined`` (1, P, 4) and ``embeddings`` (1, P, D).
    """

    file: str
    sha256: str
    bytes: int = Field(gt=0)


class HeldOutPart(StrictModel):
    """Images of a data set that training left out (`personsearch.data.hold_out`), by `data.hold_out` of its recipe."""

    share: float = Field(gt=0, le=1, description="that was asked for")
    seed: int = Field(ge=0, description="of the choice")
    unit: HeldOutUnit = Field(description="what was held out whole")
    groups: int = Field(gt=0, description="number of these")
    images: int = Field(gt=0)
    sha256: str = Field(description="of their names and labels, to know them again")


class TrainingData(StrictModel):
    """What the weights were trained on, and under which terms."""

    name: str
    terms: str
    identities: int = Field(ge=0, description="that were learnt; nobody who stands only in images held out")
    held_out: HeldOutPart | None = Field(default=None, description="images that training never showed")


class Manifest(StrictModel):
    """Everything a runtime must know, and where the artifact came from."""

    format: Literal["personsearch-artifact/1"] = "personsearch-artifact/1"
    name: str
    created: str = Field(description="ISO date and time, UTC")
    preprocess: Preprocess
    max_detections: int = Field(gt=0, description="K, rows of the search graph's outputs")
    query_boxes: int = Field(gt=0, description="Q, boxes of the query graph")
    embedding_dim: int = Field(ge=0, description="D; 0 for a detector: no embeddings, and no query graph")
    score_threshold: float = Field(ge=0, le=1, description="detections below it are not reported")
    match_threshold: float = Field(ge=-1, le=1, description="cosine above which a detection is reported as the query")
    precision: Literal["fp32", "fp16", "int8"]
    opset: int
    graphs: dict[str, GraphFile] = Field(description="search, query, search.bN for N frames, scene and person if split")
    engine: EngineName = Field(
        default="onnxruntime", description="what it was exported for; runs it where nobody names another"
    )
    int8_flavour: Int8Flavour | None = Field(default=None, description="int8: u8s8 for CPUs, s8s8 for TensorRT")
    batches: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(1,), description="frames a search graph takes, by graph"
    )
    layout: GraphLayout = "joined"
    split: SplitSettings | None = Field(default=None, description="layout split: how the host joins scene and person")
    pooling: Pooling = Field(
        default="matrix", description="how graphs cut people out of the map: as matrix products, or by ONNX's RoiAlign"
    )
    suppression_steps: int | None = Field(
        default=None, description="of each non-maximum suppression, at most; none: as many as greedy suppression takes"
    )
    training_data: tuple[TrainingData, ...]
    recipe: dict[str, Any] = Field(description="resolved recipe of the run that trained the weights")
    recipe_hash: str
    checkpoint_sha256: str
    builder: dict[str, str] = Field(description="library versions that wrote the graphs")
    parity: dict[str, Any] = Field(description="what the parity gate measured; `passed` is part of it")
    figures: dict[str, Any] = Field(default_factory=dict, description="accuracy and cost measured on this artifact")

    @property
    def detector_graph(self) -> GraphFile:
        """The graph that frames go into: search, or scene in layout split."""
        return self.graphs["scene" if self.layout == "split" else "search"]

    @field_validator("graphs")
    @classmethod
    def _known_graphs(cls, graphs: dict[str, GraphFile]) -> dict[str, GraphFile]:
        """Refuses a name no engine would look for."""
        for name in graphs:
            if _GRAPH_NAME.fullmatch(name) is None:
                raise ValueError(f"graph `{name}` is none of search, query, scene, person or one of those with .bN")
        return graphs


def read_manifest(artifact: Path) -> Manifest:
    """Reads and checks ``manifest.json`` of an artifact folder, without touching the graphs.

    Raises:
        InputError: no folder, no manifest, or one that is not valid.
    """
    path = artifact / MANIFEST_NAME
    if not path.is_file():
        raise InputError(
            "is not an artifact",
            where=str(artifact),
            expected=f"a folder with {MANIFEST_NAME}",
            remedy="make one with `personsearch export CHECKPOINT`",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("cannot be read", where=str(path), expected="JSON", remedy=str(error)) from None
    return validate(Manifest, content, where=str(path))


def load_artifact(artifact: Path) -> Manifest:
    """`read_manifest`, then checks every graph's presence and hash before anyone loads it.

    Raises:
        InputError: a file is missing, lies outside the folder or does not match its hash.
    """
    manifest = read_manifest(artifact)
    for name, graph in manifest.graphs.items():
        path = artifact / graph.file
        if Path(graph.file).name != graph.file:
            raise InputError(f"graph `{name}` names `{graph.file}`", where=str(artifact), expected="a bare file name")
        if not path.is_file():
            raise InputError(
                f"graph file `{graph.file}` is missing", where=str(artifact), remedy="export the artifact again"
            )
        found = sha256_file(path)
        if found != graph.sha256:
            raise InputError(
                f"`{graph.file}` has SHA-256 {found[:12]}..., the manifest says {graph.sha256[:12]}...",
                where=str(artifact),
                expected="the file that was exported",
                remedy="export or copy the artifact again",
            )
    return manifest
