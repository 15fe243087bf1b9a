"""Encrypted frames: there and back, nothing else comes out, and a library agrees."""

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast.cipher import CipherError, FrameCipher
from tests.imaging.multicast.test_wire import documented

KEY = bytes(range(32))
SESSION = 0x1234ABCD
CIPHER = FrameCipher(KEY, SESSION)


@given(st.binary(max_size=3000), st.integers(0, (1 << 24) - 1))
def test_a_frame_comes_back_and_another_library_reads_it(frame: bytes, chunk: int) -> None:
    sealed = CIPHER.seal(chunk, frame)
    assert CIPHER.open(chunk, sealed) == frame
    key = blake3(KEY, derive_key_context="pxeboot multicast 2: frame").digest()
    nonce = SESSION.to_bytes(4, "big") + chunk.to_bytes(8, "big")
    assert AESGCM(key).decrypt(nonce, sealed, None) == frame


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_flipped_bit_does_not_come_out(frame: bytes, data: st.DataObject) -> None:
    sealed = bytearray(CIPHER.seal(5, frame))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CipherError):
        CIPHER.open(5, bytes(sealed))


def test_another_chunk_session_key_or_length_does_not_come_out() -> None:
    sealed = CIPHER.seal(5, b"a stored frame")
    for cipher, chunk, data in (
        (CIPHER, 6, sealed),
        (FrameCipher(KEY, 1), 5, sealed),
        (FrameCipher(bytes(32), SESSION), 5, sealed),
        (CIPHER, 5, sealed[:-1]),
        (CIPHER, 5, b""),
    ):
        with pytest.raises(CipherError):
            cipher.open(chunk, data)


def test_the_vector_of_the_document() -> None:
    assert CIPHER.seal(7, b"a stored frame") == documented("An encrypted frame")


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        FrameCipher(b"short", 1)
