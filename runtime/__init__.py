"""The stream: an artifact, a source of frames and pictures of a person in; matches and an annotated video out.

``engine`` opens an artifact (`open_engine`), ``sources`` a file, an image sequence, a camera or an address,
``query`` reads the pictures of the person. ``pipeline`` runs them: decoding in a thread of its own, inference
and matching in the caller's, ``sinks`` (JSON lines, video by ``drawing`` and ``video_writer``) in a third.
``gallery`` keeps embeddings for a search backwards in time; ``tracking`` follows people from frame to frame, and
``labelling`` proposes labels with it; ``machine`` says what can run here.

Nothing here imports torch: NumPy, OpenCV and ONNX Runtime are enough. Start reading at ``pipeline``.
"""

from __future__ import annotations

from personsearch.runtime.engine import Engine, StageTimes, default_artifact, open_engine

__all__ = ["Engine", "StageTimes", "default_artifact", "open_engine"]
