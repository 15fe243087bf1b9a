"""`/api/v1/exchange`: versions leave and come back; nobody reaches a file outside the exchange folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imaging import ed25519
from imaging.exchange import bundle
from pxeboot.adapters.container import Services
from pxeboot.services.views import JobView
from tests.imaging.disks import put, run
from tests.imaging.exchange import folders
from tests.imaging.exchange.folders import Part
from tests.shelf import manifest_of, stock

Ask = Callable[..., httpx.Response]


@pytest.fixture
def folder(services: Services) -> Path:
    return services.exchange.folder


def ended(services: Services, answer: httpx.Response) -> JobView:
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    return services.jobs.wait(answer.json()["id"], 90)


def exported(ask: Ask, services: Services, **order: str) -> JobView:
    return ended(services, ask("POST", "/exchange:export", json=order))


def imported(ask: Ask, services: Services, **order: str) -> JobView:
    return ended(services, ask("POST", "/exchange:import", json=order))


def test_a_version_leaves_as_a_disk_and_as_a_bundle(ask: Ask, services: Services, folder: Path) -> None:
    stock(services, "debian", "a", "b")
    job = exported(ask, services, image="debian", to="out/", format="raw")
    assert (job.state, job.result["files"]) == ("done", ["out/debian-1.raw"]), job.error
    assert (folder / "out/debian-1.raw").stat().st_size == 32 << 20
    again = ask(
        "POST", "/exchange:export", json={"image": "debian@1", "to": "out/debian-1.raw", "format": "raw"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "exchange-failed")
    job = exported(ask, services, image="debian@1", to=f"{folder}/debian.pxi", format="bundle")
    assert job.state == "done", job.error
    listed = ask("GET", "/exchange").json()
    assert [(f["name"], f["format"]) for f in listed["files"]] == [
        ("debian.pxi", "bundle"),
        ("out/debian-1.raw", "raw"),
    ]
    assert bundle.look(folder / "debian.pxi").description.key == listed["key"] == services.store.public_key


def test_a_bundle_of_ours_comes_back_as_a_version_with_its_history(
    ask: Ask, services: Services, folder: Path
) -> None:
    version = stock(services, "debian", "a", "b", note_text="for the exam")
    exported(ask, services, image="debian@1", to="debian.pxi", format="bundle")
    job = imported(ask, services, path="debian.pxi", image="again", note="brought back")
    assert job.state == "done", job.error
    assert job.result["version"] == "again@1"
    assert job.result["new_bytes"] == 0  # every chunk was here
    came = ask("GET", "/images/again/versions/1").json()
    assert came["manifest"] == version.manifest
    assert came["note"].startswith("brought back (from bundle debian.pxi: debian@1, signed by ")
    assert came["summary"]["disks"][0]["partitions"][1]["filesystem"] == "ext4"


def test_a_strangers_bundle_needs_an_act_of_trust_and_is_signed_anew(
    ask: Ask, services: Services, folder: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    manifest, chunks = manifest_of("s", "t")
    frames = dict(zip(manifest.hashes, map(_frame, chunks), strict=True))
    data = manifest.to_bytes()
    told = bundle.Description("lab", "lab@7", "", "", public)
    with open(folder / "lab.pxi", "wb") as file:
        bundle.write(file, told, data, key.sign(data), frames.__getitem__)
    order = {"path": "lab.pxi", "image": "lab"}
    refused = ask("POST", "/exchange:import", json=order)
    assert (refused.status_code, refused.json()["code"]) == (409, "signer-unknown")
    assert refused.json()["key"] == public
    assert ask("POST", "/exchange:import", json={**order, "trust": "ab" * 32}).status_code == 409
    job = imported(ask, services, **order, trust=public)
    assert job.state == "done", job.error
    stored, signature = services.store.manifest(job.result["manifest"])
    assert ed25519.verify(bytes.fromhex(services.store.public_key), stored, signature)


def _frame(chunk: bytes) -> bytes:
    from imaging.chunks import compress

    return compress(chunk)


def test_damage_in_a_bundle_ends_the_job_without_a_version(
    ask: Ask, services: Services, folder: Path
) -> None:
    stock(services, "debian", "a", "b")
    exported(ask, services, image="debian@1", to="debian.pxi", format="bundle")
    data = bytearray((folder / "debian.pxi").read_bytes())
    data[-100] ^= 1
    (folder / "debian.pxi").write_bytes(data)
    job = imported(ask, services, path="debian.pxi", image="broken")
    assert (job.state, job.code) == ("failed", "bundle-invalid")
    assert ask("GET", "/images/broken").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "../secret.raw",
        "/etc/shadow",
        "a/../../secret.raw",
        "link.raw",
        "way/secret.raw",
        "a\nb.raw",
        "./x.raw",
    ],
)
def test_no_path_leads_out_of_the_folder(path: str, ask: Ask, services: Services, folder: Path) -> None:
    (folder.parent / "secret.raw").write_bytes(os.urandom(1 << 20))
    (folder / "link.raw").symlink_to(folder.parent / "secret.raw")
    (folder / "way").symlink_to(folder.parent)
    stock(services, "debian", "a")
    for answer in (
        ask("POST", "/exchange:import", json={"path": path, "image": "x"}),
        ask("POST", "/exchange:export", json={"image": "debian", "to": path, "format": "raw"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "path-refused"), answer.text
    assert [f["name"] for f in ask("GET", "/exchange").json()["files"]] == []


def test_what_cannot_be_done_is_said_before_a_job_begins(ask: Ask, services: Services, folder: Path) -> None:
    (folder / "disk").write_bytes(bytes(1 << 20))
    (folder / "empty").mkdir()
    (folder / "disk.qcow2").write_bytes(bytes(1 << 20))
    for order, code in (
        ({"path": "gone.raw", "image": "x"}, "exchange-failed"),
        ({"path": "disk", "image": "x"}, "disk-file-refused"),
        ({"path": "empty", "image": "x"}, "folder-invalid"),
        ({"path": "disk", "image": "x", "format": "fog"}, "folder-invalid"),
        ({"path": "disk", "image": "no good name!"}, "invalid"),
        ({"path": "disk", "image": "x", "format": "raw", "whole": ["everything"]}, "invalid"),
        ({"path": "disk", "image": "x", "format": "tar"}, "invalid"),
    ):
        answer = ask("POST", "/exchange:import", json=order)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    job = imported(ask, services, path="disk.qcow2", image="x")
    assert (job.state, job.code) == ("failed", "disk-file-refused")
    nobody = ask("POST", "/exchange:export", json={"image": "nobody", "to": "x.raw", "format": "raw"})
    assert nobody.status_code == 404


@pytest.mark.disk
def test_a_fog_folder_becomes_a_version_that_grows_as_fog_did(
    ask: Ask, services: Services, folder: Path, tmp_path: Path
) -> None:
    disk, part = tmp_path / "disk.img", tmp_path / "root.part"
    for path, size in ((disk, 24), (part, 16)):
        path.write_bytes(b"")
        os.truncate(path, size << 20)
    run("sgdisk", "-n", "1:2048:+16M", "-c", "1:root", disk)
    run("mkfs.ext4", "-q", "-F", "-L", "root", part)
    put(disk, 1 << 20, part.read_bytes())
    image = folders.fog(folder / "lab", disk, {1: Part(part, 1, 0, 16 << 20, "ext4", tmp_path)})
    (image / "d1.minimum.partitions").write_text((image / "d1.partitions").read_text())
    (image / "d1.fixed_size_partitions").write_text("\n")
    assert ask("GET", "/exchange").json()["files"][0]["format"] == "fog"
    for number in (1, 2):
        job = imported(ask, services, path="lab", image="lab")
        assert job.state == "done", job.error
        assert job.result["version"] == f"lab@{number}"
        assert job.result["notes"] == ["partition 1: ext4, 2 of 16 MiB"]
        found = ask("GET", "/images/lab").json()
        # What an administrator set afterwards stays.
        assert found["params"]["deploy"] == {"grow": [1] if number == 1 else "none"}
        ask("PATCH", "/images/lab", json={"params": {"deploy": {"grow": "none"}}})
    assert found["current"]["note"] == "Imported from FOG image folder lab"
    bare = folder / "lab/d1p1.img"
    bare.write_bytes(bare.read_bytes()[:-9])
    job = imported(ask, services, path="lab", image="lab")
    assert (job.state, job.code) == ("failed", "stream-invalid")
    assert "d1p1.img" in job.error


@pytest.mark.parametrize("by", ["viewer", "technician", None])
def test_only_administrators_may(by: str | None, ask: Ask, services: Services) -> None:
    for method, path in (("GET", "/exchange"), ("POST", "/exchange:import"), ("POST", "/exchange:export")):
        answer = ask(method, path, by=by, json={} if method == "POST" else None)
        assert answer.status_code == (403 if by else 401)


def test_an_export_that_is_cancelled_leaves_nothing(ask: Ask, services: Services, folder: Path) -> None:
    stock(services, "debian", *"abcdefgh")
    real = services.exchange._export

    def slow(job, *rest):  # type: ignore[no-untyped-def]
        job.wait(60)
        return real(job, *rest)

    services.exchange._export = slow  # type: ignore[method-assign]
    answer = ask("POST", "/exchange:export", json={"image": "debian", "to": "x.raw", "format": "raw"})
    ask("DELETE", f"/jobs/{answer.json()['id']}")
    assert services.jobs.wait(answer.json()["id"], 90).state == "cancelled"
    assert os.listdir(folder) == []
