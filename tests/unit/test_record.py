"""A record comes back as it was packed; what is none is not taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pykeepssh.link import record

EXAMPLES: dict[type, list[Any]] = {
    int: [1],
    float: [1.5],
    str: ["text", "\udcff \u2028"],
    list: [[], ["R1"]],
    type(None): [None],
}
VALUES = {
    field: st.sampled_from([example for type_ in types for example in EXAMPLES[type_]])
    for field, (types, _) in record.FIELDS.items()
}


RECORD = {field: EXAMPLES[types[0]][0] for field, (types, _) in record.FIELDS.items()}


@given(st.fixed_dictionaries(VALUES))
def test_a_record_comes_back_as_one_line(packed: dict[str, Any]) -> None:
    packed = {**packed, "version": record.VERSION}
    data = record.pack(packed)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert data.isascii()
    assert record.unpack(data) == packed


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"null", b"{}", b'"version"', b'{"version": 0}'])
def test_what_is_no_record_is_none(data: bytes) -> None:
    assert record.unpack(data) is None


@pytest.mark.parametrize("field", record.FIELDS)
@pytest.mark.parametrize("value", [{}, True])
def test_a_field_of_another_type_makes_it_none(field: str, value: object) -> None:
    assert record.unpack(json.dumps({**RECORD, field: value}).encode()) is None


@pytest.mark.parametrize("field", ["pid_started", "since", "starts", "next"])
@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "-1", "1e300", f"1{400 * '0'}"])
def test_a_number_that_tells_nothing_makes_it_none(field: str, value: str) -> None:
    data = json.dumps({**RECORD, field: "value"}).replace('"value"', value)
    assert record.unpack(data.encode()) is None


def test_a_record_of_an_older_kssh_that_still_runs_is_read() -> None:
    older = {field: value for field, value in RECORD.items() if field != "allocated"}
    found = record.unpack(json.dumps({**older, "version": record.VERSION}).encode())
    assert found is not None
    assert found["allocated"] == []


@given(st.binary())
def test_no_bytes_are_too_odd(data: bytes) -> None:
    assert record.unpack(data) is None or json.loads(data)


NAMES = {
    ("alice@host", ("R2222",)): "alice@host-R2222",
    ("host", ("L8080", "D1080")): "host-L8080-D1080",
    ("ssh://alice@host:22/", ()): "ssh:__alice@host:22_",
    ("../../etc/passwd", ()): "_.._etc_passwd",
    (".hidden", ()): "hidden",
    ("höst", ("L/run/a b",)): "höst-L_run_a_b",
    ("x" * 200, ()): "x" * 80,
}


@pytest.mark.parametrize(("destination", "forwards"), NAMES)
def test_a_name_can_be_read_and_is_a_file_s(destination: str, forwards: tuple[str, ...]) -> None:
    readable, _, digits = record.link_name(destination, forwards, [destination]).rpartition("-")
    assert readable == NAMES[destination, forwards]
    assert len(digits) == 8


@given(st.text(), st.lists(st.text()), st.lists(st.text()))
def test_no_name_leaves_its_directory(destination: str, forwards: list[str], key: list[str]) -> None:
    name = record.link_name(destination, forwards, key)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")


def test_another_key_is_another_name() -> None:
    keys = [["a"], ["b"], ["a", "b"], ["ab"], [], ["\udcff"]]
    names = {record.link_name("host", [], key) for key in keys}
    assert len(names) == len(keys)


def test_a_long_name_still_is_a_file_s() -> None:
    name = record.link_name("\u00f6" * 300, [], [])
    assert len(name.encode()) <= 80 + 9
