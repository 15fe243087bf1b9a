"""Our Ed25519 check against RFC 8032's vectors and against the cryptography library."""

import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.ed25519 import verify

L = 2**252 + 27742317777372353535851937790883648493
# RFC 8032 §7.1: public key, message and signature of TEST 1, 2, 3 and SHA(abc).
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_rfc_8032_vectors(key: str, message: str, signature: str) -> None:
    good = bytes.fromhex(signature)
    assert verify(bytes.fromhex(key), bytes.fromhex(message), good)
    assert not verify(bytes.fromhex(key), bytes.fromhex(message) + b"x", good)
    for at in (0, 31, 32, 63):
        bad = bytearray(good)
        bad[at] ^= 1
        assert not verify(bytes.fromhex(key), bytes.fromhex(message), bytes(bad))


def test_a_second_signature_by_adding_the_order_is_refused() -> None:
    key, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    s = int.from_bytes(signature[32:], "little") + L
    assert not verify(key, message, signature[:32] + s.to_bytes(32, "little"))


def test_malformed_keys_and_signatures_are_not_valid() -> None:
    key, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    not_a_point = (2).to_bytes(32, "little")
    for k, s in (
        (key[:31], signature),
        (key, signature[:63]),
        (key, b""),
        (b"\xff" * 32, signature),
        (not_a_point, signature),
    ):
        assert not verify(k, message, s)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 95), st.integers(0, 255))
def test_agrees_with_the_cryptography_library(message: bytes, at: int, value: int) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(os.urandom(32))
    key, signature = secret.public_key().public_bytes_raw(), secret.sign(message)
    assert verify(key, message, signature)
    both = bytearray(key + signature)
    both[at] = value
    bad_key, bad_signature = bytes(both[:32]), bytes(both[32:])
    try:
        Ed25519PublicKey.from_public_bytes(bad_key).verify(bad_signature, message)
        expected = True
    except (InvalidSignature, ValueError):
        expected = False
    assert verify(bad_key, message, bad_signature) == expected
