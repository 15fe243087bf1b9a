"""The boot folder: what each kind of firmware needs is there, as it was built, and signed for Secure Boot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor import pe, signers
from pxeboot.doctor.finding import N_, Finding, not_looked
from pxeboot.doctor.signers import Signed
from pxeboot.doctor.site import BOOT_ENVIRONMENT, FIRST_FILES, WISHED_FILES

FILES, SIGNATURES = "boot-files", "secure-boot"

# Certificates of Microsoft's that firmware has in its db, and that sign other people's loaders.
_MICROSOFT: Final = ("Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023")
# Nobody signs these; our menus say so where Secure Boot is on.
UNSIGNED: Final = ("ipxe.efi", "memtest.efi")
_BUILD: Final = N_("Build it: `pxeboot bootenv build`.")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the folder as it is, None where it cannot be; and as `bootenv.json` says it was built."""

    name: str
    size: int | None
    sha256: str
    built: tuple[int, str] | None


def judge_files(folder: Path, stored: Mapping[str, Stored], listed: bool) -> list[Finding]:
    """Which machines find what they need. `listed`: there is a readable bootenv.json."""
    found = []
    facts: dict[str, Any] = {"folder": str(folder)}
    if not listed:
        found.append(
            Finding(
                FILES,
                "warning",
                str(folder),
                N_("No boot environment was built into %(folder)s (bootenv.json is missing or unreadable)."),
                _BUILD,
                facts,
            )
        )
    needed: dict[str, tuple[str, ...]] = {**FIRST_FILES, "*": BOOT_ENVIRONMENT}
    for firmware, names in needed.items():
        lacking = [name for name in names if stored[name].size is None]
        if not lacking:
            continue
        sentence = (
            N_("%(files)s is not in %(folder)s: no machine can run a task.")
            if firmware == "*"
            else N_("%(files)s is not in %(folder)s: %(firmware)s machines cannot boot.")
        )
        more = {**facts, "files": lacking, "firmware": firmware}
        found.append(Finding(FILES, "error", ", ".join(lacking), sentence, _BUILD, more))
    altered = [one for one in stored.values() if one.size is not None and _differs(one)]
    found += [
        Finding(
            FILES,
            "error",
            one.name,
            N_(
                "%(name)s is not what was built: it has %(size)s bytes, or other contents (built: %(built)s)."
            ),
            N_("Copy it again, or `pxeboot bootenv build --force`."),
            {**facts, "name": one.name, "size": one.size, "built": one.built[0] if one.built else 0},
        )
        for one in altered
    ]
    lacking_kinds = {
        kind: group
        for kind, group in WISHED_FILES.items()
        if all(stored[name].size is None for name in group)
    }
    absent = [group[0] for group in lacking_kinds.values()]
    if absent:
        found.append(
            Finding(
                FILES,
                "note",
                ", ".join(absent),
                N_("%(firmware)s machines get no boot file: %(files)s is not in %(folder)s."),
                N_("Put a loader of that name there if you have such machines."),
                {**facts, "files": absent, "firmware": list(lacking_kinds)},
            )
        )
    if not any(one.level in ("error", "warning") for one in found):
        present = [one.name for one in stored.values() if one.size is not None]
        sentence = N_("%(files)s are in %(folder)s, as they were built.")
        found.insert(0, Finding(FILES, "ok", str(folder), sentence, "", {**facts, "files": present}))
    return found


def _differs(one: Stored) -> bool:
    return one.built is not None and one.built != (one.size, one.sha256)


def judge_signatures(programs: Mapping[str, Signed | pe.PeError], now: datetime) -> list[Finding]:
    """Whether firmware takes shim, and shim takes the rest. Files that are absent are not in `programs`."""
    found = []
    shim = programs.get("shimx64.efi")
    for name, program in programs.items():
        facts: dict[str, Any] = {"name": name}
        if isinstance(program, pe.PeError):
            found.append(
                Finding(
                    SIGNATURES,
                    "error",
                    name,
                    N_("%(name)s is no whole UEFI program: %(problem)s."),
                    N_("Copy it again, or `pxeboot bootenv build --force`."),
                    {**facts, "problem": str(program)},
                )
            )
            continue
        facts |= _facts(program)
        spoiled = [signer for signer in program.signers if not signer.intact]
        if spoiled:
            found.append(
                Finding(
                    SIGNATURES,
                    "error",
                    name,
                    N_("%(name)s was altered after it was signed: Secure Boot refuses it."),
                    N_("Copy it again, or `pxeboot bootenv build --force`."),
                    facts,
                )
            )
        elif name == "shimx64.efi":
            found.append(_judge_shim(program, facts, now))
        else:
            found.append(_judge_next(name, program, shim if isinstance(shim, Signed) else None, facts))
    return found


def _facts(program: Signed) -> dict[str, Any]:
    return {
        "signers": [
            {
                "subject": signer.subject,
                "issuer": signer.issuer,
                "expires": signer.expires.date().isoformat(),
                "intact": signer.intact,
            }
            for signer in program.signers
        ],
        "issuers": program.issuers,
        "sbat": [f"{component},{generation}" for component, generation in program.program.sbat],
    }


