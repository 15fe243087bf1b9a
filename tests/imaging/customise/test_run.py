"""Whole orders on real disks: every kind of Linux root, Windows, several systems, and images that bite."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from imaging.customise import Customiser, from_task
from imaging.errors import CustomiseError
from tests.imaging.customise import windows
from tests.imaging.customise.places import linux, make_disk, mounted, nothing_left
from tests.imaging.disks import run

pytestmark = pytest.mark.disk

ALL = {"machine_id": True, "ssh_host_keys": True, "random_seed": True}


class Library:
    """A server's files."""

    def __init__(self, *files: bytes) -> None:
        self.files = {blake3.blake3(data).hexdigest(): data for data in files}
        self.drivers = {"net/e1d.inf": b"[Version]", "net/x64/e1d.sys": b"MZ" * 50_000}

    def file(self, hash: str, size: int) -> Iterator[bytes]:
        yield self.files[hash]

    def driver(self, path: str, size: int) -> Iterator[bytes]:
        assert len(self.drivers[path]) == size
        yield self.drivers[path]


def customised(disk: Path, order: dict[str, object], *files: bytes) -> Customiser:
    customiser = Customiser(from_task(order), [(str(disk), 512)], source=Library(*files))
    try:
        customiser.after()
    finally:
        nothing_left(disk)
    return customiser


def steps(customiser: Customiser) -> list[tuple[str, str, str]]:
    return [(r["step"], r["where"], r["output"]) for r in customiser.steps.records]


def is_a_clone_of_its_own(root: Path, name: str) -> None:
    assert (root / "etc/hostname").read_text() == f"{name}\n"
    assert f"127.0.1.1\t{name}\n" in (root / "etc/hosts").read_text()
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/machine-id").stat().st_mode & 0o777 == 0o444
    assert os.readlink(root / "var/lib/dbus/machine-id") == "/etc/machine-id"
    assert not (root / "var/lib/systemd/random-seed").exists()
    for kind in ("rsa", "ed25519"):
        key = root / f"etc/ssh/ssh_host_{kind}_key"
        assert (key.stat().st_mode & 0o777, key.stat().st_uid) == (0o600, 0)
        # The public half belongs to the private one: OpenSSH reads both.
        public = run("ssh-keygen", "-y", "-f", key).split()
        assert public[:2] == key.with_suffix(".pub").read_text().split()[:2]
        assert f"root@{name}" in key.with_suffix(".pub").read_text()
    assert not (root / "etc/ssh/ssh_host_ecdsa_key").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_linux_becomes_a_machine_of_its_own(tmp_path: Path, kind: str) -> None:
    disk = make_disk(tmp_path / "disk.img", [(kind, linux)])
    done = customised(disk, {"hostname": "b204-07", "linux": ALL})
    where = "partition 1 (Debian GNU/Linux 12 (bookworm))"
    assert steps(done) == [
        ("host-name", where, "b204-07"),
        ("machine-id", where, "emptied"),
        ("random-seed", where, "removed"),
        ("ssh-host-keys", where, "new: rsa, ed25519"),
    ]
    with mounted(disk, 1, [kind]) as root:
        is_a_clone_of_its_own(root, "b204-07")
        assert not list(root.rglob(".pxeboot*"))


@pytest.mark.parametrize("subvolume", ["@", "@rootfs", "root"])
def test_the_root_of_a_btrfs_lies_in_a_subvolume(tmp_path: Path, subvolume: str) -> None:
    def fill(top: Path) -> None:
        for name in (subvolume, "@home", "@snapshots"):
            run("btrfs", "subvolume", "create", top / name)
        linux(top / subvolume)
        run("btrfs", "subvolume", "snapshot", top / subvolume, top / "@snapshots" / "1")

    disk = make_disk(tmp_path / "disk.img", [("btrfs", fill)])
    assert customised(disk, {"hostname": "b204-07", "linux": ALL}).named == [1]
    with mounted(disk, 1, ["btrfs"], "subvolid=5") as top:
        is_a_clone_of_its_own(top / subvolume, "b204-07")
        assert (top / "@snapshots/1/etc/hostname").read_text() == "reference\n"  # a snapshot is a snapshot


