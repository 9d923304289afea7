"""Memory that loader processes and the training process share, so that pixels need not go through a pipe."""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Sequence

import numpy as np

from personsearch.data.sample import Frame


class BatchSlots:
    """Places for the pixels of batches under way.

    Anonymous shared memory, made before the processes are forked: it takes no descriptors and nothing of /dev/shm,
    which containers keep small. Where processes are spawned there can be none.

    Args:
        count: slots.
        slot_bytes: of the largest batch.
    """

    def __init__(self, count: int, slot_bytes: int) -> None:
        self.count = count
        self._memory = [mmap.mmap(-1, slot_bytes) for _ in range(count)]

    @staticmethod
    def possible() -> bool:
        """Whether processes started now inherit memory."""
        return multiprocessing.get_start_method() == "fork"

    def view(self, slot: int, shape: Sequence[int]) -> Frame:
        """The first bytes of a slot as uint8 pixels; writing to it writes to the slot."""
        return np.frombuffer(self._memory[slot], dtype=np.uint8, count=math.prod(shape)).reshape(shape)
