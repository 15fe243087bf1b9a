"""Real versions in a real store, for tests of what is done with them: small disks of recognisable chunks."""

from __future__ import annotations

from typing import Any

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, GptTable, Manifest, Partition, Runs
from pxeboot.adapters.container import Services
from pxeboot.services import images
from pxeboot.services.views import VersionView

MIB = 1 << 20


def manifest_of(*letters: str, size: int = 32) -> tuple[Manifest, list[bytes]]:
    """A disk of `size` MiB: an ESP with the chunk `e`, a root with one chunk per letter; and these chunks."""
    chunks = [_chunk("e"), *(_chunk(letter) for letter in letters)]
    runs = Runs([(MIB, MIB), (4 * MIB, len(letters) * MIB)])
    guid = "0fc63daf-8483-4772-8e79-3d69d8477de4"

    def partition(number: int, start: int, length: int, filesystem: str, used: int) -> Partition:
        unique = f"00000000-0000-4000-8000-00000000000{number}"
        return Partition(
            number=number, type_guid=guid, unique_guid=unique, name=f"part{number}", attributes=0,
            start=start * MIB, size=length * MIB, filesystem=filesystem, label="", uuid="", used=used * MIB,
            capture="used",
        )  # fmt: skip

    disk = DiskImage(
        size=size * MIB,
        sector_size=512,
        table=GptTable(guid=guid, mbr=bytes(512), entries=128, first_usable=34),
        partitions=(
            partition(1, 1, 2, "fat", 1),
            partition(2, 4, size - 6, "ext4", len(letters)),
        ),
        runs=runs,
        hashes=b"".join(hash_chunk(chunk) for chunk in chunks),
    )
    return Manifest([disk]), chunks


def stock(services: Services, image: str, *letters: str, size: int = 32, **more: Any) -> VersionView:
    """Put a version of `image` into store and database, as a capture does."""
    manifest, chunks = manifest_of(*letters, size=size)
    _, fresh = services.store.add([(hash_chunk(chunk), compress(chunk)) for chunk in chunks])
    services.store.commit()
    facts = services.store.put_manifest(manifest.to_bytes())
    with services.write() as session:
        return images.add_version(
            session,
            image,
            manifest=facts.id,
            disk_bytes=facts.disk_bytes,
            used_bytes=facts.used_bytes,
            stored_bytes=fresh,
            chunks=facts.chunks,
            summary=facts.summary,
            **more,
        )


def spoil(services: Services, letter: str) -> None:
    """Change a byte of a stored chunk on the store's disk."""
    data = compress(_chunk(letter))
    for pack in sorted((services.store.path / "packs").glob("*.pack")):
        content = bytearray(pack.read_bytes())
        at = content.find(data)
        if at >= 0:
            content[at + len(data) // 2] ^= 1
            pack.write_bytes(content)
            return
    raise AssertionError(f"no chunk {letter} in the store")


def _chunk(letter: str) -> bytes:
    return (letter.encode() * CHUNK_SIZE)[:CHUNK_SIZE]
