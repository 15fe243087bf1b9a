"""When the boot environment is built anew, and what a broken one looks like."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from pxeboot.bootenv import BootEnvError, inputs, layers, recipe, root

building = importlib.import_module("pxeboot.bootenv.build")  # the package's `build` is the function


def test_rewording_a_comment_rebuilds_nothing() -> None:
    before = b'"""Doc."""\n\n\ndef f(x):\n    """Old words."""\n    return x + 1  # why\n'
    after = b'"""Other."""\ndef f(x):\n    """New words."""\n\n    return (x + 1)\n'
    assert inputs.code_only("a.py", before) == inputs.code_only("a.py", after)
    assert inputs.code_only("a.py", before) != inputs.code_only("a.py", before.replace(b"1", b"2"))
    assert inputs.code_only("wheels.txt", before) != inputs.code_only("wheels.txt", after)


def test_digest_keeps_fields_apart() -> None:
    assert inputs.digest({"a": b"bc"}) != inputs.digest({"ab": b"c"})
    assert inputs.digest({"a": b"1", "b": b"2"}) == inputs.digest({"b": b"2", "a": b"1"})


def test_the_agent_layer_has_the_agent_and_init() -> None:
    assert f"{recipe.AGENT_ROOT}/imaging/__init__.py" in inputs.agent_files()
    content, mode = inputs.own_files()["init"]
    assert content.startswith(b"#!/bin/busybox sh\n")
    assert mode == 0o755


def test_a_change_of_the_agent_changes_its_hash_and_not_the_base(tmp_path: Path) -> None:
    package = tmp_path / "imaging"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    (package / "__pycache__/a.pyc").write_bytes(b"junk")
    before = inputs.digest(inputs.agent_files(package))
    (package / "__pycache__/a.pyc").write_bytes(b"other junk")
    assert inputs.digest(inputs.agent_files(package)) == before
    (package / "a.py").write_text("x = 2\n")
    assert inputs.digest(inputs.agent_files(package)) != before
    assert inputs.base_inputs(0) == inputs.base_inputs(0) != inputs.base_inputs(1)


def published(tmp_path: Path) -> Path:
    """A boot directory as `build` leaves it, with small files in place of the real ones."""
    made, dest = tmp_path / "made", tmp_path / "boot"
    made.mkdir()
    for name in (*recipe.BOOT_FILES, recipe.GRUB_PC, "vmlinuz"):
        (made / name).write_bytes(name.encode())
    (made / "base.cpio.zst").write_bytes(b"base")
    base = layers.Base(made, "6.12-test", {"busybox": "1"}, 3, [], 1000, ["a note"])
    mtime = building.MTIME
    wanted = inputs.agent_inputs(inputs.base_inputs(mtime))
    building._publish(dest, base, b"agent", wanted, inputs.base_inputs(mtime))
    return dest


def test_what_is_up_to_date_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    dest = published(tmp_path)
    env = building.build(dest, tmp_path / "cache", pytest.fail)
    assert not env.rebuilt
    assert env.kernel_release == "6.12-test"
    assert env.notes == ["a note"]
    assert not (tmp_path / "cache").exists()


def test_the_initramfs_is_both_layers_on_multiples_of_four(tmp_path: Path) -> None:
    assert (published(tmp_path) / "initrd.img").read_bytes() == b"baseagent\0\0\0"


@pytest.mark.parametrize("damage", ["shorter", "altered", "missing", "no json", "other format"])
def test_a_damaged_boot_directory_counts_as_none(tmp_path: Path, damage: str) -> None:
    dest = published(tmp_path)
    assert building.load(dest) is not None
    kernel, description = dest / "vmlinuz", dest / "bootenv.json"
    if damage == "shorter":
        kernel.write_bytes(b"vm")
    elif damage == "altered":
        kernel.write_bytes(b"VMLINUZ")
    elif damage == "missing":
        kernel.unlink()
    elif damage == "no json":
        description.write_text("{")
    else:
        description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 99}))
    assert building.load(dest) is None


def test_too_large_is_refused_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = published(tmp_path)
    before = (dest / "bootenv.json").read_bytes()
    monkeypatch.setattr(building, "LIMIT", 10)
    base = layers.Base(tmp_path / "made", "6.12-test", {}, 3, [], 1000, [])
    with pytest.raises(BootEnvError, match="MB"):
        building._publish(dest, base, b"agent", "x", "y")
    assert (dest / "bootenv.json").read_bytes() == before
    assert sorted(path.name for path in dest.iterdir()) == sorted(
        [*recipe.BOOT_FILES, recipe.GRUB_PC, "vmlinuz", "initrd.img", "bootenv.json"]
    )


def test_a_half_made_base_is_no_base(tmp_path: Path) -> None:
    assert layers.load_base(tmp_path) is None
    (tmp_path / "base.json").write_text('{"kernel_release": "6"}')
    assert layers.load_base(tmp_path) is None


def test_libraries_must_come_from_the_packages(tmp_path: Path) -> None:
    good = f"\tlinux-vdso.so.1 (0x7)\n\tlibz.so.1 => {tmp_path}/usr/lib/libz.so.1 (0x7f)\n"
    assert root.parse_loader_list(good, tmp_path) == ["usr/lib/libz.so.1"]
    with pytest.raises(BootEnvError, match="on the host"):
        root.parse_loader_list("\tlibz.so.1 => /lib/libz.so.1 (0x7f)\n", tmp_path)
    with pytest.raises(BootEnvError, match=r"needs libz\.so\.1"):
        root.parse_loader_list("\tlibz.so.1 => not found\n", tmp_path)


def test_a_link_is_copied_with_what_it_points_to(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "root"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/sbin").mkdir()
    (tree / "usr/bin/kmod").write_text("kmod")
    (tree / "usr/sbin/modprobe").symlink_to("../bin/kmod")
    root.copy(tree, target, "usr/sbin/modprobe")
    assert (target / "usr/sbin/modprobe").is_symlink()
    assert (target / "usr/sbin/modprobe").read_text() == "kmod"
    with pytest.raises(BootEnvError, match="moved or dropped"):
        root.copy(tree, target, "usr/bin/gone")


def test_an_agent_file_changes_only_the_small_layer() -> None:
    """What the base hash reads must not include files that travel in the agent layer."""
    assert not set(inputs._BASE_SOURCES) & set(recipe.OWN_FILES)
