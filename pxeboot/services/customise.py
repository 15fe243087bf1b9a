"""What is done to a disk after the image: what image, group and host say, put together for a task."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlmodel import Session, col, select

from pxeboot.db.models import Group, Host, HostMac, Image, ImageVersion, Operation, Task
from pxeboot.errors import AppError, Invalid, NotFound
from pxeboot.services import customise_use, file_drops, images, lookup, scripts, secrets, templates
from pxeboot.services.customise_rules import CustomiseRules, Layer, Merged, merge, parse, patched, stored
from pxeboot.services.unit import changed, note
from pxeboot.services.views import CustomiseResult, CustomiseView

MASK = "***"


class Shed(Protocol):
    """Where the bytes of file drops and drivers lie."""

    def read(self, hash: str) -> bytes:
        """A file's bytes. NotFound(file content)."""

    def drivers(self, manufacturer: str, product: str) -> list[tuple[str, int]]:
        """(path, size) of the driver files for a model."""

    def driver_folders(self, manufacturer: str, product: str) -> list[str]:
        """The folders that are for a model."""


class Made(NamedTuple):
    """A task's order, and which secrets are in it."""

    order: dict[str, Any]
    secrets: tuple[str, ...]


def get(session: Session, kind: str, name: str) -> CustomiseView:
    """What one image, group or host says itself. NotFound."""
    row = customise_use.row(session, kind, name)
    return CustomiseView(kind=kind, name=row.name, customise=stored(row.customise).said())


def change(
    session: Session, kind: str, name: str, value: dict[str, Any], *, whole: bool = False, actor: str = ""
) -> CustomiseView:
    """Change what it says by a JSON merge patch, or replace it (`whole`).

    NotFound; Invalid with the field, also for a script, file or secret that does not exist.
    """
    row = customise_use.row(session, kind, name)
    rules = parse(value if whole else patched(dict(row.customise), value))
    _check_names(session, rules)
    row.customise = rules.said()
    session.add(row)
    session.flush()
    what = ", ".join(sorted(value)) or "nothing"
    note(
        session, "api", "customise.changed",
        f"What is done after the image was changed for {kind} {row.name} ({what})"
        + (f" by {actor}." if actor else "."),
        host_id=row.id if isinstance(row, Host) else None,
    )  # fmt: skip
    changed(session, kind, row.id, host_id=row.id if isinstance(row, Host) else None)
    return get(session, kind, row.name)


def _check_names(session: Session, rules: CustomiseRules) -> None:
    errors = []
    for kind, uses, find in (
        ("scripts", rules.scripts, scripts.row), ("files", rules.files, file_drops.row),
    ):  # fmt: skip
        for use in uses:
            try:
                find(session, use.name)
            except NotFound as error:
                errors.append({"field": kind, "msg": error.sentence})
    for name in customise_use.secrets_of(rules):
        if "{" not in name and not secrets.exists(session, name):
            errors.append({"field": "secrets", "msg": f"There is no secret {name!r}: add it first."})
    for text in _texts(rules.model_dump()):
        if "{" in text:
            templates.check(text, f"{text[:60]!r}")
    if errors:
        raise Invalid(errors[0]["msg"], errors=errors)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def layers(session: Session, host: Host, image: Image | None) -> list[Layer]:
    """What holds for a host that gets an image, the last one wins."""
    group = session.get(Group, host.group_id) if host.group_id else None
    rows: list[tuple[str, Image | Group | Host | None]] = [("image", image), ("group", group), ("host", host)]
    return [Layer(origin, row.name, stored(row.customise)) for origin, row in rows if row is not None]


def for_task(
    session: Session, task_id: str, shed: Shed, key_file: Path, base_url: str, *, rename: bool
) -> Made:
    """TASK's `customise` with secrets, for the answer to its agent's check-in and nothing else.

    What cannot be put together becomes the order `{"problem": sentence}`: the agent fails with it before it
    writes anything.
    """
    task = session.get(Task, task_id)
    host = session.get(Host, task.host_id) if task else None
    if task is None or host is None:
        raise NotFound("task", task_id)
    version = session.get(ImageVersion, task.version_id) if task.version_id else None
    image = session.get(Image, version.image_id) if version else None
    maker = _Maker(
        session, host, image, version, shed, base_url,
        lambda name: secrets.reveal(session, key_file, name), task,
    )  # fmt: skip
    try:
        order = maker.order(rename=rename)
    except AppError as error:
        return Made({"problem": f"What is to be done after the image is not complete. {error.sentence}"}, ())
    except OSError as error:  # the token is used up by now: the agent must hear why
        return Made({"problem": f"The server cannot read its files for this task: {error.strerror}."}, ())
    return Made(order, tuple(sorted(maker.used)))


