"""`personsearch export`: from a checkpoint to an artifact, and what happens when that must not be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from tiny_runs import teacher_recipe, write_folder
from typer.testing import CliRunner, Result

from personsearch.cli.app import app
from personsearch.core.engine_builds import require_buildable
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import load_artifact
from personsearch.models.checkpoint import load_model
from personsearch.train import run_training

SMALL_MODEL = {"trunk": {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1},
               "anchor_heights": [32, 56], "rpn_channels": 8, "pool_size": 4, "pre_nms": 12, "proposals": 6,
               "rois_per_image": 8, "train_proposals": 16}  # fmt: skip
QUICK = ["gate.frames=3", "query_boxes=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = teacher_recipe(data, model=SMALL_MODEL, epochs=1)
    return run_training(recipe, tmp_path_factory.mktemp("run") / "tiny", resume=False)


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts") / "fp32"
    result = export(checkpoint, "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    return out


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_artifact_is_complete_and_knows_its_origin(artifact: Path, checkpoint: Path) -> None:
    manifest = load_artifact(artifact)
    assert sorted(path.name for path in artifact.iterdir()) == [
        "MODEL_CARD.md", "manifest.json", "query.onnx", "search.onnx",
    ]  # fmt: skip
    assert manifest.checkpoint_sha256 == sha256_file(checkpoint)
    assert manifest.recipe["model"]["proposals"] == manifest.max_detections == 6
    assert [entry.name for entry in manifest.training_data] == ["tiny"]
    assert manifest.parity["passed"] is True
    assert manifest.parity["frames_from"] == "drawn"
    assert manifest.builder["onnx"]
    frames = np.zeros((1, 64, 96, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(artifact / "search.onnx"), providers=["CPUExecutionProvider"])
    boxes, scores, embeddings = session.run(None, {"frames": frames})
    assert boxes.shape == (1, 6, 4)
    assert scores.shape == (1, 6)
    assert embeddings.shape == (1, 6, manifest.embedding_dim)


def test_people_are_cut_out_as_the_target_runs_it(artifact: Path, checkpoint: Path, tmp_path: Path) -> None:
    """RoiAlign for engines on CPUs, products where that is a plugin; TensorRT refuses the former by name."""

    def pools(folder: Path) -> list[bool]:
        graphs = [onnx.load(str(folder / name)) for name in ("search.onnx", "query.onnx")]
        return [any(node.op_type == "RoiAlign" for node in graph.graph.node) for graph in graphs]

    assert pools(artifact) == [True, True]
    assert load_artifact(artifact).pooling == "roi_align"
    with pytest.raises(
        InputError, match=r"pool by RoiAlign, which is a plugin in TensorRT.*export with `--to tensorrt`"
    ):
        require_buildable(load_artifact(artifact), artifact)
    for number, option in enumerate((("--to", "tensorrt"), ("pooling=matrix",))):
        out = tmp_path / str(number)
        assert export(checkpoint, "--out", out, *option, *QUICK).exit_code == 0
        assert pools(out) == [False, False]
        require_buildable(load_artifact(out), out)
    for option in ("tensorrt", "tensorrt-rtx"):
        refused = bad(checkpoint, "--out", tmp_path / "no", "--to", option, "pooling=roi_align")
        assert f"target {option} pools by matrix products" in refused
    assert "layout split pools by" in bad(
        checkpoint, "--out", tmp_path / "no", "--layout", "split", "pooling=roi_align"
    )


def test_suppression_has_as_many_steps_as_the_recipe_says(artifact: Path, checkpoint: Path, tmp_path: Path) -> None:
    def products(folder: Path) -> int:
        return sum(node.op_type in ("MatMul", "Gemm") for node in onnx.load(str(folder / "search.onnx")).graph.node)

    assert load_artifact(artifact).suppression_steps == 31
    assert export(checkpoint, "--out", tmp_path / "few", "suppression_steps=3", *QUICK).exit_code == 0
    assert load_artifact(tmp_path / "few").suppression_steps == 3
    search = load_model(checkpoint)[0].deployable()
    fewer = sum(min(boxes - 1, 31) - 3 for boxes in (search.pre_nms, search.proposals))
    assert products(artifact) - products(tmp_path / "few") == fewer > 0
    assert export(checkpoint, "--out", tmp_path / "all", "suppression_steps=null", *QUICK).exit_code == 0
    assert load_artifact(tmp_path / "all").suppression_steps is None
    assert "take an odd one" in bad(checkpoint, "--out", tmp_path / "no", "suppression_steps=4")


def test_int8_is_calibrated_gated_and_smaller(checkpoint: Path, artifact: Path, data: Path, tmp_path: Path) -> None:
    # A network trained for five steps has no margin between people: this checks the road, not the accuracy.
    recipe = tmp_path / "int8.yaml"
    loose = {"min_matched": 0.3, "min_mean_cosine": 0.5}
    content = {"precision": "int8", "quantise": {"frames": 4, "min_frames": 4}, "gate": {"int8": loose}}
    recipe.write_text(yaml.safe_dump(content))
    out = tmp_path / "int8"
    result = export(checkpoint, "--out", out, "--recipe", recipe, "--calibration", data, "--json", *QUICK)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == load_artifact(out).model_dump(mode="json")
    assert printed["precision"] == "int8"
    assert printed["parity"]["frames_from"] == "tiny"
    weights = b"weight_quantized"
    assert weights in (out / "search.onnx").read_bytes()
    assert weights in (out / "query.onnx").read_bytes()


def test_a_failed_gate_leaves_what_was_there_and_force_replaces_it(
    checkpoint: Path, artifact: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(artifact, tmp_path / "artifact"))
    before = (out / "manifest.json").read_bytes()
    impossible = [*QUICK, "gate.fp32.min_cosine=1.0", "gate.fp32.max_box_difference_px=0.00000001"]
    refused = export(checkpoint, "--out", out, *impossible)
    assert refused.exit_code == 1
    assert "parity gate failed" in refused.output
    assert (out / "manifest.json").read_bytes() == before
    forced = export(checkpoint, "--out", out, "--force", "--name", "renamed", "max_detections=4", *impossible)
    assert forced.exit_code == 0
    assert "FAILED" in forced.output
    manifest = load_artifact(out)
    assert (manifest.name, manifest.max_detections) == ("renamed", 4)
    assert manifest.parity["passed"] is False
    assert manifest.parity["failures"]
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_detector_is_held_to_its_labels_too(data: Path, tmp_path: Path) -> None:
    shared = {name: SMALL_MODEL[name] for name in SMALL_MODEL if name not in ("anchor_heights", "pre_nms")}
    model = {**shared, "kind": "faster_rcnn", "anchors": {"kind": "person", "heights": [32, 56]}, "pre_nms": 12}
    checkpoint = run_training(teacher_recipe(data, model=model, epochs=1), tmp_path / "run", resume=False)
    result = export(checkpoint, "--out", tmp_path / "out", "--calibration", data, "gate.frames=3")
    assert result.exit_code == 0, result.output
    manifest = load_artifact(tmp_path / "out")
    assert (manifest.embedding_dim, list(manifest.graphs)) == (0, ["search"])
    checkpoint_figures = manifest.parity["end_figures"]["checkpoint"]
    assert checkpoint_figures["detection_ap"] is not None
    assert checkpoint_figures.get("search_map") is None


def bad(*arguments: object) -> str:
    result = export(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_bad_input_gets_one_line_and_leaves_nothing(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = tmp_path / "notes.txt"
    text.write_text("not a checkpoint")
    assert "no such checkpoint" in bad(tmp_path / "missing.pt", "--out", out)
    assert "cannot be read as a checkpoint" in bad(text, "--out", out)
    assert "--precision: `fp8` is unknown" in bad(checkpoint, "--out", out, "--precision", "fp8")
    assert "int8 needs frames" in bad(checkpoint, "--out", out, "--precision", "int8")
    assert "notes.txt" in bad(checkpoint, "--out", out, "--calibration", text)
    assert "--to: `coreml` is unknown" in bad(checkpoint, "--out", out, "--to", "coreml")
    assert "`640` is not a size" in bad(checkpoint, "--out", out, "--size", "640")
    assert "the nearest that works is 96x64" in bad(checkpoint, "--out", out, "--size", "99x65")
    assert "`1;4` is not a list of batches" in bad(checkpoint, "--out", out, "--batch", "1;4")
    assert "fp32 has no sensitivity" in bad(checkpoint, "--out", out, "--sensitivity")
    few = bad(checkpoint, "--out", out, "--precision", "int8", "--calibration", data, "quantise.frames=8")
    assert "calibration has 8 frames" in few
    assert "at least 16" in few
    assert "unknown key `colour`" in bad(checkpoint, "--out", out, "colour=red")
    assert "max_detections is 99" in bad(checkpoint, "--out", out, "max_detections=99")
    assert "match threshold 2" in bad(checkpoint, "--out", out, "--match-threshold", "2")
    assert "is not an artifact" in bad(checkpoint, "--out", data)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (data / "dataset.json").is_file()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes" / "export").glob("*.yaml")), ids=str)
def test_every_export_recipe_loads(path: Path) -> None:
    from personsearch.cli.export import load_export_recipe

    assert load_export_recipe(path, {}, []).precision in path.stem


def test_options_stand_above_the_recipe_and_key_value_above_the_options(tmp_path: Path) -> None:
    from personsearch.cli.export import load_export_recipe, option_changes

    path = tmp_path / "recipe.yaml"
    path.write_text("precision: int8\nmax_detections: 9\nbatches: [2]\n")
    changes = option_changes("tensorrt", "fp16", "64x48", "8,4", 7, "auto")
    recipe = load_export_recipe(path, changes, ["max_detections=5", "quantise.float_layers=[a.*]"])
    assert (recipe.target, recipe.engine, recipe.precision, recipe.input_wh) == (
        "tensorrt",
        "tensorrt",
        "fp16",
        (64, 48),
    )
    assert (recipe.batches, recipe.max_detections, recipe.quantise.float_layers) == ((1, 4, 8), 5, ("a.*",))
    assert recipe.int8_flavour is None
    assert load_export_recipe(path, {"target": "tensorrt-rtx"}, []).int8_flavour == "s8s8"
    assert load_export_recipe(path, {"target": "openvino"}, []).int8_flavour == "u8s8"
    assert load_export_recipe(path, option_changes(None, None, None, None, None, None), []).batches == (1, 2)
    assert option_changes(None, None, None, None, None, ".a.*, .b.*") == {"quantise.float_layers": [".a.*", ".b.*"]}


def test_batches_sizes_and_half_precision_for_tensorrt_in_one_artifact(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--to", "tensorrt", "--precision", "fp16", "--size", "128x96", "--batch", "1,2", "--max-detections", "5"]
    result = export(checkpoint, "--out", out, *options, *QUICK)
    assert result.exit_code == 0, result.output
    assert "engines not built: " in result.output or "engine built" in result.output
    manifest = load_artifact(out)
    assert (manifest.engine, manifest.precision, manifest.batches) == ("tensorrt", "fp16", (1, 2))
    assert manifest.preprocess.input_wh == (128, 96)
    assert set(manifest.graphs) == {"search", "search.b2", "query"}
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    both = onnxruntime.InferenceSession(str(out / "search.b2.onnx")).run(None, {"frames": frames})
    single = onnxruntime.InferenceSession(str(out / "search.onnx"))
    assert both[0].shape == (2, 5, 4)
    for row in range(2):
        for answer, expected in zip(both, single.run(None, {"frames": frames[row : row + 1]}), strict=True):
            np.testing.assert_allclose(answer[row], expected[0], atol=0.05)


def test_a_failed_gate_builds_and_writes_nothing_new(checkpoint: Path, tmp_path: Path) -> None:
    result = export(
        checkpoint, "--out", tmp_path / "out", "--precision", "fp16", "gate.fp16.max_score_difference=0.0", *QUICK
    )
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []
