"""Which person is asked for in which image of a training batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from personsearch.models.detectors.sampling import Labels

NOBODY = -1


@dataclass(frozen=True)
class QueryPairs:
    """The query of each image of a batch.

    Attributes:
        images: ``(B,)`` int64, the image of the batch that the query was cut from.
        boxes: ``(B, 4)`` the query's box in it.
        person_ids: ``(B,)`` who is asked for; -1 where nobody could be.
    """

    images: Tensor
    boxes: Tensor
    person_ids: Tensor


def choose_queries(labels: Labels, frame_wh: tuple[int, int]) -> QueryPairs:
    """Draws a query for each image of a batch, by torch's generator.

    The paper trains on every ordered pair of images that show one identity (issue 2 of its repository). Batches in
    groups of images that share identities (`DataRecipe.images_per_identity`) have such pairs inside, and each image is
    once the gallery of another one and, usually, once a query's image. In this order, one of equals drawn at random:

    1. a labelled person who stands in the image and in another one of the batch, as seen in the other;
    2. where there is none, a labelled person of the image itself: the pair is twice the same image;
    3. where nobody in it has an identity, a labelled person of another image, who is then to be found nowhere;
    4. where nobody in the batch has an identity, nobody: the image is its own partner, and its whole frame the box.

    Args:
        labels: of the batch.
        frame_wh: of its images.
    """
    people = [
        [(image, row, person) for row, person in enumerate(ids.tolist()) if person >= 0]
        for image, ids in enumerate(labels.person_ids)
    ]
    images, boxes, person_ids = [], [], []
    for image, own in enumerate(people):
        others = [one for number, part in enumerate(people) if number != image for one in part]
        here = {person for _, _, person in own}
        found = _draw([one for one in others if one[2] in here]) or _draw(own) or _draw(others)
        if found is None:
            images.append(image)
            boxes.append(labels.people[image].new_tensor([0, 0, *frame_wh]))
            person_ids.append(NOBODY)
        else:
            images.append(found[0])
            boxes.append(labels.people[found[0]][found[1]])
            person_ids.append(found[2])
    device = labels.people[0].device
    return QueryPairs(torch.tensor(images, device=device), torch.stack(boxes), torch.tensor(person_ids, device=device))


def _draw(candidates: Sequence[tuple[int, int, int]]) -> tuple[int, int, int] | None:
    if not candidates:
        return None
    return candidates[int(torch.randint(len(candidates), (1,)))]
