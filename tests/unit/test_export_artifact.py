"""Artifact folders: written whole or not at all, never over anything else; the card says what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import (
    GraphFile,
    HeldOutPart,
    Manifest,
    TrainingData,
    graph_name,
    load_artifact,
    read_manifest,
)
from personsearch.core.preprocess import Preprocess
from personsearch.export import update_figures
from personsearch.export.artifact import builder_versions, check_destination, graph_files, write_artifact
from personsearch.export.model_card import model_card


def manifest(graphs: dict[str, GraphFile], **changes: Any) -> Manifest:
    content: dict[str, Any] = {
        "name": "tiny", "created": "2026-01-02T03:04:05Z", "preprocess": Preprocess(input_wh=(64, 48)),
        "max_detections": 4, "query_boxes": 2, "embedding_dim": 8, "score_threshold": 0.5, "match_threshold": 0.5,
        "precision": "fp32", "opset": 18, "graphs": graphs, "recipe": {"name": "tiny-run"}, "recipe_hash": "ab12",
        "training_data": (TrainingData(name="streets", terms="CC BY-NC 4.0", identities=7),),
        "checkpoint_sha256": "0" * 64, "builder": builder_versions(), "parity": {"passed": True, "frames": 3},
    }  # fmt: skip
    return Manifest(**{**content, **changes})


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    folder = tmp_path / "graphs"
    folder.mkdir()
    for name in ("search", "query"):
        (folder / f"{name}.onnx").write_bytes(name.encode() * 100)
    return folder


def test_what_is_written_is_read_back_and_verified(tmp_path: Path, graphs: Path) -> None:
    written = manifest(graph_files(graphs))
    write_artifact(tmp_path / "out", graphs, written)
    assert load_artifact(tmp_path / "out") == written
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "manifest.json", "MODEL_CARD.md", "search.onnx", "query.onnx",
    }  # fmt: skip
    assert written.graphs["search"].sha256 == sha256_file(graphs / "search.onnx")


def test_an_artifact_is_replaced_as_a_whole(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out"
    write_artifact(out, graphs, manifest(graph_files(graphs)))
    (out / "left over.txt").write_text("from before")
    write_artifact(out, graphs, manifest(graph_files(graphs), name="second"))
    assert read_manifest(out).name == "second"
    assert not (out / "left over.txt").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failed_write_leaves_the_artifact_that_was_there(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out"
    write_artifact(out, graphs, manifest(graph_files(graphs)))
    second = manifest(graph_files(graphs), name="second")
    (graphs / "query.onnx").unlink()
    with pytest.raises(FileNotFoundError):
        write_artifact(out, graphs, second)
    assert load_artifact(out).name == "tiny"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graphs", "out"]


def test_a_folder_that_is_not_an_artifact_is_left_alone(tmp_path: Path, graphs: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    check_destination(mine)
    (mine / "chapter1.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not an artifact"):
        write_artifact(mine, graphs, manifest(graph_files(graphs)))
    assert (mine / "chapter1.txt").read_text() == "years of work"


def test_a_file_or_a_link_is_not_a_place_for_an_artifact(tmp_path: Path, graphs: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(graphs)
    for name in ("file", "link"):
        with pytest.raises(InputError, match="is not a folder"):
            check_destination(tmp_path / name)


def test_figures_are_added_to_manifest_and_card_and_graphs_stay(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out"
    write_artifact(out, graphs, manifest(graph_files(graphs), figures={"size": 1, "streets": {"mAP": 0.1}}))
    assert "0.625" not in (out / "MODEL_CARD.md").read_text()
    changed = update_figures(out, {"streets": {"search_mAP": 0.625}}, match_threshold=0.71)
    assert load_artifact(out) == changed
    assert changed.figures == {"size": 1, "streets": {"search_mAP": 0.625}}
    assert changed.match_threshold == 0.71
    card = (out / "MODEL_CARD.md").read_text()
    assert "| streets: search mAP | 0.625 |" in card
    assert "cosine 0.71" in card
    assert update_figures(out, {}).match_threshold == 0.71


def test_impossible_figures_leave_the_artifact_as_it_was(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out"
    write_artifact(out, graphs, manifest(graph_files(graphs)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="match_threshold"):
        update_figures(out, {}, match_threshold=1.5)
    with pytest.raises(InputError, match="not a finite number"):
        update_figures(out, {"mAP": float("nan")})
    with pytest.raises(InputError, match="is not an artifact"):
        update_figures(graphs, {"mAP": 0.5})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_card_names_data_terms_size_origin_and_privacy(graphs: Path) -> None:
    card = model_card(manifest(graph_files(graphs)))
    for words in ("| streets | 7 | CC BY-NC 4.0 |", "64x48", "8 numbers", "`search.onnx`", "Passed.", "biometric",
                  "None were measured", "`tiny-run`", "0" * 64):  # fmt: skip
        assert words in card


def test_the_card_of_a_forced_artifact_says_so(graphs: Path) -> None:
    parity = {"passed": False, "failures": ["a box is 9.00 px off"]}
    card = model_card(manifest(graph_files(graphs), parity=parity))
    assert "**Failed.**" in card
    assert "a box is 9.00 px off" in card


def test_a_manifest_from_before_engines_reads_as_one_for_onnx_runtime(tmp_path: Path, graphs: Path) -> None:
    out = tmp_path / "out"
    write_artifact(out, graphs, manifest(graph_files(graphs)))
    content = json.loads((out / "manifest.json").read_text())
    for field in ("engine", "int8_flavour", "batches", "layout"):
        del content[field]
    (out / "manifest.json").write_text(json.dumps(content))
    old = load_artifact(out)
    assert (old.engine, old.int8_flavour, old.batches, old.layout) == ("onnxruntime", None, (1,), "joined")


def test_batches_and_split_graphs_have_names_and_others_are_refused(graphs: Path) -> None:
    assert (graph_name("search"), graph_name("search", 4)) == ("search", "search.b4")
    one = graph_files(graphs)["search"]
    for name in ("search.b4", "scene", "person"):
        assert name in manifest({"search": one, name: one}).graphs
    for name in ("search.b0", "search.b04", "serach", "search.4", "../search"):
        with pytest.raises(ValueError, match="is none of search, query"):
            manifest({"search": one, name: one})


def test_the_card_says_what_training_never_showed(graphs: Path) -> None:
    part = HeldOutPart(share=0.2, seed=3, unit="cameras", groups=1, images=40, sha256="ab")
    data = TrainingData(name="streets", terms="CC BY-NC 4.0", identities=7, held_out=part)
    sentence = "Training never showed 40 images of streets, held out by cameras (share 0.2, seed 3)"
    assert sentence in model_card(manifest(graph_files(graphs), training_data=(data,)))
    assert "never showed" not in model_card(manifest(graph_files(graphs)))