def _judge_shim(program: Signed, facts: dict[str, Any], now: datetime) -> Finding:
    name = "shimx64.efi"
    known = [issuer for issuer in program.issuers if issuer in _MICROSOFT]
    if not program.signers or not known:
        return Finding(
            SIGNATURES,
            "warning",
            name,
            N_("%(name)s is signed by nobody whom firmware knows (%(issuers)s): Secure Boot refuses it.")
            if program.signers
            else N_("%(name)s is not signed: machines with Secure Boot on cannot boot."),
            N_("Use the signed shim: `pxeboot bootenv build`; or enrol your own key in each machine."),
            facts,
        )
    expired = [signer.subject for signer in program.signers if signer.expires < now]
    facts |= {"known": known, "expired": expired}
    if len(known) < len(_MICROSOFT):
        facts["lacking"] = [issuer for issuer in _MICROSOFT if issuer not in known]
        return Finding(
            SIGNATURES,
            "note",
            name,
            N_(
                "Secure Boot: %(name)s is accepted by firmware that has %(known)s, and refused where only "
                "%(lacking)s is there."
            ),
            N_("A newer shim has both signatures: `pxeboot bootenv build`."),
            facts,
        )
    return Finding(
        SIGNATURES,
        "ok",
        name,
        N_("Secure Boot: %(name)s is accepted by firmware that has %(known)s (one of them is enough)."),
        "",
        facts,
    )


def _judge_next(name: str, program: Signed, shim: Signed | None, facts: dict[str, Any]) -> Finding:
    if not program.signers:
        return Finding(
            SIGNATURES,
            "note" if name in UNSIGNED else "warning",
            name,
            N_("%(name)s is not signed: with Secure Boot on it does not start."),
            "" if name in UNSIGNED else N_("Use the signed one: `pxeboot bootenv build`."),
            facts,
        )
    if shim is None:
        sentence = N_("%(name)s is signed by %(issuers)s; without a shim nobody can say who accepts it.")
        return Finding(SIGNATURES, "note", name, sentence, "", facts)
    old = signers.too_old(shim, program)
    if old:
        return Finding(
            SIGNATURES,
            "error",
            name,
            N_("shimx64.efi refuses %(name)s as revoked (SBAT: %(old)s)."),
            N_("Take shim and %(name)s from the same release: `pxeboot bootenv build`."),
            {**facts, "old": old},
        )
    by = signers.vouched_by(shim, program)
    if not by:
        return Finding(
            SIGNATURES,
            "error",
            name,
            N_("shimx64.efi does not accept %(name)s: it does not know who signed it (%(issuers)s)."),
            N_("Take shim and %(name)s from the same distribution: `pxeboot bootenv build`."),
            facts,
        )
    return Finding(
        SIGNATURES,
        "ok",
        name,
        N_("Secure Boot: shimx64.efi accepts %(name)s (signed under %(by)s)."),
        "",
        {**facts, "by": by},
    )


def check_files(folder: Path) -> list[Finding]:
    """Look at the folder, and read every file in it that was built (some 60 MB)."""
    built: dict[str, tuple[int, str]] = {}
    listed = True
    try:
        described = json.loads((folder / "bootenv.json").read_text())["files"]
        built = {str(name): (int(a["size"]), str(a["sha256"])) for name, a in described.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        listed = False
    wanted = [*FIRST_FILES.values(), BOOT_ENVIRONMENT, *WISHED_FILES.values(), built]
    names = dict.fromkeys(name for group in wanted for name in group)
    return judge_files(folder, {name: _stored(folder, name, built.get(name)) for name in names}, listed)


def _stored(folder: Path, name: str, built: tuple[int, str] | None) -> Stored:
    try:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest() if built else ""
            return Stored(name, file.seek(0, 2), digest, built)
    except OSError:
        return Stored(name, None, "", built)


def check_signatures(folder: Path, now: datetime) -> list[Finding]:
    """Read every UEFI program of the folder, and the kernel, which is one."""
    try:
        names = {path.name for path in folder.iterdir() if path.suffix == ".efi"}
    except OSError as error:
        return [not_looked(SIGNATURES, str(folder), error.strerror or error)]
    if (folder / "vmlinuz").exists():
        names.add("vmlinuz")
    first = [name for name in ("shimx64.efi", "grubx64.efi", "vmlinuz") if name in names]
    programs: dict[str, Signed | pe.PeError] = {}
    found = []
    for name in [*first, *sorted(names - set(first))]:
        try:
            programs[name] = signers.read((folder / name).read_bytes())
        except pe.PeError as error:
            programs[name] = error
        except OSError as error:
            found.append(not_looked(SIGNATURES, name, error.strerror or error))
    if not programs and not found:
        found.append(not_looked(SIGNATURES, str(folder), N_("there are no UEFI programs in it")))
    return judge_signatures(programs, now) + found


def describe_first(folder: Path) -> tuple[str, int, str] | None:
    """Name, size and SHA-256 of the first loader that is there, for the checks that fetch one."""
    for name in ("shimx64.efi", "undionly.kpxe", "grubx64.efi"):
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return name, file.seek(0, 2), digest
        except OSError:
            continue
    return None