def hashes_for_task(session: Session, task_id: str) -> set[str]:
    """The hashes of files that this task may fetch."""
    task = session.get(Task, task_id)
    host = session.get(Host, task.host_id) if task else None
    if task is None or host is None:
        return set()
    version = session.get(ImageVersion, task.version_id) if task.version_id else None
    image = session.get(Image, version.image_id) if version else None
    merged = merge(layers(session, host, image)).rules
    return {file_drops.row(session, use.name).hash for use in merged.files}


def result(
    session: Session, host_name: str, shed: Shed, base_url: str, image: str | None = None
) -> CustomiseResult:
    """What a host would get with `image` (`debian` or `debian@3`), else with its own or its group's.

    NotFound(host|image|version).
    """
    host = lookup.host(session, host_name)
    found, version = _image_of(session, host, image)

    def hidden(name: str) -> str:
        if not secrets.exists(session, name):
            raise NotFound("secret", name, "Add it with `pxeboot secret set`.")
        return MASK

    maker = _Maker(session, host, found, version, shed, base_url, hidden, None)
    problems: list[str] = []
    order: dict[str, Any] = {}
    try:
        order = maker.order(rename=True)
    except AppError as error:
        problems.append(error.sentence)
    order.pop("masked", None)
    named = {name: secrets.exists(session, name) for name in maker.used}
    label = f"{found.name}@{version.number}" if found and version else found.name if found else None
    return CustomiseResult(
        host=host.name,
        image=label,
        own=stored(host.customise).said(),
        merged=maker.merged.rules.said(),
        origins=maker.merged.origins,
        order=order,
        secrets=named,
        driver_folders=shed.driver_folders(host.manufacturer, host.product),
        problems=problems,
    )


def _image_of(session: Session, host: Host, name: str | None) -> tuple[Image | None, ImageVersion | None]:
    if name:
        return images.find_version(session, name)
    group = session.get(Group, host.group_id) if host.group_id else None
    id = host.image_id or (group.image_id if group else None)
    image = session.get(Image, id) if id else None
    if image is None:
        return None, None
    try:
        return images.find_version(session, image.name)
    except AppError:
        return image, None


