"""What a page sends of its terminal's size."""

from __future__ import annotations

import pytest

from netkit.ui.shell import _size


def test_a_size_is_rows_and_columns() -> None:
    assert _size('{"rows": 17, "columns": 106}') == {"h": 17, "w": 106}


@pytest.mark.parametrize(
    "text",
    [
        "", "17", "[]", "null", '{"rows": 17}', '{"rows": "17", "columns": 80}',
        '{"rows": 0, "columns": 80}', '{"rows": 24, "columns": 1001}',
        '{"rows": 1.5, "columns": 2}',
    ],
)  # fmt: skip
def test_what_is_none_changes_nothing(text: str) -> None:
    assert _size(text) == {}
