"""Finding things by what people and programs call them."""

from __future__ import annotations

import base64
import json

import pytest

from pxeboot.errors import Invalid
from pxeboot.services import lookup


def test_a_cursor_leads_back_to_where_it_was_made() -> None:
    assert lookup.read_cursor(lookup.make_cursor(10, "rescue"), int, str) == [10, "rescue"]


@pytest.mark.parametrize(
    "text",
    ["[]", "[1]", '["x", 1]', '[true, "x"]', f'[{10**30}, "x"]', '[1, "\\ud800"]', "[" * 9000, "{", ""],
)
def test_what_is_no_cursor_of_ours_is_refused(text: str) -> None:
    for cursor in (base64.urlsafe_b64encode(text.encode()).decode(), json.dumps(text)):
        with pytest.raises(Invalid):
            lookup.read_cursor(cursor, int, str)
