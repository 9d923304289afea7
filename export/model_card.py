"""MODEL_CARD.md, written from the manifest alone: it says nothing that the manifest does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from personsearch.core.manifest import Manifest
from personsearch.core.parity_notice import parity_notice
from personsearch.export.parity_table import (
    AGREEMENT,
    END_FIGURES,
    agreement_rows,
    end_figure_rows,
    looked_at,
    markdown_table,
)

CARD_NAME = "MODEL_CARD.md"

LIMITS = """\
- Cosines and scores are not probabilities. The match threshold was set on the data named above; set it again on
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

SEARCH_COMMAND = """\
personsearch stream FOLDER --source VIDEO --query IMAGE --out RESULTS    # search a video or a camera
"""
COMMANDS = """\
personsearch evaluate FOLDER DATASET                                     # measure it on labelled images
personsearch parity FOLDER --run                                         # compare the engines of this machine"""

PARITY_WORDS = """\
Every row is an engine at a precision against the network in torch, or against what the row names, on the same frames.
Matched: detections whose score and place no rounding decides. Same first: searches among the people of these frames
that find the same person first; same first k: share of the first ranks that stay; rank tau: Kendall's over whole
galleries, 1 for one order."""
POOLS = {"matrix": "matrix products", "roi_align": "RoIAlign, which is a plugin in TensorRT"}


def model_card(manifest: Manifest) -> str:
    """The card in Markdown: what it is, how to run it, figures, data and terms, size, parity, limits, privacy."""
    notice = parity_notice(manifest)
    sections = (
        f"# {manifest.name}",
        *([f"> **Warning.** {notice}"] if notice else []),
        _summary(manifest),
        "## How to run it\n\n" + _usage(manifest),
        "## Figures\n\n" + (_table(manifest.figures) or "None were measured on this artifact."),
        "## Data\n\n" + _data(manifest),
        "## Size\n\n" + _size(manifest),
        "## Parity with torch\n\n" + _parity(manifest),
        f"## Limits\n\n{LIMITS}",
        f"## Privacy\n\n{PRIVACY}",
        "## Origin\n\n" + _origin(manifest),
    )
    return "\n\n".join(sections) + "\n"


def _summary(manifest: Manifest) -> str:
    width, height = manifest.preprocess.input_wh
    if manifest.embedding_dim:
        what = (
            "Person search in one network: it detects every person in a frame and gives each an embedding of "
            f"{manifest.embedding_dim} numbers, to be compared by cosine."
        )
        matches = f", matches from cosine {manifest.match_threshold:.4g} on"
    else:
        what, matches = "A person detector: it finds every person in a frame and embeds nobody.", ""
    return (
        f"{what} Frames are letterboxed to {width}x{height}, BGR; at most {manifest.max_detections} people a frame; "
        f"{manifest.precision}, ONNX opset {manifest.opset}. Detections count from score "
        f"{manifest.score_threshold:g} on{matches}.{branch_note(manifest)}"
    )


def branch_note(manifest: Manifest) -> str:
    """A sentence, with a space before it, where the graphs are less than the network; otherwise nothing."""
    if manifest.recipe.get("model", {}).get("kind") != "qeeps":
        return ""
    return (
        " The network was trained to be guided by the query (QEEPS); these graphs are its branch without one: what "
        "shows it the query is not in them, and figures of searches by pairs of query and frame are not theirs."
    )


def _usage(manifest: Manifest) -> str:
    flavour = f", int8 as {manifest.int8_flavour}" if manifest.int8_flavour else ""
    steps = manifest.suppression_steps
    made_for = (
        f"It was exported for the engine {manifest.engine}, layout {manifest.layout}, batches of "
        f"{', '.join(map(str, manifest.batches))}{flavour}; `--engine` names another. People are cut out of the map by "
        f"{POOLS[manifest.pooling]}; suppression takes "
        + ("as many steps as it has boxes." if steps is None else f"at most {steps} steps (docs/adr/0023).")
    )
    commands = (SEARCH_COMMAND if manifest.embedding_dim else "") + COMMANDS
    return f"```\n{commands}\n```\n\nFOLDER is the one that this file lies in. {made_for}"


def _data(manifest: Manifest) -> str:
    if not manifest.training_data:
        return "The checkpoint names no training data."
    rows = [f"| {data.name} | {data.identities} | {data.terms} |" for data in manifest.training_data]
    lines = ["| trained on | identities | terms |", "|---|---|---|", *rows]
    for data in manifest.training_data:
        if data.held_out is not None:
            lines += [
                "",
                f"Training never showed {data.held_out.images} images of {data.name}, held out by {data.held_out.unit} "
                f"(share {data.held_out.share:g}, seed {data.held_out.seed}); `personsearch calibrate` measures there.",
            ]
    return "\n".join(lines)


def _size(manifest: Manifest) -> str:
    rows = [f"| {name} | `{graph.file}` | {graph.bytes / 1e6:.2f} MB |" for name, graph in manifest.graphs.items()]
    return "\n".join(["| graph | file | size |", "|---|---|---|", *rows])


def _parity(manifest: Manifest) -> str:
    parity = manifest.parity
    verdict = "Passed." if parity.get("passed") else "**Failed.** Written by force all the same; do not rely on it."
    parts = [f"{verdict} Looked at {looked_at(parity)}."]
    agreement = agreement_rows(parity, manifest.precision)
    if agreement:
        parts += [markdown_table(AGREEMENT, agreement), PARITY_WORDS]
    figures = end_figure_rows(parity)
    if figures:
        parts.append(f"End figures, in per cent, on {parity['end_figures']['on']}:")
        parts.append(markdown_table(END_FIGURES, figures))
    for title, lines in (("Failures", parity.get("failures")), ("Not run", parity.get("not_run"))):
        if lines:
            parts.append("\n".join([f"{title}:", "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts)


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
