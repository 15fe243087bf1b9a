"""What a path of the exchange folder holds: told by its name, or for a folder by the names in it."""

from pathlib import Path

from imaging.exchange import bundle, clonezilla, containers, fog
from imaging.exchange.errors import ExchangeError, FolderInvalid

IMPORTS = (*containers.DRIVERS, "fog", "clonezilla", "bundle")
EXPORTS = ("raw", "qcow2", "vmdk", "vmdk-sparse", "vhdx", "bundle")


def recognise(path: Path, wanted: str = "auto") -> str:
    """One of ``IMPORTS``: ``wanted`` when it can be that, with ``auto`` what the name says.

    Raises ExchangeError (folder-invalid, disk-file-refused) when nothing fits.
    """
    if not path.exists():
        raise ExchangeError(f"There is no {path.name} in {path.parent}: copy it there first.")
    folders = {"fog": fog.is_folder, "clonezilla": clonezilla.is_folder}
    if not path.is_dir():
        if wanted in folders:
            raise FolderInvalid(f"{path.name} is a file: name the folder that holds the image's files.")
        if wanted != "auto":
            return wanted
        is_bundle = path.name.endswith("." + bundle.ENDING)
        return "bundle" if is_bundle else containers.kind_of_name(path.name)
    for kind, fits in folders.items():
        if wanted in ("auto", kind) and fits(path):
            return kind
    raise FolderInvalid(
        f"{path.name} is neither an image folder of FOG (d1.mbr is missing) nor one of Clonezilla (parts "
        "and disk are missing): name the folder that holds these files."
    )
