"""Frames of an encrypted session: AES-256-GCM (NIST SP 800-38D) over each stored frame, before it is cut.

By the libcrypto that Python's own `ssl` is linked to, because the boot environment has no other. The nonce is
session and chunk: a chunk sent again is the same bytes again, and every session has a key of its own. One key
for the seals of datagrams and one for frames are derived from the session's key by BLAKE3.
"""

import ctypes
from functools import cache
from typing import Any

TAG = 16
_SEAL = "pxeboot multicast 2: seal of a datagram"
_FRAME = "pxeboot multicast 2: frame"
# <openssl/evp.h>: EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG
_GET_TAG, _SET_TAG = 0x10, 0x11


class CipherError(ValueError):
    """A frame that was not encrypted with this session's key, or was spoilt since."""


def seal_key(key: bytes) -> bytes:
    """The key of the seals of a session with this key (32 bytes; ValueError on another length)."""
    return _derive(key, _SEAL)


class FrameCipher:
    """Raises ValueError unless the key has 32 bytes, OSError where there is no libcrypto 3."""

    def __init__(self, key: bytes, session: int) -> None:
        self._key, self._prefix = _derive(key, _FRAME), session.to_bytes(4, "big")
        self._library = _libcrypto()

    def seal(self, chunk: int, frame: bytes) -> bytes:
        """The encrypted frame and its tag."""
        context, out = self._begin(chunk, len(frame), 1)
        try:
            done = ctypes.c_int()
            self._call("EVP_CipherUpdate", context, out, ctypes.byref(done), frame, len(frame))
            self._call("EVP_CipherFinal_ex", context, ctypes.byref(out, done.value), ctypes.byref(done))
            tag = ctypes.create_string_buffer(TAG)
            self._call("EVP_CIPHER_CTX_ctrl", context, _GET_TAG, TAG, tag)
            return bytes(out.raw[: len(frame)] + tag.raw)
        finally:
            self._library.EVP_CIPHER_CTX_free(context)

    def open(self, chunk: int, sealed: bytes) -> bytes:
        """The frame. Raises CipherError."""
        size = len(sealed) - TAG
        if size < 0:
            raise CipherError("shorter than a tag")
        context, out = self._begin(chunk, size, 0)
        try:
            done = ctypes.c_int()
            self._call("EVP_CipherUpdate", context, out, ctypes.byref(done), sealed, size)
            self._call("EVP_CIPHER_CTX_ctrl", context, _SET_TAG, TAG, sealed[size:])
            self._call("EVP_CipherFinal_ex", context, ctypes.byref(out, done.value), ctypes.byref(done))
            return bytes(out.raw[:size])
        finally:
            self._library.EVP_CIPHER_CTX_free(context)

    def _begin(self, chunk: int, size: int, encrypt: int) -> tuple[Any, Any]:
        context = ctypes.c_void_p(self._library.EVP_CIPHER_CTX_new())
        nonce = self._prefix + chunk.to_bytes(8, "big")
        kind = ctypes.c_void_p(self._library.EVP_aes_256_gcm())
        self._call("EVP_CipherInit_ex", context, kind, None, self._key, nonce, encrypt)
        return context, ctypes.create_string_buffer(size + TAG)

    def _call(self, name: str, *arguments: object) -> None:
        if self._library[name](*arguments) != 1:
            raise CipherError(f"{name}: the frame is not of this session or was spoilt")


@cache
def _libcrypto() -> Any:
    library = ctypes.CDLL("libcrypto.so.3")
    library.EVP_CIPHER_CTX_new.restype = library.EVP_aes_256_gcm.restype = ctypes.c_void_p
    library.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
    library.EVP_CIPHER_CTX_free.restype = None
    return library


def _derive(key: bytes, context: str) -> bytes:
    if len(key) != 32:
        raise ValueError("a session key has 32 bytes")
    # Imported where it is needed, so that a session without key runs on the standard library alone.
    from blake3 import blake3

    return blake3(key, derive_key_context=context).digest()
