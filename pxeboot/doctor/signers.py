"""Who signed a UEFI program, and whether the next link of the boot chain will take it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from pxeboot.doctor import pe


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature: the signer's certificate and who issued it.

    `issuer`, `subject`: common names. `expires`: the signer's own. `intact`: the program is what was signed.
    """

    subject: str
    issuer: str
    expires: datetime
    intact: bool
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Signed:
    """A program and its signers, in the file's order."""

    program: pe.Program
    signers: tuple[Signer, ...]

    @property
    def issuers(self) -> list[str]:
        return list(dict.fromkeys(signer.issuer for signer in self.signers))


def read(data: bytes) -> Signed:
    """Read a program and its signatures. Raises pe.PeError, and nothing else."""
    program = pe.parse(data)
    return Signed(program, tuple(_signer(blob, program.digest) for blob in program.signatures))


def _signer(blob: bytes, digest: bytes) -> Signer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of Microsoft's certificates are not strict DER
            found = pkcs7.load_der_pkcs7_certificates(_trimmed(blob))
        issuers = {certificate.issuer for certificate in found}
        leaves = [one for one in found if one.subject not in issuers or one.subject == one.issuer] or found
        leaf = leaves[0]
        return Signer(_name(leaf.subject), _name(leaf.issuer), leaf.not_valid_after_utc, digest in blob, leaf)
    except Exception as error:  # whatever a library makes of bytes from a file
        raise pe.PeError(f"a signature cannot be read: {error}") from error


def _trimmed(blob: bytes) -> bytes:
    """Without the padding behind it: DER says its own length (X.690 §8.1.3)."""
    if len(blob) > 4 and blob[0] == 0x30 and blob[1] & 0x80:
        count = blob[1] & 0x7F
        return blob[: 2 + count + int.from_bytes(blob[2 : 2 + count], "big")]
    return blob


def _name(name: x509.Name) -> str:
    for wanted in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = name.get_attributes_for_oid(wanted)
        if found:
            return str(found[0].value)
    return name.rfc4514_string()


def vouched_by(shim: Signed, other: Signed) -> str:
    """The name of the certificate in `shim` that takes `other`; "" = shim will refuse it.

    By shim's own certificate: it issued the signer's, or is the signer's.
    """
    for authority in _certificates(shim.program.vendor):
        for signer in other.signers:
            if signer.certificate == authority:
                return _name(authority.subject)
            try:
                signer.certificate.verify_directly_issued_by(authority)
            except Exception:  # another issuer, another key, an algorithm we do not know
                continue
            return _name(authority.subject)
    return ""


def too_old(shim: Signed, other: Signed) -> list[str]:
    """Components of `other` that shim's own revocation level refuses: `grub 3 < 4`."""
    level = dict(shim.program.revoked)
    return [
        f"{name} {generation} < {level[name]}"
        for name, generation in other.program.sbat
        if name != "sbat" and generation < level.get(name, 0)
    ]


def _certificates(blobs: Iterable[bytes]) -> list[x509.Certificate]:
    found = []
    for blob in blobs:
        try:
            found.append(x509.load_der_x509_certificate(_trimmed(blob)))
        except ValueError:
            continue
    return found
