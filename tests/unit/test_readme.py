"""The README holds no figure that a record does not, and no command that the program does not know."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from personsearch.benchmarks.readme import documents, with_tables, write_tables
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


@pytest.mark.parametrize("page", documents(ROOT), ids=lambda page: page.name)
def test_tables_are_those_of_the_records(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text, read_results(ROOT / "benchmarks/results")) == text, "run `make docs-tables`"


def test_documents_are_those_with_tables(tmp_path: Path) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "README.md").write_text("no table")
    for name in ("docs/b.md", "docs/deep/a.md"):
        (tmp_path / name).write_text("<!-- table:demo -->\nold\n<!-- /table:demo -->\n")
    pages = documents(tmp_path)
    assert pages == [tmp_path / "docs/b.md", tmp_path / "docs/deep/a.md"]
    (tmp_path / "results").mkdir()
    write_tables(pages[0], tmp_path / "results")
    assert "No demo has been recorded" in pages[0].read_text()


def test_tables_of_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("")
    for page, results in (("missing.md", "."), ("page.md", "missing")):
        with pytest.raises(InputError, match="no such"):
            write_tables(tmp_path / page, tmp_path / results)


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
