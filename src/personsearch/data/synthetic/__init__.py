"""Generated person-search data: articulated, shaded people of lasting appearance in the scenes of several cameras.

In: `SyntheticSettings`. Out: a data set folder (``docs/conventions.md``) with a train split, a test split of other
people and other cameras, and a video with ground truth. Start reading at `generate`; ``appearance`` says who people
are, ``pose`` how they walk, ``figure`` and ``solid`` how they are drawn, ``scene`` what is around them and
``response`` how a camera sees it all.
"""

from personsearch.data.synthetic.generate import generate
from personsearch.data.synthetic.settings import SyntheticSettings

__all__ = ["SyntheticSettings", "generate"]
