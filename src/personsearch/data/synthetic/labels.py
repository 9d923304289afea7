"""What of a drawn person becomes ground truth."""

from __future__ import annotations

from personsearch.data.synthetic.scene import Seen

IGNORED = -2


def label(entry: Seen, min_visible: float) -> int | None:
    """The ``person_id`` to write: -2 where too little is seen, none where nothing worth a box is."""
    x1, y1, x2, y2 = entry.box_xyxy
    if x2 - x1 < 4 or y2 - y1 < 8 or entry.visible <= 0.02:
        return None
    return entry.person_id if entry.visible >= min_visible else IGNORED