class _Maker:
    """Puts one order together; `used` has the names of the secrets that were asked for."""

    def __init__(
        self,
        session: Session,
        host: Host,
        image: Image | None,
        version: ImageVersion | None,
        shed: Shed,
        base_url: str,
        reveal: Callable[[str], str],
        task: Task | None,
    ) -> None:
        self.merged: Merged = merge(layers(session, host, image))
        self.used: set[str] = set()
        self._values: set[str] = set()
        self._session, self._host, self._shed, self._reveal = session, host, shed, reveal
        rules = self.merged.rules
        group = session.get(Group, host.group_id) if host.group_id else None
        macs = session.exec(
            select(HostMac.mac).where(HostMac.host_id == host.id).order_by(col(HostMac.mac))
        ).all()
        self._facts = {
            "host": {
                "name": host.name, "mac": macs[0] if macs else "", "macs": list(macs), "uuid": host.uuid,
                "serial": host.serial, "manufacturer": host.manufacturer, "product": host.product,
                "address": host.address, "group": group.name if group else "",
            },
            "image": {
                "name": image.name if image else "", "version": version.number if version else 0,
            },
            "server": {"url": base_url},
            "vars": dict(rules.variables),
            "secrets": _Secrets(self),
        }  # fmt: skip
        self._task = task

    def secret(self, name: str) -> str:
        """A secret's value, remembered as one that is never shown."""
        self.used.add(name)
        value = self._reveal(name)
        self._values |= {value, *(line for line in value.splitlines() if len(line) > 3)}
        return value

    def order(self, *, rename: bool) -> dict[str, Any]:
        """The whole order. AppError naming what is missing."""
        rules = self.merged.rules
        named = rename and rules.hostname
        order: dict[str, Any] = {
            "hostname": self._host.name if named else None,
            "linux": rules.linux.model_dump(exclude_none=True),
            "windows": self._windows(named=bool(named)),
            "files": [self._file(use.name) for use in rules.files],
            "scripts": [self._script(use) for use in rules.scripts],
            "environment": self._environment(),
        }
        order["masked"] = sorted(self._values)
        return order

    def _fill(self, text: str | None, what: str) -> str:
        return templates.render(text or "", self._facts, what)

    def _environment(self) -> dict[str, str]:
        host: Mapping[str, Any] = self._facts["host"]  # type: ignore[assignment]
        image: Mapping[str, Any] = self._facts["image"]  # type: ignore[assignment]
        given = {
            **{key.upper(): host[key] for key in
               ("mac", "uuid", "serial", "manufacturer", "product", "group", "address")},
            "HOST": host["name"],
            "IMAGE": image["name"],
            "VERSION": str(image["version"] or ""),
            "SERVER": self._facts["server"]["url"],  # type: ignore[index]
            "TASK": self._task.id if self._task else "",
            **{f"VAR_{key.upper()}": self._fill(value, f"Variable {key}")
               for key, value in self.merged.rules.variables.items()},
        }  # fmt: skip
        return {f"PXEBOOT_{key}": str(value).replace("\0", "") for key, value in given.items()}

    def _windows(self, *, named: bool) -> dict[str, Any]:
        rules = self.merged.rules.windows
        texts = ("time_zone", "locale", "language", "keyboard", "owner", "organization")
        made: dict[str, Any] = {"name": rules.name if named else "keep"}
        for key in texts:
            if value := self._fill(getattr(rules, key), f"windows.{key}"):
                made[key] = value
        if (join := rules.join) is not None and (join.domain or join.blob):
            made["join"] = {
                key: self._fill(getattr(join, key), f"windows.join.{key}") for key in ("domain", "ou", "user")
            }
            for key in ("password", "blob"):
                if name := self._fill(getattr(join, key), f"windows.join.{key}"):
                    made["join"][key] = self.secret(name)
        if rules.drivers:
            files = self._shed.drivers(self._host.manufacturer, self._host.product)
            if files:
                made["drivers"] = {
                    "path": rules.drivers_path,
                    "install": bool(rules.install_drivers),
                    "files": [{"path": path, "size": size} for path, size in files],
                }
        return made

    def _file(self, name: str) -> dict[str, Any]:
        drop = file_drops.row(self._session, name)
        if not drop.hash:
            raise Invalid(f"The file {name} has no content yet: upload it, or take it away.")
        made = {
            "name": name, "path": self._fill(drop.path, f"Path of file {name}"), "system": drop.system,
            "mode": drop.mode, "owner": drop.owner,
        }  # fmt: skip
        if drop.template:
            text = self._shed.read(drop.hash).decode("utf-8", "replace")
            filled = self._fill(text, f"Template {name}")
            return {**made, "content": base64.b64encode(filled.encode()).decode()}
        return {**made, "hash": drop.hash, "size": drop.size}

    def _script(self, use: Any) -> dict[str, Any]:
        script = scripts.row(self._session, use.name)
        environment = {
            key: self._fill(value, f"Script {use.name}, {key}") for key, value in use.environment.items()
        }
        for variable, secret in use.secrets.items():
            environment[variable] = self.secret(self._fill(secret, f"Script {use.name}, {variable}"))
        return {
            "name": script.name, "phase": script.phase, "text": script.text, "system": script.system,
            "seconds": use.seconds or script.seconds, "on_error": use.on_error or script.on_error,
            "arguments": [self._fill(word, f"Script {use.name}") for word in use.arguments],
            "environment": environment,
        }  # fmt: skip


class _Secrets(Mapping[str, str]):
    """`{{ secrets["name"] }}` in a template: looked up when it is written out."""

    def __init__(self, maker: _Maker) -> None:
        self._maker = maker

    def __getitem__(self, name: str) -> str:
        return self._maker.secret(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def rename_wanted(operation: Operation | None) -> bool:
    """Did the operation ask for the host's name in the system?"""
    return bool(operation.params.get("set_hostname", True)) if operation else True


__all__: Sequence[str] = (
    "Made", "Shed", "change", "for_task", "get", "hashes_for_task", "layers", "rename_wanted", "result",
)  # fmt: skip