def test_the_default_subvolume_is_what_starts(tmp_path: Path) -> None:
    def fill(top: Path) -> None:
        run("btrfs", "subvolume", "create", top / "@")
        run("mkdir", "-p", top / "@/.snapshots/1")
        run("btrfs", "subvolume", "create", top / "@/.snapshots/1/snapshot")
        linux(top / "@/.snapshots/1/snapshot")
        run("btrfs", "subvolume", "set-default", top / "@/.snapshots/1/snapshot")

    disk = make_disk(tmp_path / "disk.img", [("btrfs", fill)])
    assert customised(disk, {"hostname": "b204-07"}).named == [1]
    with mounted(disk, 1, ["btrfs"]) as root:
        assert (root / "etc/hostname").read_text() == "b204-07\n"


def dual_boot(path: Path, state: str) -> Path:
    return make_disk(
        path,
        [
            ("ntfs", lambda root: windows.windows_tree(root, state) and None),
            ("ext4", linux),
            ("ext4", lambda root: linux(root, "other", 'PRETTY_NAME="Fedora Linux 42"\n')),
            ("ext4", lambda root: (root / "data").write_text("no system")),
        ],
    )


def test_every_system_of_the_disk_gets_the_name_and_data_partitions_nothing(tmp_path: Path) -> None:
    disk = dual_boot(tmp_path / "disk.img", "complete")
    kinds = ["ntfs", "ext4", "ext4", "ext4"]
    with mounted(disk, 4, kinds) as data:
        before = data.stat().st_mtime_ns
    done = customised(disk, {"hostname": "Salle-204-poste-07"})
    assert [step[:2] for step in steps(done)] == [
        ("windows-state", "partition 1 (Windows)"),
        ("computer-name", "partition 1 (Windows)"),
        ("host-name", "partition 2 (Debian GNU/Linux 12 (bookworm))"),
        ("host-name", "partition 3 (Fedora Linux 42)"),
    ]
    with mounted(disk, 1, kinds) as root:
        hive = root / "Windows/System32/config/SYSTEM"
        for number in (1, 2):
            names = windows.NAMES.format(number)
            assert windows.value(hive, rf"{names}\ComputerName", "ComputerName") == "SALLE-204-POSTE"
            for name in ("Hostname", "NV Hostname"):
                assert windows.value(hive, windows.PARAMETERS.format(number), name) == "Salle-204-poste-07"
        assert windows.value(hive, windows.NAMES.format(1) + r"\ActiveComputerName", "ComputerName") == (
            "SALLE-204-POSTE"
        )
        assert windows.value(hive, "Select", "Kept") == "untouched"
        assert not (root / "Windows/Panther/unattend.xml").exists()
    with mounted(disk, 4, kinds) as data:
        assert (data.stat().st_mtime_ns, sorted(os.listdir(data))) == (before, ["data", "lost+found"])
    with mounted(disk, 3, kinds) as root:
        assert (root / "etc/hostname").read_text() == "Salle-204-poste-07\n"


def test_partitions_that_were_not_written_stay_as_they_are(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux), ("ext4", linux)])
    customiser = Customiser(from_task({"hostname": "b204-07"}), [(str(disk), 512)], only=frozenset({2}))
    customiser.after()
    assert customiser.named == [2]
    with mounted(disk, 1, ["ext4", "ext4"]) as root:
        assert (root / "etc/hostname").read_text() == "reference\n"


