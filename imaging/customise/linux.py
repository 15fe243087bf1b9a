"""What a clone of a Linux must not share with its image: host name, machine-id, SSH host keys, seed."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile

from imaging.customise.tree import Tree
from imaging.errors import CustomiseError, ToolMissing

_HOST_KEY = re.compile(r"ssh_host_([a-z0-9]+)_key(\.pub|-cert\.pub)?")
_KEY_TYPES = ("rsa", "ecdsa", "ed25519")  # those of ssh-keygen -A since OpenSSH 9.8
_KEY_SECONDS = 60
_SEEDS = ("var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/random-seed")


def set_name(tree: Tree, hostname: str) -> bool:
    """Write /etc/hostname, and the old name's place in /etc/hosts (Debian's 127.0.1.1 line).

    False when the system keeps no name of its own there. A link or device of that name is left alone.
    """
    if not tree.is_regular("etc/hostname"):
        return False
    old = _text(tree.read("etc/hostname")).split("\n")[0].strip()
    tree.write("etc/hostname", (hostname + "\n").encode())
    if tree.is_regular("etc/hosts"):
        hosts = rename_in_hosts(_text(tree.read("etc/hosts")), old, hostname)
        tree.write("etc/hosts", hosts.encode("utf-8", "surrogateescape"))
    return True


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "surrogateescape")


def forget_machine_id(tree: Tree) -> bool:
    """Empty /etc/machine-id, which systemd then fills at the next start (machine-id(5)).

    D-Bus's copy becomes a link to it, as Debian's own tmpfiles.d would make it. False: there is none.
    """
    if not tree.is_regular("etc/machine-id"):
        return False
    tree.write("etc/machine-id", b"")
    if tree.is_regular("var/lib/dbus/machine-id"):
        tree.link("var/lib/dbus/machine-id", "/etc/machine-id")
    return True


def forget_random_seed(tree: Tree) -> bool:
    """Remove the stored random seed: two machines must not start from the same one."""
    removed = [tree.remove(path) for path in _SEEDS if tree.is_regular(path)]
    return any(removed)


def renew_host_keys(tree: Tree, hostname: str) -> list[str]:
    """Give sshd keys of its own, of the types that were there; returns the types.

    Debian makes none at boot, so they are made here; in a directory of our own, because ssh-keygen would
    follow links in the image. [] when no SSH server is installed. Raises CustomiseError, ToolMissing.
    """
    present = [name for name in tree.names("etc/ssh") if _HOST_KEY.fullmatch(name)]
    if not present and not tree.is_file("etc/ssh/sshd_config"):
        return []
    types = {match[1] for name in present if (match := _HOST_KEY.fullmatch(name)) and not match[2]}
    wanted = [kind for kind in _KEY_TYPES if kind in types] or list(_KEY_TYPES)
    with tempfile.TemporaryDirectory(prefix="pxeboot-keys-") as directory:
        for kind in wanted:
            _make_key(os.path.join(directory, kind), kind, hostname)
        for name in present:
            kept = _HOST_KEY.fullmatch(name)
            if kept is None or kept[1] not in wanted or kept[2] == "-cert.pub":
                tree.remove(f"etc/ssh/{name}")
        for kind in wanted:
            # Fedora gives its keys to a group, mode 0640: what a file has, it keeps.
            new = tree.owner(f"etc/ssh/ssh_host_{kind}_key") is None
            for suffix, mode in (("", 0o600), (".pub", 0o644)):
                with open(os.path.join(directory, kind + suffix), "rb") as file:
                    tree.write(
                        f"etc/ssh/ssh_host_{kind}_key{suffix}", file.read(), mode=mode if new else None
                    )
    return wanted


def _make_key(path: str, kind: str, hostname: str) -> None:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", f"root@{hostname or 'localhost'}", "-f", path]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_KEY_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ToolMissing(
            "The program ssh-keygen is not installed: install openssh-client, or renew the boot environment."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CustomiseError(f"ssh-keygen made no {kind} key within {_KEY_SECONDS} s.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise CustomiseError(f"ssh-keygen made no {kind} key: {said}")


def rename_in_hosts(hosts: str, old: str, new: str) -> str:
    """/etc/hosts with the old host name replaced on loopback lines; 127.0.1.1 always names ``new``.

    ``old.domain`` becomes ``new.domain``. Other lines and comments stay as they are.
    """
    lines = []
    for line in hosts.splitlines():
        text, mark, comment = line.partition("#")
        fields = text.split()
        own = len(fields) > 1 and (fields[0].startswith("127.") or fields[0] == "::1")
        if own:
            names = [_renamed(name, old, new) for name in fields[1:]]
            if fields[0] == "127.0.1.1" and new not in names:
                # It named a machine this image was never called: Debian's line is the host's own.
                names = [new]
            if names != fields[1:]:
                line = "\t".join([fields[0], " ".join(dict.fromkeys(names))])
                line += f" #{comment}" if mark else ""
        lines.append(line)
    return "\n".join(lines) + "\n"


def _renamed(name: str, old: str, new: str) -> str:
    short = old.partition(".")[0]
    if not old or name == "localhost" or name.startswith("localhost."):
        return name
    if name in (old, short):
        return new
    if name.startswith(short + ".") and "." not in new:
        return new + name[len(short) :]
    return name
