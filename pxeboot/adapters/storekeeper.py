"""Looks after the image store: verify, prune, scrub, recompress as jobs; its numbers; room for captures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from imaging.errors import Cancelled
from imaging.store import Usage
from pxeboot.adapters import versiondiff
from pxeboot.db.models import Operation, OperationState
from pxeboot.errors import AppError, Conflict
from pxeboot.services import images, jobs, retention, versions
from pxeboot.services.jobs import JobHandle
from pxeboot.services.store_views import CareView, DiffView, StoreView, UsageView
from pxeboot.services.task_kinds import KINDS, REQUESTS
from pxeboot.services.views import JobView, OperationRequest, RetentionPlan

if TYPE_CHECKING:
    from pxeboot.adapters.container import Services

SHOWN = 100  # damaged things that a result names
# A capture needs at least this much above the reserve; of an image with versions a share of the newest one,
# as an update of a system rarely changes more. What it really needs only its end tells.
LEAST_ROOM = 1 << 30
LEAST_SHARE = 10
SETTLED = timedelta(minutes=10)  # how long nothing must have happened before the store is recompressed
RECOMPRESS_EVERY = timedelta(days=1)
_BUSY_SECONDS = 5.0  # how often work in the background asks whether machines are at work


class StoreKeeper:
    """Thread-safe; knows the services, because it reads the database, the store and the settings."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._usage_lock = threading.Lock()
        self._usage: tuple[tuple[str, ...], dict[str, Usage]] = ((), {})
        self._quiet_since = datetime.now(UTC)

    # --- jobs ---

    def verify(self, reference: str = "", *, actor: str = "") -> JobView:
        """Read every chunk of a version (or of all) again. NotFound(image|version)."""
        manifest, name = None, "the image store"
        if reference:
            with self._services.read() as session:
                version = images.resolve(session, reference)
            manifest, name = version.manifest, version.name
        return self._services.jobs.start(
            "verify",
            f"Verify {name}",
            lambda job: self._verify(job, manifest),
            actor=actor,
            writes=False,
            once=f"verify {manifest or ''}",
        )

    def _verify(self, job: JobHandle, manifest: str | None) -> dict[str, Any]:
        total = 0

        def progress(done: int, of: int) -> None:
            nonlocal total
            total = of
            job.progress(done, of)
            if job.stop():
                raise Cancelled("stopped")

        bad: list[tuple[str, str]] = []
        with self._services.store.chunks() as store:
            for found in store.verify(manifest, progress):
                bad.append((found.hash.hex(), str(found.error)))
            signed = self._services.store.is_signed(*store.manifest(manifest)) if manifest else True
            hit = self._hit({bytes.fromhex(hash) for hash, _ in bad}) if bad else {}
        if not signed:
            bad.append(("", "The signature of the version's manifest is not this server's."))
        return {
            "chunks": total,
            "damaged": len(bad),
            "findings": [{"name": name, "sentence": sentence} for name, sentence in bad[:SHOWN]],
            "versions": self._named(hit),
        }

    def _hit(self, hashes: set[bytes]) -> dict[str, int]:
        """Manifest to the number of its chunks among these."""
        from imaging.manifest import Manifest

        with self._services.store.chunks() as store:
            counted = {
                id: len(hashes.intersection(Manifest.from_bytes(store.manifest(id)[0]).hashes))
                for id in store.manifests()
            }
        return {id: count for id, count in counted.items() if count}

    def _named(self, by_manifest: dict[str, int]) -> dict[str, int]:
        """The same by `image@number`."""
        with self._services.read() as session:
            names = versions.names_by_manifest(session, by_manifest)
        return {
            name: count
            for id, count in by_manifest.items()
            for name in names.get(id, [f"manifest {id[:16]}"])
        }

    def plan(self, image: str = "") -> RetentionPlan:
        """What a prune would do with versions. NotFound(image)."""
        with self._services.read() as session:
            return retention.plan(session, image or None)

    def prune(self, image: str = "", *, actor: str = "") -> JobView:
        """Delete the versions that retention gives up (of one image, or of all) and chunks nobody names."""
        self.plan(image)
        return self._services.jobs.start(
            "prune",
            f"Prune {image or 'the image store'}",
            lambda job: self._prune(job, image, actor),
            actor=actor,
            once=f"prune {image}",
        )

    def _prune(self, job: JobHandle, image: str, actor: str) -> dict[str, Any]:
        with self._services.write() as session:
            plan = retention.plan(session, image or None)
            for manifest in versions.forget_versions(session, plan.numbers, actor=actor):
                self._services.store.delete_manifest(manifest)
        with self._services.read() as session:
            keep = list(versions.manifests(session))
        with self._services.store.chunks() as store:
            done = store.prune(keep, progress=job.progress, stop=job.stop)
        return {"versions": plan.delete, **done._asdict()}

    def scrub(self, *, restart: bool = False, background: bool = False, actor: str = "") -> JobView:
        """Read the whole store at the rate of the settings; it goes on where it was, unless `restart`."""
        if restart and any(job.finished_at is None for job in self._services.jobs.list(kind="scrub")):
            raise Conflict("A scrub is under way; cancel its job first, then start anew.")
        return self._services.jobs.start(
            "scrub",
            "Scrub the image store",
            lambda job: self._scrub(job, restart),
            actor=actor or ("schedule" if background else ""),
            background=True,
            once="scrub",
        )

    def _scrub(self, job: JobHandle, restart: bool) -> dict[str, Any]:
        rate = self._services.settings.store.scrub_rate_mb * 1e6 or None
        with self._services.store.chunks() as store:
            report = store.scrub(
                rate, job.progress, job.stop, check_signature=self._services.store.is_signed, restart=restart
            )
        return {
            **report._asdict(),
            "findings": [each._asdict() for each in report.findings[:SHOWN]],
            "versions": self._named(report.versions),
        }

    def recompress(self, *, background: bool = False, actor: str = "") -> JobView:
        """Give chunks smaller frames; in the background it ends when machines are at work."""
        return self._services.jobs.start(
            "recompress",
            "Recompress the image store",
            lambda job: self._recompress(job, self._unless_busy(job) if background else job.stop),
            actor=actor or ("schedule" if background else ""),
            background=True,
            once="recompress",
        )

    def _recompress(self, job: JobHandle, stop: Callable[[], bool]) -> dict[str, Any]:
        rate = self._services.settings.store.scrub_rate_mb * 1e6 or None
        with self._services.store.chunks() as store:
            return store.recompress(progress=job.progress, stop=stop, rate=rate)._asdict()

    def _unless_busy(self, job: JobHandle) -> Callable[[], bool]:
        asked, busy = time.monotonic(), False

        def stop() -> bool:
            nonlocal asked, busy
            if time.monotonic() - asked > _BUSY_SECONDS:
                asked, busy = time.monotonic(), self._busy()
            return job.stop() or busy

        return stop

    # --- by itself ---

    def tick(self, now: datetime) -> None:
        """Start what is due and nobody is in the way of; called every minute."""
        active = [job for job in self._services.jobs.list() if job.finished_at is None]
        if active or self._busy():
            self._quiet_since = now
            return
        status = self.status()
        if now - self._quiet_since < SETTLED:
            return
        if status.scrub.next_at is not None and status.scrub.next_at <= now:
            self.scrub(background=True)
        elif status.recompress.next_at is not None and status.recompress.next_at <= now:
            self.recompress(background=True)

    def _busy(self) -> bool:
        """Whether an operation is under way: its machines come before the store's own work."""
        with self._services.read() as session:
            running = select(Operation.id).where(Operation.state == OperationState.RUNNING)
            return session.exec(running.order_by(col(Operation.id))).first() is not None

    # --- numbers ---

    def status(self) -> StoreView:
        """Cheap: counts of the index, and how the last scrub and recompression ended."""
        rules = self._services.settings.store
        with self._services.store.chunks() as store:
            totals, kept = store.totals(), len(store.manifests())
        with self._services.read() as session:
            scrub = self._care(session, "scrub", timedelta(days=rules.scrub_days), "complete")
            recompress = self._care(
                session, "recompress", RECOMPRESS_EVERY if rules.recompress else timedelta(0), ""
            )
        return StoreView(
            path=str(self._services.store.path),
            versions=kept,
            scrub=scrub,
            recompress=recompress,
            **totals._asdict(),
        )

    def _care(self, session: Session, kind: str, every: timedelta, whole: str) -> CareView:
        running = next((job for job in self._services.jobs.list(kind=kind) if job.finished_at is None), None)
        last = jobs.last_in_journal(session, kind)
        next_at = None
        if every:
            finished = last is not None and (not whole or bool(last.result.get(whole)))
            next_at = last.at + every if last and finished else datetime.now(UTC)
        if last is None:
            return CareView(running=running, next_at=next_at)
        return CareView(running=running, at=last.at, result=last.result, error=last.error, next_at=next_at)

    def usage(self, manifests: Sequence[str]) -> dict[str, UsageView]:
        """What these versions take; kept until a version comes or goes. Those that are gone are left out."""
        with self._services.store.chunks() as store:
            kept = tuple(store.manifests())
            with self._usage_lock:
                if self._usage[0] != kept:
                    self._usage = (kept, {})
                known = self._usage[1]
            asked = [id for id in dict.fromkeys(manifests) if id in set(kept)]
            if lacking := [id for id in asked if id not in known]:
                known.update(store.usage(lacking))
        return {
            id: UsageView(
                own=known[id].unique_stored,
                shared=known[id].shared_stored,
                own_chunks=known[id].unique_chunks,
                shared_chunks=known[id].shared_chunks,
            )
            for id in asked
            if id in known
        }

    def diff(self, a: str, b: str) -> DiffView:
        """What differs from one version to another. NotFound(image|version), StoreRefused."""
        with self._services.read() as session:
            old, new = images.resolve(session, a), images.resolve(session, b)
        with self._services.store.chunks() as store:
            found = store.diff(old.manifest, new.manifest)
        return versiondiff.describe(old, new, found)

    def delete_version(self, reference: str, *, actor: str = "") -> None:
        """Forget a version, and its manifest when no other has it. Conflict with the reason."""
        with self._services.write() as session:
            view, orphaned = versions.delete_version(session, reference, actor=actor)
            if orphaned:
                self._services.store.delete_manifest(view.manifest)

    def delete_image(self, image: str, *, actor: str = "") -> None:
        """Forget an image with its versions, and the manifests no other has. Conflict with the reason."""
        with self._services.write() as session:
            gone = [view.manifest for view in images.versions(session, image)]
            images.delete_image(session, image, actor=actor)
            for manifest in dict.fromkeys(gone):
                if versions.orphaned(session, manifest):
                    self._services.store.delete_manifest(manifest)

    def check_room(self, request: OperationRequest) -> None:
        """Refuse a capture for which the store has no room. StoreRefused(store-full) with the numbers."""
        if not KINDS[REQUESTS[request.kind].task].brings_manifest or not request.image:
            return
        needed = LEAST_ROOM
        with self._services.read() as session:
            try:
                newest = images.resolve(session, f"{request.image}@latest")
            except AppError:  # a new image, or one without versions
                newest = None
        if newest is not None:
            needed = max(LEAST_ROOM // 4, newest.used_bytes // LEAST_SHARE)
        with self._services.store.chunks() as store:
            store.room(needed)