def test_a_prepared_windows_is_told_by_its_answer_file(tmp_path: Path) -> None:
    disk = make_disk(
        tmp_path / "disk.img", [("ntfs", lambda root: windows.windows_tree(root, "sysprepped") and None)]
    )
    library = Library()
    order = {
        "hostname": "b204-07",
        "windows": {
            "time_zone": "Romance Standard Time",
            "locale": "fr-FR",
            "join": {"domain": "lycee.local", "ou": "OU=B204,DC=lycee,DC=local", "user": "joiner",
                     "password": "Tr3s-secret&<"},
            "drivers": {"files": [{"path": p, "size": len(d)} for p, d in library.drivers.items()]},
        },
        "masked": ["Tr3s-secret&<"],
    }  # fmt: skip
    done = customised(disk, order)
    assert steps(done) == [
        ("drivers", "partition 1 (Windows)", "2 files, 100009 bytes"),
        ("windows-state", "partition 1 (Windows)", "unattend"),
        ("answer-file", "partition 1 (Windows)", "new answer file: B204-07, joins lycee.local"),
    ]
    with mounted(disk, 1, ["ntfs"]) as root:
        text = (root / "Windows/Panther/unattend.xml").read_text()
        for expected in (
            "<ComputerName>B204-07</ComputerName>", "<TimeZone>Romance Standard Time</TimeZone>",
            "<JoinDomain>lycee.local</JoinDomain>", "<Password>Tr3s-secret&amp;&lt;</Password>",
            "<UserLocale>fr-FR</UserLocale>", 'processorArchitecture="amd64"',
            r"C:\Drivers\*.inf",
        ):  # fmt: skip
            assert expected in text
        assert (root / "Drivers/net/x64/e1d.sys").read_bytes() == library.drivers["net/x64/e1d.sys"]
        hive = root / "Windows/System32/config/SYSTEM"
        assert windows.value(hive, windows.NAMES.format(1) + r"\ComputerName", "ComputerName") == "REFERENCE"


def test_a_windows_that_was_not_prepared_cannot_join_and_says_so(tmp_path: Path) -> None:
    disk = make_disk(
        tmp_path / "disk.img", [("ntfs", lambda root: windows.windows_tree(root, "complete") and None)]
    )
    order = {"hostname": "b204-07", "windows": {"join": {"domain": "lycee.local", "blob": "QUJDREVG"}}}
    with pytest.raises(CustomiseError, match="sysprep /generalize"):
        customised(disk, order)


def test_a_registry_with_changes_under_way_is_not_touched(tmp_path: Path) -> None:
    def dirty(root: Path) -> None:
        windows.windows_tree(root, "complete")
        with open(root / "Windows/System32/config/SYSTEM", "r+b") as file:
            file.seek(4)
            file.write(b"\x77")

    disk = make_disk(tmp_path / "disk.img", [("ntfs", dirty)])
    with pytest.raises(CustomiseError, match="not shut down cleanly"):
        customised(disk, {"hostname": "b204-07"})


