"""From a checkpoint to an artifact: ONNX graphs that provably do what the network does.

In: ``checkpoint.pt`` of a run. Out: a folder with ``manifest.json``, ``search.onnx``, ``query.onnx`` and
``MODEL_CARD.md`` that the runtime reads. Start at `checkpoint` (the whole way), then ``to_onnx`` (graphs),
``quantise`` (int8), ``gate`` (parity), ``artifact`` and ``model_card`` (what is written). ``tensorrt_rtx`` puts a
graph through NVIDIA's parser and builder on a CPU. The gate runs graphs through engines itself (``graphs``): what it
judges must not depend on the runtime stage. What needs torch is imported when first asked for: the gate compares
engines on devices that have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personsearch.export.artifact import update_figures

if TYPE_CHECKING:
    from personsearch.export.checkpoint import ParityFailure, export_checkpoint

__all__ = ["ParityFailure", "export_checkpoint", "update_figures"]


def __getattr__(name: str) -> Any:
    if name in ("ParityFailure", "export_checkpoint"):
        from personsearch.export import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
