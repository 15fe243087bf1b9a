"""Operations: one request over one or many hosts; its tasks are its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, and_, col, or_, select

from pxeboot.db.models import (
    Group,
    Host,
    HostState,
    Image,
    ImageVersion,
    Operation,
    OperationState,
    Task,
    TaskState,
)
from pxeboot.errors import AppError, Conflict, Invalid, NotFound
from pxeboot.services import hosts, images, lookup, tasks
from pxeboot.services.debug_shell import with_site_keys
from pxeboot.services.present import operation_views
from pxeboot.services.task_kinds import REQUESTS
from pxeboot.services.task_options import SECTIONS, asked, merged, section_of
from pxeboot.services.task_states import ACTIVE
from pxeboot.services.unit import changed, note
from pxeboot.services.views import OperationRequest, OperationView, Page
from pxeboot.settings import Settings


def start(
    session: Session,
    request: OperationRequest,
    *,
    actor: str,
    settings: Settings,
    schedule_id: int | None = None,
    now: datetime | None = None,
    allow: Callable[[OperationRequest], None] | None = None,
) -> OperationView:
    """Make the operation and one task per host.

    A host that is pending, blocked or busy gets its task as failed(reason); the others go on. When no
    host is left, Conflict
    with `errors=[{"host", "code", "msg"}]` and nothing is made. NotFound(group|host|image|version) with
    the nearest names;
    Invalid when the request names no host, or a capture not exactly one, or has options that make no
    sense. `allow` may refuse what the database cannot know of (no room for a capture).
    """
    group, chosen = _chosen(session, request)
    version = _version(session, request)
    if REQUESTS[request.kind].image == "new":
        lookup.checked_name(request.image or "", "image")
    options = _options(session, request, version, chosen)
    _confirmed(request, chosen)
    if request.kind == "shell":
        options = {"shell": with_site_keys(options["shell"], settings)}
    if allow is not None:
        allow(request)
    refused = {host.id: found for host in chosen if (found := _refusal(session, host, request))}
    if len(refused) == len(chosen):
        errors = [
            {"host": host.name, "code": refused[host.id][0], "msg": refused[host.id][1]} for host in chosen
        ]
        raise Conflict(
            errors[0]["msg"] if len(errors) == 1 else f"None of the {len(errors)} hosts can take this now.",
            errors=errors,
        )
    now = now or datetime.now(UTC)
    operation = Operation(
        kind=request.kind,
        title=_title(request, group, chosen, version),
        group_id=group.id if group else None,
        image_id=version[0].id if version else None,
        version_id=version[1].id if version else None,
        transport=request.transport,
        params=request.model_dump(mode="json", exclude=set(SECTIONS)) | options,
        created_by=actor,
        created_at=now,
        schedule_id=schedule_id,
    )
    session.add(operation)
    session.flush()
    by = f" by {actor}" if actor else ""
    note(
        session,
        "api",
        "operation.started",
        f"{operation.title}: started{by} for {_hosts(len(chosen) - len(refused))}"
        + (f", {len(refused)} refused." if refused else "."),
        operation_id=operation.id,
    )
    for host in chosen:
        _add_task(session, operation, host, request, version, refused.get(host.id), settings, now)
    tasks.settle(session, operation.id, now=now)
    return get(session, operation.id)


def get(session: Session, operation_id: str) -> OperationView:
    """One operation with its tasks (by host name). NotFound(operation)."""
    return operation_views(session, [_row(session, operation_id)], with_tasks=True)[0]


def list_operations(
    session: Session,
    *,
    state: str | None = None,
    kind: str | None = None,
    host: str | None = None,
    group: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[OperationView]:
    """Newest first, without tasks (their `counts` are there)."""
    lookup.checked_limit(limit)
    query = select(Operation).order_by(col(Operation.created_at).desc(), col(Operation.id).desc())
    if state is not None:
        try:
            query = query.where(Operation.state == OperationState(state))
        except ValueError:
            raise Invalid(f"{state!r} is no state of an operation.", field="state") from None
    if kind is not None:
        query = query.where(Operation.kind == kind)
    if group is not None:
        query = query.where(Operation.group_id == lookup.group(session, group).id)
    if host is not None:
        own = select(Task.operation_id).where(Task.host_id == lookup.host(session, host).id)
        query = query.where(col(Operation.id).in_(own))
    if cursor:
        at, id = lookup.read_cursor(cursor, str, str)
        try:
            when = datetime.fromisoformat(at)
        except ValueError:
            raise Invalid("This cursor is not one of ours; start again without it.", field="cursor") from None
        query = query.where(
            or_(Operation.created_at < when, and_(Operation.created_at == when, Operation.id < id))
        )
    rows = session.exec(query.limit(limit + 1)).all()
    items = operation_views(session, rows[:limit])
    following = (
        lookup.make_cursor(items[-1].created_at.isoformat(), items[-1].id) if len(rows) > limit else None
    )
    return Page(items=items, next_cursor=following)


def cancel(session: Session, operation_id: str, *, actor: str) -> OperationView:
    """End what has not ended: waiting tasks at once, running ones when their agent next asks. Conflict
    when it is over."""
    operation = _row(session, operation_id)
    if operation.state != OperationState.RUNNING:
        raise Conflict(f"This operation is over already ({operation.state.value}).", operation=operation_id)
    now = datetime.now(UTC)
    reason = f"Cancelled by {actor}." if actor else "Cancelled."
    unfinished = session.exec(
        select(Task).where(Task.operation_id == operation_id, col(Task.state).in_(ACTIVE))
    ).all()
    for task in unfinished:
        tasks.cancel(session, task.id, reason=reason, now=now)
    note(session, "api", "operation.cancelled", f"{operation.title}: {reason}", operation_id=operation_id)
    return get(session, operation_id)


def _confirmed(request: OperationRequest, chosen: Sequence[Host]) -> None:
    """What destroys data is asked for twice. Invalid unless `confirm` names the host or their number."""
    if not REQUESTS[request.kind].confirm:
        return
    wanted = chosen[0].name if len(chosen) == 1 else str(len(chosen))
    if (request.confirm or "").strip() != wanted:
        what = f"{chosen[0].name}" if len(chosen) == 1 else f"all {len(chosen)} hosts"
        raise Invalid(
            f"A {request.kind} destroys the data of {what}: say so by confirm = {wanted!r}.", field="confirm"
        )


def check(session: Session, request: OperationRequest) -> None:
    """Whether the things a request names exist (for schedules). NotFound, Invalid."""
    if REQUESTS[request.kind].by_person:
        raise Invalid(f"A {request.kind} is started by a person, not by a schedule.", field="kind")
    _chosen(session, request, empty_is_fine=True)
    version = _version(session, request)
    if REQUESTS[request.kind].image == "new":
        lookup.checked_name(request.image or "", "image")
    _options(session, request, version, [])


Found = tuple[Image, ImageVersion]


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _row(session: Session, operation_id: str) -> Operation:
    found = session.get(Operation, operation_id)
    if found is None:
        raise NotFound("operation", operation_id)
    return found


def _chosen(
    session: Session, request: OperationRequest, empty_is_fine: bool = False
) -> tuple[Group | None, list[Host]]:
    """The group and the hosts a request means, each host once."""
    group = lookup.group(session, request.group) if request.group else None
    found: dict[int, Host] = {}
    if group is not None:
        found.update((host.id or 0, host) for host in hosts.group_members(session, group))
    errors = []
    for name in request.hosts:
        try:
            host = lookup.host(session, name)
            found[host.id or 0] = host
        except NotFound as error:
            errors.append({"host": name, "code": error.problem_code, "msg": error.sentence})
    if len(errors) == 1:
        raise NotFound("host", errors[0]["host"], errors[0]["msg"].partition(". ")[2])
    if errors:
        raise Invalid(f"{len(errors)} of the named hosts do not exist.", errors=errors)
    if group is None and not request.hosts:
        raise Invalid("Name a group or at least one host.", field="hosts")
    if not found and not empty_is_fine:
        raise Conflict(
            f"Group {group.name if group else '?'} has no hosts.", group=group.name if group else ""
        )
    if REQUESTS[request.kind].one_host and (group is not None or len(found) != 1):
        raise Invalid(f"A {request.kind} is for exactly one host; name it in hosts.", field="hosts")
    return group, list(found.values())


def _version(session: Session, request: OperationRequest) -> Found | None:
    """The version to deploy; None when there is none to deploy, or each host has its own."""
    wants = REQUESTS[request.kind].image
    if wants == "new" and not request.image:
        raise Invalid("A capture needs the name of the image it adds a version to.", field="image")
    if wants == "version" and not request.image:
        raise Invalid("A deploy needs an image, like debian or debian@3.", field="image")
    if wants in ("version", "own") and request.image:
        return images.find_version(session, request.image)
    return None


def _options(
    session: Session, request: OperationRequest, version: Found | None, chosen: Sequence[Host]
) -> dict[str, Any]:
    """What `Operation.params` keeps of options: `capture` or `deploy`, an image's defaults under what was
    asked; where each host has its own image, `by_image`. Invalid."""
    section, said = section_of(request.kind), asked(request)
    if not section:
        return {}
    wants = REQUESTS[request.kind].image
    if wants == "own" and version is None:
        own = [found for host in chosen if (found := _default_image(session, host))]
        return {section: said, "by_image": {image.name: merged(section, image.params, said) for image in own}}
    image = version[0] if version else None
    if wants == "new":
        image = session.exec(select(Image).where(Image.name == request.image)).first()
    return {section: merged(section, image.params if image else {}, said)}


def _refusal(session: Session, host: Host, request: OperationRequest) -> tuple[str, str] | None:
    """(code, sentence) why this host cannot take a task now."""
    if host.state == HostState.PENDING:
        return "host-pending", f"{host.name} waits for approval; approve it first."
    if host.state == HostState.BLOCKED:
        return "host-blocked", f"{host.name} is blocked."
    busy = tasks.active(session, host.id or 0)
    if busy is not None:
        return (
            "host-busy",
            f"{host.name} is busy ({busy.kind.value}, {busy.state.value}) "
            f"with operation {busy.operation_id}.",
        )
    if REQUESTS[request.kind].image == "own" and not request.image:
        try:
            _default_version(session, host)
        except AppError as error:
            return "no-image", error.sentence
    return None


def _default_version(session: Session, host: Host) -> Found:
    """The current version of the host's own image, else of its group's."""
    image = _default_image(session, host)
    if image is None:
        raise Invalid(f"Neither {host.name} nor its group has a default image; name one in image.")
    return images.find_version(session, image.name)


def _default_image(session: Session, host: Host) -> Image | None:
    group = session.get(Group, host.group_id) if host.group_id else None
    image_id = host.image_id or (group.image_id if group else None)
    return lookup.image(session, image_id) if image_id is not None else None


def _title(
    request: OperationRequest, group: Group | None, chosen: Sequence[Host], version: Found | None
) -> str:
    where = group.name if group else chosen[0].name
    extra = len(chosen) - 1 if group is None else len(request.hosts)
    where += f" and {extra} more" if extra > 0 else ""
    title = REQUESTS[request.kind].title
    if version is None:
        title = title.replace(" to {version}", "")
    name = f"{version[0].name}@{version[1].number}" if version else ""
    return title.format(image=request.image, where=where, version=name)


def _add_task(
    session: Session,
    operation: Operation,
    host: Host,
    request: OperationRequest,
    version: Found | None,
    refusal: tuple[str, str] | None,
    settings: Settings,
    now: datetime,
) -> None:
    kind = REQUESTS[request.kind].task
    own = version
    if REQUESTS[request.kind].image == "own" and own is None and refusal is None:
        own = _default_version(session, host)
    task = Task(
        operation_id=operation.id,
        host_id=host.id or 0,
        version_id=own[1].id if own else None,
        kind=kind,
        state=TaskState.FAILED if refusal else TaskState.QUEUED,
        code=refusal[0] if refusal else "",
        reason=refusal[1] if refusal else "",
        finished_at=now if refusal else None,
        max_attempts=request.max_attempts or settings.tasks.max_attempts,
        created_at=now,
    )
    session.add(task)
    session.flush()
    sentence = f"{operation.title}: refused, {refusal[1]}" if refusal else f"{operation.title}: queued."
    note(
        session,
        "task",
        "task.refused" if refusal else "task.queued",
        sentence,
        host_id=host.id,
        operation_id=operation.id,
        task_id=task.id,
    )
    changed(session, "host", host.id, host_id=host.id)
