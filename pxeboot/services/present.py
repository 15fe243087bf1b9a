"""From rows to views, many at a time (no query per row)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import tuple_
from sqlmodel import Session, col, func, select

from pxeboot.db.models import (
    BootEntry,
    Event,
    Group,
    Host,
    HostMac,
    Image,
    ImageVersion,
    Operation,
    Schedule,
    Task,
    TaskState,
)
from pxeboot.services.lookup import names_of
from pxeboot.services.task_states import FINAL
from pxeboot.services.views import (
    BootEntryView,
    EventView,
    GroupView,
    HostView,
    ImageView,
    OperationView,
    ScheduleView,
    TaskView,
    VersionView,
)

IMAGE_PARAMS = ("capture", "deploy", "keep")  # of an image's parameters, those that people set

# How far a task is, per stage: (where the stage starts, where it ends) in percent of the whole.
_SPAN = {
    "inventory": (0, 2),
    "scan": (2, 15),
    "receive": (15, 75),
    "write": (15, 75),
    "upload": (15, 95),
    "verify": (75, 97),
    "customise": (97, 99),
    "wipe": (2, 97),
    "test": (2, 97),
    "shell": (2, 99),
}


def version_names(session: Session, ids: set[int]) -> dict[int, str]:
    """`image@number` by version id."""
    if not ids:
        return {}
    rows = session.exec(
        select(ImageVersion.id, Image.name, ImageVersion.number)
        .join(Image)
        .where(col(ImageVersion.id).in_(ids))
    ).all()
    return {id: f"{name}@{number}" for id, name, number in rows if id is not None}


def task_views(session: Session, tasks: Sequence[Task]) -> list[TaskView]:
    """Views of tasks, in the same order."""
    hosts = names_of(session, Host, {task.host_id for task in tasks})
    versions = version_names(session, {task.version_id for task in tasks if task.version_id})
    return [
        TaskView(
            **task.model_dump(exclude={"version_id", "kind", "state"}),
            kind=task.kind.value,
            state=task.state.value,
            host=hosts.get(task.host_id, "?"),
            version=versions.get(task.version_id or 0),
            percent=min(100, task.done * 100 // task.total) if task.total > 0 else None,
        )
        for task in tasks
    ]


def host_views(session: Session, hosts: Sequence[Host]) -> list[HostView]:
    """Views of hosts, in the same order."""
    ids = {host.id for host in hosts}
    groups = names_of(session, Group, {host.group_id for host in hosts if host.group_id})
    images = names_of(session, Image, {host.image_id for host in hosts if host.image_id})
    macs: dict[int, list[str]] = defaultdict(list)
    for row in session.exec(select(HostMac).where(col(HostMac.host_id).in_(ids)).order_by(HostMac.mac)):
        macs[row.host_id].append(row.mac)
    active = session.exec(select(Task).where(col(Task.host_id).in_(ids), col(Task.state).not_in(FINAL))).all()
    tasks = {task.host_id: task for task in task_views(session, active)}
    held: dict[str, str] = {}
    manifests = {host.held_manifest for host in hosts if host.held_manifest}
    if manifests:
        rows = session.exec(
            select(ImageVersion.manifest, Image.name, ImageVersion.number)
            .join(Image)
            .where(col(ImageVersion.manifest).in_(manifests))
            .order_by(col(ImageVersion.id))
        ).all()
        held = {manifest: f"{name}@{number}" for manifest, name, number in rows}
    return [
        HostView(
            **host.model_dump(exclude={"group_id", "image_id", "state"}),
            state=host.state.value,
            group=groups.get(host.group_id or 0),
            image=images.get(host.image_id or 0),
            macs=macs.get(host.id or 0, []),
            held_version=held.get(host.held_manifest),
            task=tasks.get(host.id or 0),
        )
        for host in hosts
    ]


def host_view(session: Session, host: Host) -> HostView:
    """View of one host."""
    return host_views(session, [host])[0]


def group_views(session: Session, groups: Sequence[Group]) -> list[GroupView]:
    """Views of groups, in the same order."""
    ids = {group.id for group in groups}
    images = names_of(session, Image, {group.image_id for group in groups if group.image_id})
    members = select(Host.group_id, func.count()).where(col(Host.group_id).in_(ids))
    sizes = dict(session.exec(members.group_by(col(Host.group_id))).all())
    return [
        GroupView(
            **group.model_dump(exclude={"image_id"}),
            image=images.get(group.image_id or 0),
            hosts=sizes.get(group.id, 0),
        )
        for group in groups
    ]


def entry_views(session: Session, entries: Sequence[BootEntry]) -> list[BootEntryView]:
    """Views of boot entries, in the same order."""
    groups = names_of(session, Group, {entry.group_id for entry in entries if entry.group_id})
    return [
        BootEntryView(
            **entry.model_dump(exclude={"group_id", "password_hash"}),
            group=groups.get(entry.group_id or 0),
            protected=bool(entry.password_hash),
        )
        for entry in entries
    ]


def version_views(session: Session, image: Image, versions: Sequence[ImageVersion]) -> list[VersionView]:
    """Views of versions of one image, in the same order."""
    highest = select(func.max(ImageVersion.number)).where(ImageVersion.image_id == image.id)
    current = image.current_number or session.exec(highest).one()
    hosts = _holders(session, versions)
    return [_version_view(version, image, current, hosts) for version in versions]


def version_view(session: Session, image: Image, version: ImageVersion) -> VersionView:
    """View of one version of an image."""
    return version_views(session, image, [version])[0]


def _holders(session: Session, versions: Sequence[ImageVersion]) -> dict[str, int]:
    """How many hosts hold the manifest of each."""
    held = select(Host.held_manifest, func.count()).where(
        col(Host.held_manifest).in_({version.manifest for version in versions})
    )
    return dict(session.exec(held.group_by(Host.held_manifest)).all())


def _version_view(
    version: ImageVersion, image: Image, current: int | None, hosts: dict[str, int]
) -> VersionView:
    return VersionView(
        **version.model_dump(exclude={"image_id"}),
        name=f"{image.name}@{version.number}",
        image=image.name,
        current=version.number == current,
        by=str(version.summary.get("by") or ""),
        hosts=hosts.get(version.manifest, 0),
    )


def image_views(session: Session, images: Sequence[Image]) -> list[ImageView]:
    """Views of images, in the same order."""
    ids = {image.id for image in images}
    counted = session.exec(
        select(ImageVersion.image_id, func.count(), func.max(ImageVersion.number))
        .where(col(ImageVersion.image_id).in_(ids))
        .group_by(col(ImageVersion.image_id))
    ).all()
    ranges = {image_id: (count, highest) for image_id, count, highest in counted}
    wanted = {
        (image.id, number)
        for image in images
        if image.id in ranges
        for number in (ranges[image.id][1], image.current_number or ranges[image.id][1])
    }
    shown = session.exec(
        select(ImageVersion).where(tuple_(col(ImageVersion.image_id), col(ImageVersion.number)).in_(wanted))
    ).all()
    by_place = {(version.image_id, version.number): version for version in shown}
    hosts = _holders(session, shown)

    def view(image: Image, number: int | None, current: int | None) -> VersionView | None:
        version = by_place.get((image.id or 0, number or 0))
        return _version_view(version, image, current, hosts) if version else None

    views = []
    for image in images:
        count, highest = ranges.get(image.id or 0, (0, None))
        current = image.current_number or highest
        views.append(
            ImageView(
                **image.model_dump(exclude={"params"}),
                params={key: value for key, value in image.params.items() if key in IMAGE_PARAMS},
                versions=count,
                latest=view(image, highest, current),
                current=view(image, current, current),
                held=image.current_number is not None,
            )
        )
    return views


def _share(state: TaskState, stage: str, done: int, total: int) -> int:
    if state in FINAL:
        return 100
    start, end = _SPAN.get(stage, (0, 0))
    return start + ((end - start) * min(done, total) // total if total > 0 else 0)


def operation_views(
    session: Session, operations: Sequence[Operation], *, with_tasks: bool = False
) -> list[OperationView]:
    """Views of operations, in the same order; with their tasks by host name if asked."""
    ids = {operation.id for operation in operations}
    groups = names_of(session, Group, {item.group_id for item in operations if item.group_id})
    images = names_of(session, Image, {item.image_id for item in operations if item.image_id})
    versions = version_names(session, {item.version_id for item in operations if item.version_id})
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shares: dict[str, list[int]] = defaultdict(list)
    # Columns, not rows: a list of operations must not load every task of the site. (SQLModel's typed
    # select ends
    # at four columns.)
    rows = session.execute(
        sa.select(
            col(Task.operation_id), col(Task.state), col(Task.stage), col(Task.done), col(Task.total)
        ).where(col(Task.operation_id).in_(ids))
    ).all()
    for operation_id, state, stage, done, total in rows:
        counts[operation_id][state.value] += 1
        shares[operation_id].append(_share(state, stage, done, total))
    tasks: dict[str, list[TaskView]] = defaultdict(list)
    if with_tasks:
        found = session.exec(select(Task).where(col(Task.operation_id).in_(ids))).all()
        for view in sorted(task_views(session, found), key=lambda item: item.host):
            tasks[view.operation_id].append(view)
    return [
        OperationView(
            **item.model_dump(exclude={"group_id", "image_id", "version_id", "state"}),
            state=item.state.value,
            group=groups.get(item.group_id or 0),
            image=images.get(item.image_id or 0) or item.params.get("image"),
            version=versions.get(item.version_id or 0),
            counts=dict(counts[item.id]),
            percent=sum(shares[item.id]) // max(1, len(shares[item.id])),
            tasks=tasks[item.id],
        )
        for item in operations
    ]


def schedule_view(schedule: Schedule) -> ScheduleView:
    """View of one schedule."""
    return ScheduleView(**schedule.model_dump())


def event_views(session: Session, events: Sequence[Event]) -> list[EventView]:
    """Views of journal lines, in the same order."""
    hosts = names_of(session, Host, {event.host_id for event in events if event.host_id})
    return [EventView(**event.model_dump(), host=hosts.get(event.host_id or 0)) for event in events]
