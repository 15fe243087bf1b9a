"""Imports and exports as jobs: the exchange folder's files, the store's chunks, the database's versions."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import Cancelled, ImagingError
from imaging.exchange import bundle, clonezilla, diskfile, export, fog, formats, paths
from imaging.exchange.unpack import unpack
from imaging.manifest import Manifest
from imaging.options import CaptureOptions, OptionsError
from imaging.placement import GROWS
from pxeboot.errors import Invalid, StoreRefused
from pxeboot.services import images, lookup
from pxeboot.services.exchange_views import ExchangeFile, ExchangeView, ExportOrder, ImportOrder
from pxeboot.services.jobs import JobHandle
from pxeboot.services.views import JobView, VersionView

if TYPE_CHECKING:
    from pxeboot.adapters.container import Services

SHOWN = 500  # files that a listing names
_STATUS: Final = {"signer-unknown": 409, "no-room": 507, "store-full": 507, "tool-missing": 501}
_WORDS: Final = {"fog": "FOG image folder", "clonezilla": "Clonezilla image folder", "bundle": "bundle"}


class Exchange:
    """Thread-safe; knows the services, because it reads the settings, the database and the store."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def folder(self) -> Path:
        """The exchange folder; made when it is missing. Invalid when that cannot be done."""
        folder = self._services.settings.exchange_dir
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(f"The exchange folder {folder} cannot be made: {error.strerror}.") from error
        return folder.resolve()

    def _path(self, name: str) -> Path:
        """What an order means by a name. StoreRefused(path-refused)."""
        folder = self.folder
        # People on the server name the file as they see it.
        inside = name.removeprefix(f"{folder}/").removeprefix(f"{self._services.settings.exchange_dir}/")
        inside = inside.rstrip("/")
        with _refused():
            return folder if inside in ("", ".") else paths.inside(folder, inside)

    def view(self) -> ExchangeView:
        """What lies in the folder, by name."""
        key, trouble, files = self._services.store.public_key, "", list[ExchangeFile]()
        try:
            files = list(itertools.islice(_listed(self.folder), SHOWN))
        except (OSError, Invalid) as error:
            trouble = str(error)
        return ExchangeView(
            folder=str(self._services.settings.exchange_dir), key=key, files=files, trouble=trouble
        )

    # --- import ---

    def start_import(self, order: ImportOrder, *, actor: str = "") -> JobView:
        """Begin to import; what cannot work is refused at once.

        Invalid for a bad name or option; StoreRefused: path-refused, folder-invalid, disk-file-refused,
        signer-unknown (409, `key` in the answer), store-full …
        """
        image = lookup.checked_name(order.image, "image")
        path = self._path(order.path)
        try:
            options = CaptureOptions.from_task({"whole": order.whole})
        except OptionsError as error:
            raise Invalid(str(error)) from None
        trusted = frozenset({self._services.store.public_key, order.trust.strip().lower()})
        with _refused():
            kind = formats.recognise(path, order.format)
            if kind == "bundle":
                opened = bundle.look(path)
                if opened.description.key not in trusted:
                    raise bundle.SignerUnknown(opened.description.key, path.name)
        with self._services.store.chunks() as store:
            # Packed content takes about what it takes there; a disk file's, far less than it.
            store.room(_size(path) // (1 if kind in _WORDS else 4))
        return self._services.jobs.start(
            "import",
            f"Import {order.path} as {image}",
            lambda job: self._import(job, order, path, kind, options, trusted, actor),
            actor=actor,
            once=f"import {path} {image}",
        )

    def _import(
        self,
        job: JobHandle,
        order: ImportOrder,
        path: Path,
        kind: str,
        options: CaptureOptions,
        trusted: frozenset[str],
        actor: str,
    ) -> dict[str, Any]:
        holder, notes = f"import-{job.id}", list[str]()
        fresh, grow = 0, tuple[int, ...]()

        def progress(stage: str, done: int, total: int) -> None:
            job.progress(done, total, stage)
            if job.stop():
                raise Cancelled("The import was stopped.")

        def missing(hashes: Sequence[bytes]) -> bytes:
            return self._services.store.missing(b"".join(hashes), holder)

        def upload(records: Sequence[tuple[bytes, bytes]]) -> None:
            nonlocal fresh
            # A bundle's frames are somebody else's work; all others are compressed here and now.
            fresh += self._services.store.add(records, holder, own=kind != "bundle")[1]

        level = self._services.settings.images.zstd_level
        note = f"from {_WORDS.get(kind, kind)} {order.path}"
        try:
            manifest: Manifest
            if kind == "bundle":
                opened = bundle.read(path, trusted=trusted, missing=missing, upload=upload, progress=progress)
                manifest = opened.manifest
                note += f": {opened.description.version}, signed by {opened.description.key}"
            elif kind in ("fog", "clonezilla"):
                disks = fog.read(path, order.places) if kind == "fog" else clonezilla.read(path)
                grow = disks[0].grow if len(disks) == 1 and order.places == "minimum" else ()
                manifest = unpack(
                    disks, missing=missing, upload=upload, progress=progress, level=level, tell=notes.append
                )
            else:
                manifest = diskfile.read(
                    path,
                    kind,
                    missing=missing,
                    upload=upload,
                    work=self.folder,
                    progress=progress,
                    level=level,
                    tell=notes.append,
                    options=options,
                )
            version = self._keep(manifest, holder, order, note, fresh, grow, actor)
        finally:
            self._services.store.release(holder)
        return {
            "version": version.name,
            "manifest": manifest.id,
            "chunks": len(manifest.chunks),
            "new_bytes": fresh,
            "notes": notes[:200],
        }

    def _keep(
        self,
        manifest: Manifest,
        holder: str,
        order: ImportOrder,
        note: str,
        fresh: int,
        grow: tuple[int, ...],
        actor: str,
    ) -> VersionView:
        """Sign it with our key and make it a version. `grow`: the image's default, unless it has one."""
        facts = self._services.store.put_manifest(manifest.to_bytes(), holder)
        able = {p.number for p in manifest.disks[0].partitions if p.filesystem in GROWS}
        with self._services.write() as session:
            view = images.add_version(
                session,
                order.image,
                manifest=facts.id,
                disk_bytes=facts.disk_bytes,
                used_bytes=facts.used_bytes,
                stored_bytes=fresh,
                chunks=facts.chunks,
                note_text=f"{order.note} ({note})" if order.note else f"Imported {note}",
                summary=facts.summary,
                actor=actor,
                verb="imported",
            )
            image = images.get_image(session, view.image)
            deploy = image.params.get("deploy", {})
            if able.intersection(grow) and "grow" not in deploy:
                wanted = {**deploy, "grow": sorted(able.intersection(grow))}
                images.update_image(session, view.image, actor=actor, params={"deploy": wanted})
            return view

    # --- export ---

    def start_export(self, order: ExportOrder, *, actor: str = "") -> JobView:
        """Begin to export. NotFound(image|version); StoreRefused(path-refused, exchange-failed)."""
        with self._services.read() as session:
            version = images.resolve(session, order.image)
        path = self._path(order.to)
        if order.to.endswith("/") or path.is_dir():
            ending = bundle.ENDING if order.format == "bundle" else export.FORMATS[order.format][0]
            path /= f"{version.name.replace('@', '-')}.{ending}"
        if path.exists() or path.is_symlink():
            raise StoreRefused(
                f"{path} exists already: remove it, or choose another name.", "exchange-failed", 409
            )
        return self._services.jobs.start(
            "export",
            f"Export {version.name} to {path.name}",
            lambda job: self._export(job, version, path, order.format),
            actor=actor,
            writes=False,
            once=f"export {path}",
        )

    def _export(self, job: JobHandle, version: VersionView, path: Path, kind: str) -> dict[str, Any]:
        def progress(stage: str, done: int, total: int) -> None:
            job.progress(done, total, stage)
            if job.stop():
                raise Cancelled("The export was stopped; nothing of it was kept.")

        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with self._services.store.chunks() as store:
            data, signature = store.manifest(version.manifest)
            manifest = Manifest.from_bytes(data)
            if kind == "bundle":
                files = [path]
                with export.partial_file(path, _stored(store.frame, manifest)) as partial:
                    told = bundle.Description(
                        image=version.image,
                        version=version.name,
                        note=version.note[:1000],
                        created=version.created_at.isoformat(),
                        key=self._services.store.public_key,
                    )
                    with open(partial, "xb") as file:
                        bundle.write(file, told, data, signature, store.frame, progress)
            else:
                files = export.export(manifest, lambda ref: store.frame(ref.hash), path, kind, progress)
        folder = self.folder
        return {
            "version": version.name,
            "files": [str(file.relative_to(folder)) for file in files],
            "bytes": sum(file.stat().st_blocks * 512 for file in files),
        }


def _stored(frame: Callable[[bytes], bytes], manifest: Manifest) -> int:
    """About how many bytes the frames of a version have: measured on a few of them."""
    hashes = list(dict.fromkeys(manifest.hashes))
    some = hashes[:: max(1, len(hashes) // 32)]
    return sum(len(frame(hash)) for hash in some) * len(hashes) // max(1, len(some))


def _listed(folder: Path, inside: str = "") -> Iterator[ExchangeFile]:
    """What lies in a folder, and in folders of it that are no images themselves."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith(".") or path.is_symlink():
            continue
        try:
            kind = formats.recognise(path)
        except ImagingError:
            kind = ""
        if not kind and path.is_dir():
            if not inside:
                yield from _listed(path, f"{name}/")
            continue
        with contextlib.suppress(OSError):  # gone meanwhile
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            yield ExchangeFile(name=inside + name, format=kind, bytes=_size(path), modified=modified)


def _size(path: Path) -> int:
    """Bytes on disk of a file, or of the files in a folder."""
    files = list(path.iterdir())[:10_000] if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in files)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Imaging errors of an order as StoreRefused: it is the order that is wrong."""
    try:
        yield
    except bundle.SignerUnknown as error:
        raise StoreRefused(str(error), error.code, 409, key=error.key) from error
    except ImagingError as error:
        raise StoreRefused(str(error), error.code, _STATUS.get(error.code, 422)) from error
