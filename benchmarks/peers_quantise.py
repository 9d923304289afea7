"""The other systems' networks, made ready for a fair comparison: batches of the right size, and int8.

OpenVINO's networks are quantised by NNCF, ONNX ones by ONNX Runtime, both on what the networks are really fed: their
input is recorded while the pair runs on calibration frames.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.benchmarks.peers_systems import PairSpec
from personsearch.core.errors import InputError
from personsearch.core.openvino_core import openvino_core
from personsearch.core.preprocess import Frame
from personsearch.distill.sources.box_detector import DETECTOR_PRESETS, BoxDetector
from personsearch.distill.sources.crop_embedder import REID_PRESETS, CropEmbedder
from personsearch.distill.sources.network import ImageNetwork, Tensors, open_network

MIN_FRAMES = 16
MAX_CROPS = 256


class _Recording(ImageNetwork):
    """A network that keeps what it is fed."""

    def __init__(self, network: ImageNetwork) -> None:
        self._network = network
        self.path, self.sha256 = network.path, network.sha256
        self.input_shape, self.output_names = network.input_shape, network.output_names
        self.fed: list[NDArray[np.float32]] = []

    def run(self, images: NDArray[np.float32]) -> Tensors:
        self.fed.append(images.copy())
        return self._network.run(images)


def quantise_pair(spec: PairSpec, frames: Sequence[Frame], folder: Path) -> PairSpec:
    """Both networks in int8, as files in ``folder``; per-channel weights, ranges of the calibration frames.

    Args:
        spec: of the pair in fp32.
        frames: to calibrate on, never of test; crops are those of the people that the detector finds in them.
        folder: exists.

    Raises:
        InputError: too few frames, nobody found in them, or NNCF is not installed and a network is OpenVINO's.
    """
    if len(frames) < MIN_FRAMES:
        raise InputError(f"{len(frames)} calibration frames", expected=f"at least {MIN_FRAMES}")
    detector_net, reid_net = _Recording(open_network(spec.detector)), _Recording(open_network(spec.reid))
    detector = BoxDetector(detector_net, DETECTOR_PRESETS[spec.detector_preset])
    embedder = CropEmbedder(reid_net, REID_PRESETS[spec.reid_preset])
    reid_net.fed.clear()  # the grey crop of its first run
    crops = 0
    for frame in frames:
        found = detector.infer([frame])[0].boxes_xyxy
        size = np.tile([frame.shape[1], frame.shape[0]], 2)
        boxes = np.clip(found, 0, size)
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)][: MAX_CROPS - crops]
        crops += len(boxes)
        embedder.embed(frame, boxes)
    if not crops:
        raise InputError(f"{spec.name} finds nobody in the calibration frames", expected="frames with people")
    return spec.model_copy(
        update={
            "name": f"{spec.name}-int8",
            "precision": "int8",
            "detector": _quantise(spec.detector, detector_net.fed, folder / f"{spec.name}-detector"),
            "reid": _quantise(spec.reid, reid_net.fed, folder / f"{spec.name}-reid"),
        }
    )


def with_batch(spec: PairSpec, people: int, folder: Path) -> PairSpec:
    """The pair with a re-ID network that takes ``people`` crops at once, where it is OpenVINO's and takes one.

    A graph of batch one would run once a person, which no user of it has to put up with.
    """
    if spec.reid.suffix.lower() != ".xml" or people == 1:
        return spec
    import openvino

    network = openvino_core().read_model(str(spec.reid))
    shape = network.input(0).get_partial_shape()
    if not shape[0].is_static or shape[0].get_length() != 1:
        return spec
    shape[0] = people
    network.reshape(shape)
    path = folder / f"{spec.name}-reid-{people}.xml"
    openvino.save_model(network, str(path), compress_to_fp16=False)
    return spec.model_copy(update={"reid": path})


def _quantise(path: Path, fed: Sequence[NDArray[np.float32]], out: Path) -> Path:
    if path.suffix.lower() == ".xml":
        return _by_nncf(path, fed, out.with_suffix(".xml"))
    return _by_onnxruntime(path, fed, out.with_suffix(".onnx"))


def _by_nncf(path: Path, fed: Sequence[NDArray[np.float32]], out: Path) -> Path:
    try:
        import nncf
    except ImportError:
        raise InputError(
            "quantising an OpenVINO network needs `nncf`, which is not installed",
            where=str(path),
            remedy="pip install 'edge-person-search[peers]', or leave `--calibration` out",
        ) from None
    import openvino

    model = openvino_core().read_model(str(path))
    batch = model.input(0).get_partial_shape()[0]
    rows = [row for images in fed for row in (images if batch.is_static and batch.get_length() == 1 else [images])]
    data = nncf.Dataset([row[None] if row.ndim == 3 else row for row in rows])
    with contextlib.redirect_stdout(sys.stderr):  # its progress must not stand in what --json prints
        quantised = nncf.quantize(model, data, subset_size=len(rows))
    openvino.save_model(quantised, str(out), compress_to_fp16=False)
    return out


def _in_opset_13(path: Path, out: Path) -> None:
    """Before opset 13 a DequantizeLinear has one scale for all channels; ONNX Runtime's tool writes one each."""
    import onnx
    from onnx import version_converter

    model = onnx.load(str(path), load_external_data=False)
    if next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")) < 13:
        model = version_converter.convert_version(model, 13)
    onnx.save(model, str(out))


def _by_onnxruntime(path: Path, fed: Sequence[NDArray[np.float32]], out: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self, name: str) -> None:
            self._left: Iterator[dict[str, Any]] = ({name: images} for images in fed)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    import onnxruntime

    name = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    prepared = out.with_name(f"{out.stem}-prepared.onnx")
    _in_opset_13(path, prepared)
    quant_pre_process(str(prepared), str(prepared))
    quantize_static(
        str(prepared),
        str(out),
        Reader(name),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()
    return out
