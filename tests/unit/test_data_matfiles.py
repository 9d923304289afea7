"""Nested .mat records against SciPy's reader, and files that are cut, swapped or of another format."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mat_files import cells, records, write_mat
from scipy.io import loadmat

from personsearch.core.errors import InputError
from personsearch.data.matfiles import iter_records, load_array, numbers, structures, text

FIELDS = ("name", "values", "inner")
KINDS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def record(name: str, values: Any, inner: Any) -> dict[str, Any]:
    return {"name": name, "values": values, "inner": inner}


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        kind = np.dtype(draw(st.sampled_from(KINDS)))
        shape = (draw(st.integers(0, 3)), draw(st.integers(0, 4)))
        values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 120, shape).astype(kind)
        inner = records(
            [{"a": float(i), "longer": "x" * i} for i in range(1, draw(st.integers(1, 4)))], ("a", "longer")
        )
        name = draw(st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=12))
        found.append(record(name, values, inner))
    return found


@settings(max_examples=60)
@given(rows(), st.booleans(), st.booleans())
def test_records_are_as_scipy_reads_them(
    tmp_path_factory: pytest.TempPathFactory, stated: list[dict[str, Any]], compressed: bool, in_cells: bool
) -> None:
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    array = cells([records([row], FIELDS) for row in stated]) if in_cells else records(stated, FIELDS)
    write_mat(path, compressed, before=np.arange(3), wanted=array)
    expected = loadmat(path)["wanted"].ravel()
    found = list(iter_records(path, "wanted"))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        theirs = other[0, 0] if in_cells else other
        assert one.one("name", text) == theirs["name"][0]
        values = one.one("values", numbers)
        assert values.dtype == theirs["values"].dtype
        np.testing.assert_array_equal(values, theirs["values"])
        inner = one.one("inner", structures)
        assert len(inner) == theirs["inner"].size
        assert [float(value[0, 0]) for value in inner.each("a", numbers)] == [
            float(value[0, 0]) for value in theirs["inner"]["a"].ravel()
        ]
        assert inner.each("longer", text) == [str(value[0]) for value in theirs["inner"]["longer"].ravel()]


def test_doubles_that_matlab_packs_into_bytes_are_doubles_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, compressed=False, a=records([{"x": np.array([[200.0, 100.0]])}], ("x",)))
    content = path.read_bytes()
    # SciPy writes 16 bytes of double (9); MATLAB writes 2 of uint8 (2) where they do, inside the tag.
    packed = content.replace(struct.pack("<II2d", 9, 16, 200, 100), struct.pack("<HH4B", 2, 2, 200, 100, 0, 0))
    cut = len(content) - len(packed)
    assert cut == 16
    head = packed[:128]
    for size in sorted({struct.unpack_from("<I", content, 132)[0], 64}, reverse=True):
        packed = packed.replace(struct.pack("<II", 14, size), struct.pack("<II", 14, size - cut), 1)
    path.write_bytes(head + packed[128:])
    assert loadmat(path)["a"]["x"][0, 0].dtype == np.uint8
    (one,) = iter_records(path, "a")
    assert (one.one("x", numbers).dtype, one.one("x", numbers).tolist()) == (np.float64, [[200, 100]])


def test_fields_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, a=records([record("n", np.ones((1, 1)) * 1j, records([], ("a",)))], FIELDS))
    (one,) = iter_records(path, "a")
    for field, decode, said in (
        ("other", text, "has no field `other`, only name, values, inner"),
        ("name", numbers, "`name`: array of class 4 where numbers should be"),
        ("name", structures, "`name`: array of class 4 where records should be"),
        ("inner", text, "`inner`: array of class 2 where text should be"),
        ("values", numbers, "`values`: complex numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            one.one(field, decode)  # type: ignore[arg-type]  # decoders of several types in one table
    with pytest.raises(ValueError, match="0 records where one should be"):
        one.one("inner", structures).one("a", numbers)
    assert one.one("inner", structures).each("a", numbers) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, compressed, a=records([record("name", np.arange(5), records([], ("a",)))] * 3, FIELDS))
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.mat: (is no MATLAB 5 file|is damaged|holds no `a`)"):
            read_all(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_with_wrong_bytes_is_read_or_refused(tmp_path: Path, compressed: bool) -> None:
    path, rng = tmp_path / "a.mat", np.random.default_rng(3)
    write_mat(path, compressed, a=records([record("name", np.arange(5), records([], ("a",)))] * 3, FIELDS))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        broken = whole.copy()
        broken[rng.integers(124, len(whole))] = rng.integers(256)
        path.write_bytes(broken.tobytes())
        try:
            read_all(path)
        except (InputError, ValueError):
            refused += 1
    assert refused > 50


def read_all(path: Path) -> None:
    for one in iter_records(path, "a"):
        one.one("name", text)
        one.one("values", numbers)
        one.one("inner", structures)


def test_other_formats_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mat: cannot be read"):
        list(iter_records(tmp_path / "gone.mat", "a"))
    with pytest.raises(InputError, match=r"gone\.mat: cannot be read"):
        load_array(tmp_path / "gone.mat", ["a"])
    hdf5 = tmp_path / "new.mat"
    hdf5.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" * 20)
    with pytest.raises(InputError, match=r"new\.mat: is no MATLAB 5 file.*save -v7"):
        list(iter_records(hdf5, "a"))
    with pytest.raises(InputError, match=r"new\.mat: is no \.mat file that can be read"):
        load_array(hdf5, ["a"])


def test_a_variable_by_its_first_name_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat(path, second=np.array([[2]]), third=np.array([[3]]))
    assert load_array(path, ["first", "second", "third"]).tolist() == [[2]]
    with pytest.raises(InputError, match="holds no `first` or `fourth`, only `second`, `third`"):
        load_array(path, ["first", "fourth"])
    with pytest.raises(InputError, match="holds no `first`, only `second`, `third`"):
        list(iter_records(path, "first"))