def test_files_and_scripts_reach_the_systems_they_name(tmp_path: Path) -> None:
    disk = dual_boot(tmp_path / "disk.img", "complete")
    kinds = ["ntfs", "ext4", "ext4", "ext4"]
    import base64

    big = os.urandom(3 << 20)
    text = base64.b64encode(b"Salle B204\n").decode()
    hash = blake3.blake3(big).hexdigest()
    order = {
        "environment": {"PXEBOOT_HOST": "b204-07"},
        "files": [
            {"name": "motd", "path": "/etc/motd", "system": "linux", "content": text},
            {"name": "tool", "path": "/opt/school/bin/tool", "mode": "0755", "owner": "1000:1000",
             "system": "partition:2", "hash": hash, "size": len(big)},
            {"name": "wall", "path": "C:\\windows\\WEB\\wall.jpg", "system": "windows", "hash": hash,
             "size": len(big)},
            {"name": "list", "path": "list.txt", "system": "partition:4", "content": text},
            {"name": "lost", "path": "list.txt", "system": "partition:9", "content": text},
        ],
        "scripts": [
            {"name": "mark", "phase": "post", "system": "linux", "arguments": ["two words", "$x"],
             "text": 'echo "$PXEBOOT_HOST:$1:$2:$PXEBOOT_PARTITION" > "$PXEBOOT_ROOT/root/mark"; id -u'},
            {"name": "loose", "phase": "post", "text": 'echo "[${PXEBOOT_ROOT-none}] $PXEBOOT_DISK"'},
        ],
    }  # fmt: skip
    done = customised(disk, order, big)
    last = {(r["step"], r["name"]): r["output"] for r in done.steps.records}
    assert "skipped: the disk holds no partition 9" in last["file", "lost"]
    assert last["script", "loose"] == f"[none] {disk}\n"
    assert last["script", "mark"] == "0\n"
    with mounted(disk, 2, kinds) as root:
        assert (root / "etc/motd").read_text() == "Salle B204\n"
        assert (root / "root/mark").read_text() == "b204-07:two words:$x:2\n"
        tool = root / "opt/school/bin/tool"
        assert tool.read_bytes() == big
        found = tool.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o755, 1000, 1000)
    with mounted(disk, 3, kinds) as root:
        assert (root / "root/mark").read_text() == "b204-07:two words:$x:3\n"
        assert not (root / "opt").exists()
    with mounted(disk, 1, kinds) as root:
        assert (root / "Windows/web/wall.jpg").exists() or (root / "Windows/WEB/wall.jpg").exists()
    with mounted(disk, 4, kinds) as root:
        assert (root / "list.txt").read_text() == "Salle B204\n"


def test_a_script_that_leaves_programs_in_the_system_does_not_keep_it_busy(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux)])
    order = {
        "scripts": [
            {"name": "daemon", "phase": "post", "system": "linux",
             "text": 'cd "$PXEBOOT_ROOT"; (setsid sleep 1000 > open 2>&1 < /dev/null &)\n'
                     "until [ -e open ]; do sleep 0.01; done; echo started"},
            {"name": "hangs", "phase": "post", "system": "linux", "seconds": 1, "on_error": "continue",
             "text": 'cd "$PXEBOOT_ROOT"; setsid sleep 1000 & exec sleep 1000'},
        ]
    }  # fmt: skip
    done = customised(disk, order)
    assert [(r["name"], r["ok"]) for r in done.steps.records] == [("daemon", True), ("hangs", False)]
    with mounted(disk, 1, ["ext4"]) as root:
        assert (root / "open").exists()


def test_the_failure_names_script_system_and_last_lines(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux)])
    order = {
        "scripts": [
            {"name": "printers", "phase": "post", "system": "linux",
             "text": "echo looking; echo 'no printer p4ssw0rd' >&2; exit 3"},
            {"name": "never", "phase": "post", "text": "echo never"},
        ],
        "masked": ["p4ssw0rd"],
    }  # fmt: skip
    customiser = Customiser(from_task(order), [(str(disk), 512)])
    with pytest.raises(
        CustomiseError, match=r"printers on partition 1 \(Debian.*status 3.*no printer \*\*\*"
    ):
        customiser.after()
    assert [(r["name"], r["ok"], r["output"]) for r in customiser.steps.records] == [
        ("printers", False, "looking\nno printer ***\n")
    ]
    nothing_left(disk)


# -- images that bite


def hostile(root: Path, victim: Path) -> None:
    linux(root)
    for name in ("etc/hostname", "etc/machine-id", "etc/hosts"):
        (root / name).unlink()
    os.mkfifo(root / "etc/hostname")
    (root / "etc/machine-id").symlink_to(victim)
    os.mkfifo(root / "etc/hosts")
    (root / "var/lib/dbus/machine-id").unlink()
    (root / "var/lib/dbus/machine-id").symlink_to(victim)
    (root / "var/lib/systemd/random-seed").unlink()
    (root / "var/lib/systemd/random-seed").symlink_to(victim)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
        key.symlink_to(victim)
    (root / "opt").symlink_to(victim.parent)
    (root / "srv").symlink_to("../../../../../../.." + str(victim.parent))
    (root / "home").symlink_to("/proc/self/root" + str(victim.parent))
    (root / "etc/motd").symlink_to(victim)
    os.mknod(root / "etc/issue", 0o600 | 0o020000, os.makedev(1, 5))


