"""Person-search networks: frames in, boxes, scores and embeddings out.

`SearchModel` is the contract, `build_model` turns a recipe's model part into one. A network is composed from a
trunk (``backbones``), a person detection subnet and a person head (``heads``), and the detector that joins them
(``detectors``); ``deployable`` holds the fixed-shape graph that is exported.
"""

from personsearch.models.build import build_model
from personsearch.models.search_model import SearchModel, TrainOutput

__all__ = ["SearchModel", "TrainOutput", "build_model"]
