"""The look-up table file: what is written is read, what is not as documented is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.core.lookup_table_file import (
    LookupTableFile,
    check_identities,
    read_lookup_table,
    write_lookup_table,
)


def content(names: tuple[str, ...] = ("ann", "bob", "eve"), **changes: Any) -> LookupTableFile:
    table = np.array([[0.6, 0.8], [1, 0], [0, 0]], np.float32)
    fields = {"names": names, "table": table, "counts": np.array([4, 1, 0]), "source": "osnet.onnx, tiny (train)"}
    return LookupTableFile(**{**fields, **changes})


@pytest.mark.parametrize("names", [("ann", "b\u00f6b", "eve"), ()])
def test_reads_what_was_written(tmp_path: Path, names: tuple[str, ...]) -> None:
    written = content(names)
    write_lookup_table(tmp_path / "table.npz", written)
    found = read_lookup_table(tmp_path / "table.npz")
    assert (found.names, found.source, found.unseen) == (names, "osnet.onnx, tiny (train)", (2,))
    assert found.table.dtype == np.float32
    np.testing.assert_array_equal(found.table, written.table)
    np.testing.assert_array_equal(found.counts, [4, 1, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": np.zeros((0, 2))}, r"table has shape \(0, 2\)"),
        ({"table": np.zeros(3)}, "table has shape"),
        ({"counts": np.array([1, 2])}, r"counts has shape \(2,\), expected \(3,\)"),
        ({"counts": np.array([1, 2, -1])}, "at least 0"),
        ({"names": ("ann", "bob")}, "2 names for 3 rows"),
        ({"table": np.array([[1, 0], [0.5, 0.5], [0, 1]])}, r"row 1 has length 0\.7071"),
        ({"table": np.array([[1, 0], [0, 1], [np.nan, 1]])}, "row 2 has length nan"),
    ],
)
def test_content_that_is_no_table_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        content(**changes)


def test_files_that_are_no_table_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("a table")
    np.savez(tmp_path / "other.npz", table=np.eye(2))
    np.savez(tmp_path / "array.npz", table=np.array([object()]), allow_pickle=True)
    np.savez(
        tmp_path / "long.npz",
        format="personsearch-lookup-table/1", names=[], table=2 * np.eye(2), counts=[1, 1], source="",
    )  # fmt: skip
    np.savez(tmp_path / "newer.npz", format="another/2", names=[], table=np.eye(2), counts=[1, 1], source="")
    for name, message in (
        ("absent", "no such file"), ("text", "cannot be read"), ("other", "cannot be read"), ("array", "cannot be"),
        ("long", "row 0 has length 2"), ("newer", "has format `another/2`"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as raised:
            read_lookup_table(tmp_path / f"{name}.npz")
        assert "\n" not in str(raised.value)
        assert f"{name}.npz" in str(raised.value)
    with pytest.raises(InputError, match=r"expected \.npz"):
        write_lookup_table(tmp_path / "table.txt", content())
    assert not (tmp_path / "table.txt").exists()


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        (["ann", "eve", "bob"], ["ann", "bob", "eve"], "identity 1 of the table is `eve`, of the data set `bob`"),
        (["ann"], ["ann", "bob"], "identity 1 of the table is missing, of the data set `bob`"),
        (["ann", "bob", "eve"], ["ann", "bob"], "identity 2 of the table is `eve`, of the data set missing"),
        ([], ["ann"], "identity 0 of the table is missing, of the data set `ann`"),
    ],
)
def test_the_first_difference_of_two_lists_is_told(given: list[str], wanted: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"t.npz: {message}; expected the data set's {len(wanted)} identities"):
        check_identities(given, wanted, where="t.npz", whose="the table")


def test_equal_lists_pass() -> None:
    check_identities([], [], where="t.npz", whose="the table")
    check_identities(["ann", "bob"], ("ann", "bob"), where="t.npz", whose="the table")