def test_links_fifos_and_devices_in_the_image_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("untouched\n")
    disk = make_disk(tmp_path / "disk.img", [("ext4", lambda root: hostile(root, victim))])
    text = "aGFja2VkCg=="
    paths = ["/etc/motd", "/etc/issue", "/etc/hostname"]
    order = {
        "hostname": "b204-07",
        "linux": ALL,
        "files": [{"name": p, "path": p, "system": "linux", "content": text} for p in paths],
    }
    customised(disk, order)
    for directory in ("/opt", "/srv", "/home"):
        drop = {"name": "x", "path": f"{directory}/victim", "system": "linux", "content": text}
        with pytest.raises(CustomiseError, match="The step file x on partition 1"):
            customised(disk, {"files": [drop]})
    assert victim.read_text() == "untouched\n"
    assert [path.name for path in outside.iterdir()] == ["victim"]
    with mounted(disk, 1, ["ext4"]) as root:
        for name in ("etc/motd", "etc/issue", "etc/hostname"):
            assert not (root / name).is_symlink()
            assert (root / name).read_text() == "hacked\n"
        assert os.readlink(root / "etc/machine-id") == str(victim)
        for kind in ("rsa", "ed25519"):
            assert not (root / f"etc/ssh/ssh_host_{kind}_key").is_symlink()
            run("ssh-keygen", "-y", "-f", root / f"etc/ssh/ssh_host_{kind}_key")


def test_a_huge_hosts_file_ends_the_task_and_not_the_memory(tmp_path: Path) -> None:
    def huge(root: Path) -> None:
        linux(root)
        with open(root / "etc/hosts", "wb") as file:
            file.truncate(8 << 30)

    disk = make_disk(tmp_path / "disk.img", [("ext4", huge)])
    with pytest.raises(CustomiseError, match="longer than 1048576 bytes"):
        customised(disk, {"hostname": "b204-07"})


def test_a_full_file_system_is_named(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux)])
    big = os.urandom(40 << 20)
    drop = {"name": "big", "path": "/opt/big", "system": "linux", "hash": blake3.blake3(big).hexdigest(),
            "size": len(big)}  # fmt: skip
    with pytest.raises(CustomiseError, match=r"step file big on partition 1 .* No space left"):
        customised(disk, {"files": [drop]}, big)
    with mounted(disk, 1, ["ext4"]) as root:
        assert os.listdir(root / "opt") == []


def test_a_damaged_file_system_beside_a_whole_one_is_told_and_left_alone(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux), ("ext4", linux)])
    with open(disk, "r+b") as file:
        file.seek((1 << 20) + 2048)
        file.write(b"\xff" * 4096)  # the group descriptors
    done = customised(disk, {"hostname": "pc1"})
    assert done.named == [2]
    first = done.steps.records[0]
    assert (first["step"], first["ok"]) == ("look", False)
    assert "Partition 1 (ext4) cannot be mounted" in first["output"]


def test_a_disk_of_which_nothing_can_be_mounted_is_a_failure(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux)])
    with open(disk, "r+b") as file:
        file.seek((1 << 20) + 2048)
        file.write(b"\xff" * 4096)
    with pytest.raises(CustomiseError, match=r"Partition 1 \(ext4\) cannot be mounted .*: check the image"):
        customised(disk, {"hostname": "pc1"})


def test_the_file_systems_are_clean_afterwards(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", [("ext4", linux), ("btrfs", linux)])
    customised(disk, {"hostname": "b204-07", "linux": ALL})
    for number, check in ((1, ["e2fsck", "-fn"]), (2, ["btrfs", "check"])):
        from tests.imaging.customise.places import loop

        with loop(disk, number, ["ext4", "btrfs"]) as device:
            assert subprocess.run([*check, device], capture_output=True, check=False).returncode == 0
