"""Detectors: how trunk, detection subnet and person head make a `SearchModel`. One file a family."""
