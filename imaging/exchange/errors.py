"""What can go wrong between our store and other programs' files: one class per kind of file."""

from imaging.errors import ImagingError


class ExchangeError(ImagingError):
    """An image cannot be brought in or given out."""

    code = "exchange-failed"

    def about(self, what: str) -> "ExchangeError":
        """The same error, which says what it is about."""
        copy = type(self).__new__(type(self))
        Exception.__init__(copy, f"{what}: {self}")
        copy.__dict__.update(self.__dict__)
        return copy


class PartcloneInvalid(ExchangeError):
    """A partclone image is damaged, cut short, or of a kind that is not known here."""

    code = "partclone-invalid"


class StreamInvalid(ExchangeError):
    """Compressed data is damaged, cut short, or of a kind that is not known here."""

    code = "stream-invalid"


class FolderInvalid(ExchangeError):
    """An image folder of FOG or Clonezilla lacks something or contradicts itself."""

    code = "folder-invalid"


class ContainerRefused(ExchangeError):
    """A virtual disk is not what it is said to be, refers to other files, or is of a kind not known here."""

    code = "disk-file-refused"


class BundleInvalid(ExchangeError):
    """A bundle is damaged, cut short, or not one of ours."""

    code = "bundle-invalid"


class NoRoom(ExchangeError):
    """The place where a file should go has not enough room; sizes in bytes."""

    code = "no-room"

    def __init__(self, path: str, needed: int, free: int) -> None:
        super().__init__(
            f"There is not enough room in {path}: {needed} bytes are needed and {free} are free. "
            "Make room, or choose another place or format."
        )
        self.needed, self.free = needed, free


class PathRefused(ExchangeError):
    """A path leads outside the folder for exchange, or through a symbolic link."""

    code = "path-refused"


class QemuFailed(ExchangeError):
    """qemu-img or qemu-storage-daemon did not do what it should."""

    code = "qemu-failed"
