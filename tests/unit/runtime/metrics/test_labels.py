"""Names as values of labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics.exposition import Rendered, families
from runtime.metrics.figures import by
from runtime.metrics.labels import LONGEST, label
from runtime.metrics.negotiation import Format

ID = "0123456789abcdef"


@pytest.mark.parametrize("name", ["web", "my_net-1.x", "größe", "a b", 'say "x" \\ y'])
def test_a_name_stays_as_it_is(name: str) -> None:
    assert label(name, ID) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "~0123456789ab"),
        ("a\nb", "a_b~0123456789ab"),
        ("\x1b[31m", "_[31m~0123456789ab"),
        ("\udc80", "_~0123456789ab"),
        ("x" * 500, "x" * LONGEST + "~0123456789ab"),
    ],
)
def test_what_is_changed_is_marked_by_the_id(name: str, shown: str) -> None:
    assert label(name, ID) == shown


@pytest.mark.slow
@given(st.text(max_size=200))
def test_any_name_can_be_served_and_read(name: str) -> None:
    shown = label(name, ID)
    page = Rendered(families([by("netkit_networks", {shown: 1})]))
    text = page.body(Format.PLAIN, compressed=False).decode()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"driver": shown}
