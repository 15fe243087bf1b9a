"""Public keys of OpenSSH as one line of text: what may go into an authorized_keys file, and fingerprints.

RFC 4253 §6.6, RFC 5656, RFC 8709; a fingerprint is what ``ssh-keygen -l`` prints. Standard library only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

#: Kinds of keys that sshd and dropbear both take; DSA and certificates are not among them.
KINDS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_MAX_LINE = 4096
_MIN_RSA_BITS = 2048


class KeyInvalid(ValueError):
    """A text is no public key that may be used; ``str()`` says what to give instead."""


def checked_key(text: object) -> str:
    """``KIND BASE64 [COMMENT]`` in its plain form. Raises KeyInvalid.

    Options in front (``command=…``) are refused: who may sign in here is root in a RAM disk.
    """
    if not isinstance(text, str) or len(text) > _MAX_LINE or not text.strip().isprintable():
        raise KeyInvalid("give one line, like ssh-ed25519 AAAA… name")
    if "PRIVATE KEY" in text:
        raise KeyInvalid("this is a private key; give the public one (the file ending in .pub)")
    kind, _, rest = text.strip().partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if kind not in KINDS:
        raise KeyInvalid(f"it must begin with its kind: {', '.join(KINDS)}")
    fields = _fields(encoded)
    if not fields or fields[0] != kind.encode() or len(fields) < 2:
        raise KeyInvalid("its base64 text is not whole or belongs to another kind; copy it again")
    if kind == "ssh-ed25519" and len(fields[1]) != 32:
        raise KeyInvalid("an Ed25519 key has 32 bytes; copy it again")
    if kind == "ssh-rsa" and (len(fields) != 3 or int.from_bytes(fields[2]).bit_length() < _MIN_RSA_BITS):
        raise KeyInvalid(f"an RSA key needs {_MIN_RSA_BITS} bits; make one with ssh-keygen -t ed25519")
    return " ".join(filter(None, (kind, encoded, " ".join(comment.split())[:200])))


def fingerprint(key: str) -> str:
    """``SHA256:…`` of a public key's line. Raises KeyInvalid."""
    words = key.split()
    if len(words) < 2 or not _fields(words[1]):
        raise KeyInvalid("no public key")
    digest = hashlib.sha256(base64.b64decode(words[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _fields(encoded: str) -> list[bytes]:
    """The length-prefixed strings of a key (RFC 4251 §5); none when they do not fill it exactly."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return []
    found, at = [], 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found if at == len(data) else []
