"""How a search protocol is read: rightly, or as a public evaluator reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["strict", "compat", "compat-repeats"]
"""``strict``, or the public evaluators: ``compat`` SeqNet's family, ``compat-repeats`` OIM's and AlignPS's."""


@dataclass(frozen=True)
class SearchRules:
    """What a mode does with the cases in which evaluators disagree.

    Attributes:
        own_image: a gallery that lists the query's own image keeps it.
        repeats: an image that the gallery lists twice is there ``once``; is ``counted`` twice, so that its person
            has to be found twice, but ranked once; or is ``ranked`` twice as well.
        any_box: where the person stands twice in an image, either box will do; otherwise the first one only.
        stated_answers: boxes that the protocol states for its gallery count in place of the labels.
        late_first: of equally similar detections the one that stands last in the gallery ranks first, as
            ``argsort()[::-1]`` has it; otherwise the wrong ones rank first. Concerns top-k alone: average precision
            takes equal similarities together.
    """

    own_image: bool
    repeats: Literal["once", "counted", "ranked"]
    any_box: bool
    stated_answers: bool
    late_first: bool


def rules_of(mode: Mode) -> SearchRules:
    """The rules of a mode.

    ``compat`` follows SeqNet's evaluator (also that of NAE, COAT and their descendants), ``compat-repeats`` the OIM
    and AlignPS evaluators; the two differ only where a gallery lists an image twice (four queries of CUHK-SYSU).

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in _RULES:
        raise ValueError(f"mode is `{mode}`, expected one of {', '.join(_RULES)}")
    return _RULES[mode]


_RULES: dict[str, SearchRules] = {
    "strict": SearchRules(own_image=False, repeats="once", any_box=True, stated_answers=False, late_first=False),
    "compat": SearchRules(own_image=True, repeats="counted", any_box=False, stated_answers=True, late_first=True),
    "compat-repeats": SearchRules(
        own_image=True, repeats="ranked", any_box=False, stated_answers=True, late_first=True
    ),
}
