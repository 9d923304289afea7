"""The TensorRT adapter against the recorded names and signatures of 10.3, 10.16, 11.4 and TensorRT for RTX 1.7."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import runtime_stub as stub
from tensorrt_surface import MAGIC, SURFACES, Surface

from personsearch.core import engine_builder, engine_tensorrt
from personsearch.core.cuda_driver import CudaDriver
from personsearch.core.engine_builder import build_engine, compile_graph
from personsearch.core.engine_builds import engine_key, why_not_here
from personsearch.core.engine_cache import BuildFlags, EngineCache, EngineRecord
from personsearch.core.engine_tensorrt import TensorRt, load_tensorrt
from personsearch.core.errors import InputError

TENSORRT = ("tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4")
RTX = "tensorrt_rtx-1.7"
ORIN = CudaDriver("12.6", ("Orin",), "", ("8.7",))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CudaDriver:
    """What the driver of an AGX Orin would say."""
    for module in (engine_builder, engine_tensorrt):
        monkeypatch.setattr(module, "probe_cuda", lambda: ORIN)
    return ORIN


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engine_builder, engine_tensorrt):
        monkeypatch.setattr(module, "probe_cuda", lambda: CudaDriver(problem="no CUDA driver (libcuda.so.1 not found)"))


def loaded(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    monkeypatch.setitem(sys.modules, surface.module.__name__, surface.module)
    return load_tensorrt("tensorrt-rtx" if surface.module.__name__ == "tensorrt_rtx" else "tensorrt")


def build(
    api: TensorRt, folder: Path, flags: BuildFlags | None = None, batch: int | str = 1, capability: str = "8.7"
) -> EngineRecord:
    content = stub.search_graph(batch).SerializeToString()
    key = engine_key(api, capability, ORIN, hashlib.sha256(content).hexdigest(), flags)
    return build_engine(api, content, key, EngineCache(folder), graph="search.onnx")


@pytest.mark.parametrize("name", [*TENSORRT, RTX])
def test_each_record_says_where_it_is_from(name: str) -> None:
    content = json.loads((SURFACES / f"{name}.json").read_text())
    assert content["wheel"].endswith(".whl")
    assert content["version"] in content["wheel"]
    assert len(content["wheel_sha256"]) == 64


def test_the_boundaries_that_the_adapter_was_made_for() -> None:
    """If a newer record changes one of these, the adapter can drop or needs a branch."""
    first, middle, last = (Surface(name) for name in TENSORRT)
    assert hasattr(first.BuilderFlag, "FP16")
    assert not hasattr(last.BuilderFlag, "FP16")
    assert int(first.BuilderFlag.VERSION_COMPATIBLE) != int(last.BuilderFlag.VERSION_COMPATIBLE)
    assert not hasattr(first.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY")
    assert hasattr(middle.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY")
    assert int(first.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(last.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    assert not hasattr(last.IBuilderConfig, "int8_calibrator")
    assert not any(hasattr(each, "ComputeCapability") for each in (first, middle, last))


@pytest.mark.parametrize("name", TENSORRT)
def test_a_plain_build_on_every_version(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(name)
    record = build(loaded(surface, monkeypatch), tmp_path)
    engine = (tmp_path / "engines" / record.key.digest / "engine.bin").read_bytes()
    assert engine.startswith(MAGIC + surface.version.encode())
    assert (record.gpu, record.driver, record.key.gpu) == ("Orin", "12.6", "Orin")
    assert [(each.name, each.dtype, each.shape) for each in record.inputs] == [("frames", "uint8", (1, 48, 64, 3))]
    assert [each.dtype for each in record.outputs] == ["float32"] * 3
    assert json.loads((tmp_path / "engines" / record.key.digest / record.layer_report).read_text()) == {"Layers": []}
    asked = 1 << int(surface.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert ("Builder.create_network", (asked,)) in surface.calls
    assert ("IBuilderConfig.clear_flag", ("TF32",)) in surface.calls
    assert not any(call == "IBuilderConfig.set_flag" for call, _ in surface.calls)


@pytest.mark.parametrize("name", TENSORRT)
def test_options_become_flags_of_their_name(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(name)
    surface.dla_cores = 2
    flags = BuildFlags(
        version_compatible=True, hardware_compatible="ampere-plus", dla_core=1, tf32=True, optimisation_level=5
    )
    record = build(loaded(surface, monkeypatch), tmp_path, flags)
    for call in (
        ("IBuilderConfig.set_flag", ("VERSION_COMPATIBLE",)),
        ("IBuilderConfig.set_flag", ("GPU_FALLBACK",)),
        ("IBuilderConfig.hardware_compatibility_level", ("AMPERE_PLUS",)),
        ("IBuilderConfig.default_device_type", ("DLA",)),
        ("IBuilderConfig.DLA_core", (1,)),
        ("IBuilderConfig.builder_optimization_level", (5,)),
        ("Runtime.engine_host_code_allowed", (True,)),
    ):
        assert call in surface.calls
    assert ("IBuilderConfig.clear_flag", ("TF32",)) not in surface.calls
    assert record.dla_layers == record.layers
    assert record.key.gpu == ""  # it runs on others too


@pytest.mark.parametrize("name", TENSORRT)
def test_same_compute_capability_came_after_10_3(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(name)
    flags = BuildFlags(hardware_compatible="same-compute-capability")
    if name == "tensorrt-10.3":
        with pytest.raises(InputError, match=r"TensorRT 10\.3\.0 has no HardwareCompatibilityLevel\.SAME_COMPUTE"):
            build(loaded(surface, monkeypatch), tmp_path, flags)
    else:
        build(loaded(surface, monkeypatch), tmp_path, flags)
        assert ("IBuilderConfig.hardware_compatibility_level", ("SAME_COMPUTE_CAPABILITY",)) in surface.calls


@pytest.mark.parametrize("name", TENSORRT)
def test_a_dla_core_that_is_not_there(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no DLA core 0.* sees 0 here"):
        build(loaded(Surface(name), monkeypatch), tmp_path, BuildFlags(dla_core=0))
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize("name", [*TENSORRT, RTX])
def test_a_free_batch_gets_a_profile(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(name)
    api = loaded(surface, monkeypatch)
    with pytest.raises(InputError, match="`frames` takes any batch, and the batch is not given"):
        build(api, tmp_path, batch="batch", capability="8.6")
    build(api, tmp_path, BuildFlags(batch=(1, 2, 4)), batch="batch", capability="8.6" if name == RTX else "8.7")
    shapes = next(arguments for call, arguments in surface.calls if call == "IOptimizationProfile.set_shape")
    assert shapes == ("frames", [1, 48, 64, 3], [2, 48, 64, 3], [4, 48, 64, 3])


@pytest.mark.parametrize("name", TENSORRT)
def test_times_of_tactics_are_read_and_kept(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(name)
    api = loaded(surface, monkeypatch)
    build(api, tmp_path)
    assert ("IBuilderConfig.create_timing_cache", (b"",)) in surface.calls
    build(api, tmp_path, BuildFlags(tf32=True))
    assert ("IBuilderConfig.create_timing_cache", (b"times",)) in surface.calls


def test_rtx_builds_for_a_named_gpu_without_one(monkeypatch: pytest.MonkeyPatch, no_gpu: None, tmp_path: Path) -> None:
    surface = Surface(RTX)
    record = build(loaded(surface, monkeypatch), tmp_path, capability="8.9")
    assert ("IBuilderConfig.set_compute_capability", ("SM89", 0)) in surface.calls
    assert (record.gpu, record.layer_report) == ("", "")
    assert not any("timing" in call for call, _ in surface.calls)


def test_an_engine_for_another_gpu_than_the_one_here_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(RTX)
    record = build(loaded(surface, monkeypatch), tmp_path, capability="8.9")
    assert record.layer_report == ""
    assert not any(call == "Runtime.deserialize_cuda_engine" for call, _ in surface.calls)


def test_rtx_takes_the_gpu_that_is_here_where_it_has_no_name_for_it(
    monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    surface = Surface(RTX)
    api = loaded(surface, monkeypatch)
    build(api, tmp_path)
    assert ("IBuilderConfig.set_compute_capability", ("CURRENT", 0)) in surface.calls
    with pytest.raises(InputError, match=r"does not build for compute capability 9\.0; expected one of 7\.5, 8\.0"):
        build(api, tmp_path, capability="9.0")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (BuildFlags(version_compatible=True), "no version-compatible engines"),
        (BuildFlags(hardware_compatible="ampere-plus"), "no hardware-compatible engines"),
        (BuildFlags(dla_core=0), "no DLA"),
    ],
)
def test_what_rtx_has_not(
    flags: BuildFlags, words: str, monkeypatch: pytest.MonkeyPatch, no_gpu: None, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"TensorRT for RTX 1\.7\.1\.116 has {words}"):
        build(loaded(Surface(RTX), monkeypatch), tmp_path, flags)


@pytest.mark.parametrize("name", TENSORRT)
def test_tensorrt_without_a_gpu_is_refused_before_it_can_abort(
    name: str, monkeypatch: pytest.MonkeyPatch, no_gpu: None, tmp_path: Path
) -> None:
    surface = Surface(name)
    with pytest.raises(InputError, match="TensorRT needs a GPU to build engines: no CUDA driver"):
        build(loaded(surface, monkeypatch), tmp_path)
    assert surface.calls == []


@pytest.mark.parametrize("name", [*TENSORRT, RTX])
def test_what_the_parser_refuses_is_told_in_its_words(
    name: str, monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver
) -> None:
    model = stub.search_graph()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match=r"cannot read the graph; In node 0: NoSuchOperator is not supported"):
        compile_graph(
            loaded(Surface(name), monkeypatch), model.SerializeToString(), graph="search.onnx", targets=("8.7",)
        )


@pytest.mark.parametrize("version", ["8.6.2", "10.2.0", "12.0.1", "soon"])
def test_versions_that_are_not_supported(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    surface = Surface("tensorrt-10.3")
    surface.module.__version__ = version  # type: ignore[attr-defined]  # as the real package has it
    with pytest.raises(InputError, match=rf"TensorRT {version} is not supported; expected 10\.3 to 11\.x"):
        loaded(surface, monkeypatch)


def test_a_library_of_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container on a Jetson whose host has no DLA compiler: the package is there and does not load."""
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(InputError, match=r"`tensorrt` is installed but does not load: libnvdla_compiler\.so"):
        load_tensorrt("tensorrt")


def test_ctrl_c_during_a_build_stops_it(monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path) -> None:
    def interrupt(progress: object, done: int, note: str = "") -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine_builder.StageProgress, "advance_to", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(loaded(Surface("tensorrt-11.4"), monkeypatch), tmp_path)
    assert not (tmp_path / "engines").exists()


def test_the_list_says_why_an_engine_does_not_run_here(
    monkeypatch: pytest.MonkeyPatch, gpu: CudaDriver, tmp_path: Path
) -> None:
    record = build(loaded(Surface("tensorrt-10.3"), monkeypatch), tmp_path)
    assert why_not_here(record, ORIN) == ""
    assert why_not_here(record, CudaDriver(problem="no CUDA driver")) == "no CUDA driver"
    nano = CudaDriver("12.6", ("Orin Nano",), "", ("8.7",))
    assert why_not_here(record, nano) == "built on Orin, this GPU is Orin Nano"
    loaded(Surface("tensorrt-10.16"), monkeypatch)
    assert why_not_here(record, ORIN) == "built by tensorrt 10.3.0, here is 10.16.1.11"
