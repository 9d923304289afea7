"""One page that a stranger can judge a run by.

``content`` holds what a page says, as plain values; ``table`` the columns, for a terminal and for the page; ``charts``
turns figures into SVG that follows the reader's colours; ``pictures`` turns arrays into embedded JPEGs; ``page`` puts
one self-contained HTML file together. Nothing here computes a figure or knows which stage it came from.
"""

from personsearch.benchmarks.report.content import Check, Match, Picture, Ranking, Report, Row, StageTime
from personsearch.benchmarks.report.page import render_page

__all__ = ["Check", "Match", "Picture", "Ranking", "Report", "Row", "StageTime", "render_page"]
