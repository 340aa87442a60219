"""What is sealed in control datagrams: any plaintext is a value or a WireError."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.weave.control import LEAST_PROBE, Control, What, decode
from plugins.weave.wire import MAX_CARRIED, MAX_DATAGRAM, WireError

NUMBER = st.integers(0, 2**32 - 1)
CONTROLS = st.one_of(
    st.sampled_from([What.KEEPALIVE, What.GREETING, What.GOODBYE]).map(Control),
    st.binary(max_size=MAX_CARRIED).map(lambda message: Control(What.MESSAGE, message)),
    st.builds(Control, st.just(What.LOSSY), lossy=st.booleans()),
    st.builds(Control, st.just(What.ARRIVED), st.just(b""), NUMBER, st.integers(0, 65535)),
    st.builds(Control, st.just(What.PROBE), st.just(b""), NUMBER, st.integers(LEAST_PROBE, 2000)),
)


@given(CONTROLS)
@example(Control(What.PROBE, number=1, size=MAX_DATAGRAM))
@pytest.mark.slow
def test_what_is_made_is_read_as_it_was(control: Control) -> None:
    assert decode(control.encode()) == control


@pytest.mark.slow
@given(st.one_of(st.binary(max_size=60), CONTROLS.map(Control.encode)), st.binary(max_size=2))
@example(bytes([What.MESSAGE]) + bytes(MAX_CARRIED + 1), b"")
@example(bytes([What.PROBE]) + bytes(MAX_DATAGRAM), b"")
def test_any_plaintext_is_a_value_that_is_made_into_it_or_refused(data: bytes, end: bytes) -> None:
    try:
        control = decode(data + end)
    except WireError:
        return
    assert control.encode() == data + end


@pytest.mark.parametrize(
    "control",
    [
        Control(What.MESSAGE, bytes(MAX_CARRIED + 1)),
        Control(What.PROBE, size=LEAST_PROBE - 1),
        Control(What.PROBE, size=MAX_DATAGRAM + 1),
    ],
)
def test_what_is_out_of_bounds_is_not_sent(control: Control) -> None:
    with pytest.raises(ValueError, match=r"a (message|probe) of"):
        control.encode()
