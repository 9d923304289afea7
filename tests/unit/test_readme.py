"""The README holds no figure that a record does not, and no command that the program does not know."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from personsearch.benchmarks.readme import with_tables
from personsearch.benchmarks.results import read_results
from personsearch.cli.app import app
from personsearch.core.errors import InputError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    found = []
    for block in re.findall(r"```\n(.*?)```", README, flags=re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("personsearch"):
                found.append(words[1:])
    return found


def test_tables_are_those_of_the_records() -> None:
    assert with_tables(README, read_results(ROOT / "benchmarks/results")) == README, "run `personsearch bench tables`"


def test_a_marker_without_a_table_is_named() -> None:
    with pytest.raises(InputError, match="`table:nothing`"):
        with_tables("<!-- table:nothing -->\n<!-- /table:nothing -->", [])


def test_the_readme_shows_commands() -> None:
    assert {words[0] for words in commands()} >= {"stream", "data", "train", "distill", "export", "evaluate", "bench"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_parses(words: list[str]) -> None:
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    command.make_context("personsearch", list(words))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"recipes/[\w/-]+\.yaml|docs/[\w/-]+(?:\.md)?", README))))
def test_every_file_the_readme_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
