"""MODEL_CARD.md, written from the manifest alone: it says nothing that the manifest does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from personsearch.core.manifest import Manifest

CARD_NAME = "MODEL_CARD.md"

LIMITS = """\
- Cosines and scores are not probabilities. The match threshold was set on the data named below; set it again on
  footage of the cameras in use, and let a person confirm a match before anyone acts on it.
- It finds people by how they look, clothing above all: a change of clothes is a change of person, and two people
  in the same uniform may be one.
- What differs from the training data (camera height, night, infrared, weather, crowds, very small people) lowers
  accuracy by an amount that only a measurement there can tell.
- Embeddings of different artifacts, or of the float and int8 version of one, are not to be mixed in a gallery."""

PRIVACY = """\
This network singles people out. Embeddings are personal data, and used to identify someone they are biometric data in
the sense of many laws (in the EU, Article 9 GDPR). Treat them as images: a stated purpose, a legal basis, short
retention, access control, and a record of who searched for whom. Not for automatic decisions about people."""


def model_card(manifest: Manifest) -> str:
    """The card in Markdown: what it is, figures, data and terms, size, parity, limits, privacy."""
    sections = (
        f"# {manifest.name}",
        _summary(manifest),
        "## Figures\n\n" + (_table(manifest.figures) or "None were measured on this artifact."),
        "## Data\n\n" + _data(manifest),
        "## Size\n\n" + _size(manifest),
        "## Parity with torch\n\n" + _parity(manifest.parity),
        f"## Limits\n\n{LIMITS}",
        f"## Privacy\n\n{PRIVACY}",
        "## Origin\n\n" + _origin(manifest),
    )
    return "\n\n".join(sections) + "\n"


def _summary(manifest: Manifest) -> str:
    width, height = manifest.preprocess.input_wh
    return (
        f"Person search in one network: it detects every person in a frame and gives each an embedding of "
        f"{manifest.embedding_dim} numbers, to be compared by cosine. Frames are letterboxed to {width}x{height}, BGR; "
        f"at most {manifest.max_detections} people a frame; {manifest.precision}, ONNX opset {manifest.opset}. "
        f"Detections count from score {manifest.score_threshold:g} on, matches from cosine "
        f"{manifest.match_threshold:g} on."
    )


def _data(manifest: Manifest) -> str:
    if not manifest.training_data:
        return "The checkpoint names no training data."
    rows = [f"| {data.name} | {data.identities} | {data.terms} |" for data in manifest.training_data]
    return "\n".join(["| trained on | identities | terms |", "|---|---|---|", *rows])


def _size(manifest: Manifest) -> str:
    rows = [f"| {name} | `{graph.file}` | {graph.bytes / 1e6:.2f} MB |" for name, graph in manifest.graphs.items()]
    return "\n".join(["| graph | file | size |", "|---|---|---|", *rows])


def _parity(parity: Mapping[str, Any]) -> str:
    verdict = "Passed." if parity.get("passed") else "**Failed.** Written by force all the same; do not rely on it."
    return f"{verdict}\n\n{_table({name: value for name, value in parity.items() if name != 'passed'})}"


def _origin(manifest: Manifest) -> str:
    builder = ", ".join(f"{name} {version}" for name, version in manifest.builder.items())
    return (
        f"Made {manifest.created} from a checkpoint with SHA-256 `{manifest.checkpoint_sha256}`, trained by the recipe "
        f"`{manifest.recipe.get('name', 'unnamed')}` with hash `{manifest.recipe_hash}`; it stands in full in "
        f"`manifest.json`. Built with {builder}."
    )


def _table(figures: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in _flat(figures)]
    return "\n".join(["| what | value |", "|---|---|", *rows]) if rows else ""


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, ", ".join(map(str, value)) or "none"
        else:
            yield label, f"{value:.4g}" if isinstance(value, float) else str(value)
