"""Everything that can go wrong with an image: one class each, with a stable code and one sentence of advice.

The sentence is written for the person who reads the outcome of a task; ``code`` is what programs compare.
"""


class ImagingError(Exception):
    """Base of all errors of the image engine. ``str(error)`` is one sentence; ``code`` is stable."""

    code = "imaging-error"


class ManifestError(ImagingError):
    """The bytes are not a manifest of a version we know (docs/image-format.md)."""

    code = "manifest-invalid"


class ManifestMissing(ImagingError):
    """The store holds no manifest of this identity."""

    code = "manifest-missing"

    def __init__(self, id: str) -> None:
        super().__init__(f"The store has no manifest {id}: check the version, or capture the image again.")
        self.id = id


class ManifestIncomplete(ImagingError):
    """A manifest was offered although the store lacks some of its chunks."""

    code = "manifest-incomplete"

    def __init__(self, lacking: int, total: int) -> None:
        super().__init__(
            f"{lacking} of the {total} chunks of this image are not in the store: "
            "upload them, then send the manifest again."
        )
        self.lacking, self.total = lacking, total


class SignatureInvalid(ImagingError):
    """An Ed25519 signature does not fit the bytes and the key."""

    code = "signature-invalid"


class ChunkMissing(ImagingError):
    """The store holds no chunk of this hash."""

    code = "chunk-missing"

    def __init__(self, hash: bytes) -> None:
        super().__init__(f"The store has no chunk {hash.hex()}: capture the image again to bring it back.")
        self.hash = hash


class ChunkInvalid(ImagingError):
    """A chunk's bytes are not what its hash says: damaged in the store, on the way, or forged."""

    code = "chunk-damaged"

    def __init__(self, hash: bytes, reason: str) -> None:
        super().__init__(f"Chunk {hash.hex()} is damaged ({reason}): capture the image again to replace it.")
        self.hash, self.reason = hash, reason


class StoreError(ImagingError):
    """The chunk store cannot do what was asked (its directory, index or disk failed)."""

    code = "store-failed"


class StoreBusy(StoreError):
    """Another process writes to this store."""

    code = "store-busy"


class StoreFull(StoreError):
    """No room for more chunks; the reserve is kept so that the index and the database still work."""

    code = "store-full"

    def __init__(self, path: str, needed: int, free: int, reserve: int) -> None:
        super().__init__(
            f"The image store {path} has no room for {needed} more bytes "
            f"({free} free, {reserve} kept in reserve): "
            "delete old image versions and prune the store, or give it a larger disk."
        )
        self.needed, self.free, self.reserve = needed, free, reserve


class DiskError(ImagingError):
    """Reading or writing a disk failed."""

    code = "disk-failed"


class DiskBusy(DiskError):
    """The disk is mounted or otherwise in use."""

    code = "disk-busy"


class DiskTooSmall(DiskError):
    """The image does not fit on the target disk."""

    code = "disk-too-small"

    def __init__(self, path: str, needed: int, size: int, advice: str = "") -> None:
        super().__init__(
            f"The disk {path} is too small for this image: it has {size} bytes, the image needs {needed}. "
            + (advice or "Choose a larger disk, or capture the image from a smaller one.")
        )
        self.needed, self.size = needed, size


class UnsupportedDisk(DiskError):
    """The disk has something on it (or a geometry) that this version cannot capture or deploy."""

    code = "disk-unsupported"


class PlacementRefused(DiskError):
    """The image cannot be put on this disk in the way that was asked for."""

    code = "placement-refused"


class TableDiffers(DiskError):
    """Single partitions were asked for, and the target's own are not like those of the image."""

    code = "table-differs"


class FilesystemDirty(UnsupportedDisk):
    """A file system was not shut down cleanly, so its map of used blocks cannot be trusted."""

    code = "filesystem-dirty"


class FilesystemUnsupported(UnsupportedDisk):
    """A partition holds something whose used blocks nobody can tell, and nobody asked for all its bytes."""

    code = "filesystem-unsupported"


class ToolMissing(ImagingError):
    """A program this machine should have is not installed."""

    code = "tool-missing"


class VerifyFailed(DiskError):
    """After writing, the disk read back differs from the manifest."""

    code = "verify-failed"


class ResizeFailed(ImagingError):
    """A file system could not be grown, shrunk or measured; the sentence has what the tool said."""

    code = "resize-failed"


class IdentitiesFailed(ImagingError):
    """New GUIDs, UUIDs or the references to them could not be written."""

    code = "identities-failed"


class CustomiseError(ImagingError):
    """What was to be done to the disk after the image could not be done (docs/customising.md)."""

    code = "customise-failed"


class Cancelled(ImagingError):
    """The caller asked to stop."""

    code = "cancelled"


class TableInvalid(UnsupportedDisk):
    """The partition table is damaged or contradicts itself."""

    code = "table-invalid"
