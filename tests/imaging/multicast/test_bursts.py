"""Bursts, compared with the same datagrams made one by one."""

from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast.bursts import BurstMaker
from imaging.multicast.wire import MAX_FRAME, Data, Kind, encode_data, make_seal

SYMBOL = 600


@given(
    kind=st.sampled_from([Kind.DATA, Kind.PARITY]),
    key=st.sampled_from([None, bytes(range(32))]),
    session=st.integers(0, (1 << 32) - 1),
    chunk=st.integers(0, (1 << 24) - 1),
    length=st.integers(1, MAX_FRAME),
    numbers=st.lists(st.integers(0, 65535), min_size=1, max_size=44),
    sequence=st.integers((1 << 32) - 50, (1 << 32) - 1) | st.integers(0, 1 << 31),
    fill=st.binary(min_size=8, max_size=8),
)
def test_a_burst_is_the_datagrams_one_by_one(
    kind: Kind,
    key: bytes | None,
    session: int,
    chunk: int,
    length: int,
    numbers: list[int],
    sequence: int,
    fill: bytes,
) -> None:
    seal = make_seal(key)
    payloads = [(fill + bytes([place])).ljust(SYMBOL, fill[:1]) for place in range(len(numbers))]
    buffers = BurstMaker(kind, session, seal).buffers(
        chunk, length, numbers, [memoryview(payload) for payload in payloads], sequence
    )
    made = [bytes(buffers[place]) + bytes(buffers[place + 1]) for place in range(0, len(buffers), 2)]
    assert made == [
        encode_data(
            Data(session, chunk, length, number, sequence + place & 0xFFFFFFFF, payload, kind is Kind.PARITY),
            seal,
        )
        for place, (number, payload) in enumerate(zip(numbers, payloads, strict=True))
    ]
