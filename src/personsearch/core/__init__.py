"""Torch-free contracts shared by every stage.

``detections`` is the value that travels from an engine to a sink, ``geometry`` and ``preprocess`` map
frames to network inputs and boxes back, ``manifest`` describes an exported artifact, ``recipes`` describes
a run. ``errors`` and ``files`` hold the two habits of the project: bad input gets one clear line, and
nothing half-written is left behind. Nothing here imports torch.
"""
