"""What the server may order, and nonsense in its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.customise.order import Drop, Linux, Order, from_task
from imaging.errors import CustomiseError


def test_nothing_to_do() -> None:
    assert from_task(None) == Order()
    assert from_task({"hostname": None}).empty
    assert from_task({"environment": {"PXEBOOT_HOST": "pc1"}, "masked": ["secret"]}).empty
    assert not from_task({"hostname": "pc1"}).empty


def test_a_whole_order() -> None:
    order = from_task(
        {
            "hostname": "pc1",
            "linux": {"machine_id": True},
            "files": [{"path": "/etc/motd", "mode": "0640", "owner": "0:4", "content": "aGk="}],
            "scripts": [{"name": "a", "text": "true"}, {"name": "b", "phase": "pre", "text": "true"}],
            "windows": {"name": "unattend", "join": {"domain": "x.local", "password": "s3cret"}},
        }
    )
    assert order.linux == Linux(machine_id=True)
    assert order.files == (Drop("/etc/motd", "/etc/motd", "linux", 0o640, (0, 4), b"hi"),)
    assert [s.name for s in order.phase("post")] == ["a"]
    assert order.windows.join is not None
    assert "s3cret" not in repr(order)


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ([], "customise"),
        ({"hostname": "a_b"}, "RFC 1123"),
        ({"linux": {"machine_id": "yes"}}, r"linux\.machine_id"),
        ({"scripts": [{"text": ""}]}, r"scripts\[0\]\.text"),
        ({"scripts": [{"text": "true", "seconds": 0}]}, "seconds"),
        ({"scripts": [{"text": "true", "seconds": True}]}, "seconds"),
        ({"scripts": [{"text": "true", "phase": "pre", "system": "linux"}]}, "system"),
        ({"scripts": [{"text": "true", "environment": {"A B": "x"}}]}, "A B"),
        ({"scripts": [{"text": "true", "arguments": ["a\0"]}]}, "arguments"),
        ({"files": [{"path": "/../x", "content": ""}]}, "no path"),
        ({"files": [{"path": "/x", "content": "%"}]}, "content"),
        ({"files": [{"path": "/x", "hash": "12"}]}, "hash"),
        ({"files": [{"path": "/x", "mode": "9"}]}, "mode"),
        ({"files": [{"path": "/x", "system": "partition:0"}]}, "system"),
        ({"windows": {"drivers": {"files": [{"path": "../x", "size": 1}]}}}, "no path"),
        ({"problem": "There is no secret join."}, "There is no secret join."),
    ],
)
def test_what_makes_no_sense_is_named(order: Any, named: str) -> None:
    with pytest.raises(CustomiseError, match=named):
        from_task(order)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["hostname", "linux", "windows", "join", "drivers", "files", "path", "scripts",
                         "text", "phase", "system", "seconds", "environment", "masked", "size",
                         "mode", "hash"])
        | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_an_order_or_refused(value: Any) -> None:
    try:
        order = from_task(value)
    except CustomiseError:
        return
    assert isinstance(order, Order)


def test_secrets_are_masked_longest_first() -> None:
    order = from_task({"masked": ["pass", "password1", "abc"]})
    assert order.mask("password1 pass abc") == "*** *** abc"  # three letters are no secret
