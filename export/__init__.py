"""From a checkpoint to an artifact: ONNX graphs that provably do what the network does.

In: ``checkpoint.pt`` of a run. Out: a folder with ``manifest.json``, ``search.onnx``, ``query.onnx`` and
``MODEL_CARD.md`` that the runtime reads. Start at `checkpoint` (the whole way), then ``to_onnx`` (graphs),
``quantise`` (int8), ``parity`` (the gate), ``artifact`` and ``model_card`` (what is written). ``tensorrt_rtx`` puts a
graph through NVIDIA's parser and builder on a CPU. The gate runs graphs through ONNX Runtime itself (``graphs``):
what it judges must not depend on the runtime stage.
"""

from personsearch.export.artifact import update_figures
from personsearch.export.checkpoint import ParityFailure, export_checkpoint

__all__ = ["ParityFailure", "export_checkpoint", "update_figures"]
