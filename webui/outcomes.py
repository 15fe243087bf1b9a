"""What an agent tells of its work, as people read it: what was grown, renewed, customised, left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context

from webui.words import N_, WIPE_METHODS, size

# Shown elsewhere on the page, or for programs only.
_SILENT = frozenset({"manifest", "version_id", "version", "stored_bytes", "chunks", "rescue_id", "shell"})
_STEPS = {
    "host-name": N_("host name"),
    "computer-name": N_("computer name"),
    "machine-id": N_("machine identity"),
    "random-seed": N_("random seed"),
    "ssh-host-keys": N_("SSH host keys"),
    "windows-state": N_("state of Windows"),
    "answer-file": N_("answers for Windows"),
    "domain-join": N_("domain"),
    "drivers": N_("drivers"),
    "file": N_("file"),
    "script": N_("script"),
}
Say = Callable[..., str]


def lines(result: Mapping[str, Any], say: Say, *, chunks: bool = True) -> Iterator[str]:
    """One sentence for each thing (without `chunks` none for those); whatever is not known is shown as it
    came."""
    if version := result.get("version"):
        yield say(N_("Became %(version)s."), version=version)
    if stored := result.get("stored_bytes"):
        yield say(N_("New in the store: %(size)s."), size=size(_int(stored), say))
    if chunks and (counts := _chunks(result)):
        yield say(
            N_("%(total)s chunks: %(kept)s were on the disk already, %(written)s were written."), **counts
        )
    after = result.get("afterwards")
    after = after if isinstance(after, Mapping) else {}
    for key, value in (*after.items(), *((key, result[key]) for key in result if key != "afterwards")):
        if key not in _SILENT:
            yield from _READERS.get(key, lambda value, say, key=key: _other(key, value, say))(value, say)


def _resized(grown: bool) -> Callable[[Any, Say], Iterator[str]]:
    text = (
        N_("Partition %(number)s grew from %(before)s to %(after)s.")
        if grown
        else N_("Partition %(number)s shrank from %(before)s to %(after)s.")
    )

    def read(value: Any, say: Say) -> Iterator[str]:
        for number, sizes in value.items() if isinstance(value, Mapping) else ():
            if isinstance(sizes, list) and len(sizes) == 2:
                before, after = (size(_int(each), say) for each in sizes)
                yield say(text, number=number, before=before, after=after)

    return read


def _identities(value: Any, say: Say) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    if value.get("disk") == "renewed":
        yield say(N_("Disk and partitions have new identities (GUIDs, UUIDs)."))
    for number, reason in _items(value.get("kept")):
        yield say(N_("Partition %(number)s keeps its identities: %(reason)s."), number=number, reason=reason)
    if names := sorted({str(name) for _, names in _items(value.get("files")) for name in _list(names)}):
        yield say(N_("Files that name them were changed: %(names)s."), names=", ".join(names))


def _boot_entries(value: Any, say: Say) -> Iterator[str]:
    if isinstance(value, Mapping):
        if created := _list(value.get("created")):
            yield say(N_("Boot entries made: %(names)s."), names=", ".join(map(str, created)))
        if deleted := _list(value.get("deleted")):
            yield say(N_("Boot entries deleted: %(names)s."), names=", ".join(map(str, deleted)))


def _customised(value: Any, say: Say) -> Iterator[str]:
    """What went well in one sentence, each failure in its own. Looking at the disk is not worth one."""
    done = []
    for step in _list(value):
        if not isinstance(step, Mapping):
            continue
        kind, ok = str(step.get("step", "")), bool(step.get("ok"))
        word = say(_STEPS[kind]) if kind in _STEPS else kind
        name = " ".join(str(part) for part in (word, step.get("name")) if part)
        where = step.get("where")
        what = f"{name} ({where})" if where else name
        if not ok:
            yield say(N_("Failed: %(what)s. %(output)s"), what=what, output=str(step.get("output", ""))[:300])
        elif kind != "look":
            done.append(what)
    if done:
        yield say(N_("After the image: %(what)s."), what=", ".join(done))


def _wiped(value: Any, say: Say) -> Iterator[str]:
    for disk in _list(value):
        if not isinstance(disk, Mapping):
            continue
        name = " ".join(str(disk.get(key)) for key in ("path", "model", "serial") if disk.get(key))
        method = say(WIPE_METHODS.get(str(disk.get("method")), str(disk.get("method") or "-")))
        text = (
            N_("%(disk)s: wiped (%(method)s), verified.")
            if disk.get("verified")
            else N_("%(disk)s: NOT wiped.")
        )
        yield say(text, disk=name, method=method)
        yield from map(str, _list(disk.get("notes")))


def _tested(value: Any, say: Say) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    if isinstance(memory := value.get("memory"), Mapping):
        text = N_("Memory: %(size)s MiB tested, good.") if memory.get("passed") else N_("Memory: FAULTY.")
        yield say(text, size=_int(memory.get("megabytes")))
    for disk in _list(value.get("disks")):
        if not isinstance(disk, Mapping):
            continue
        name = " ".join(str(disk.get(key)) for key in ("path", "model", "serial") if disk.get(key))
        yield say(N_("%(disk)s: good.") if disk.get("passed") else N_("%(disk)s: FAULTY."), disk=name)
        if isinstance(smart := disk.get("smart"), Mapping):
            yield f"SMART: {_plain({key: each for key, each in smart.items() if each is not None})}"
        if isinstance(own := disk.get("self_test"), Mapping):
            yield say(
                N_("Its own test: %(state)s."), state=f"{own.get('state')} {own.get('text', '')}".strip()
            )
        if isinstance(surface := disk.get("surface"), Mapping):
            yield say(
                N_("Read at %(speed)s/s; unreadable: %(bad)s bytes."),
                speed=size(_int(surface.get("bytes_per_second")), say) or "0",
                bad=_int(surface.get("bad_bytes")),
            )


def _rescued(value: Any, say: Say) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield say(
            N_("%(files)s files, %(size)s; %(n)s could not be read."),
            files=_int(value.get("files")), size=size(_int(value.get("bytes")), say) or "0",
            n=_int(value.get("unreadable_count")),
        )  # fmt: skip


def _logins(value: Any, say: Say) -> Iterator[str]:
    for login in _list(value):
        if isinstance(login, Mapping):
            yield say(
                N_("Signed in from %(address)s with %(key)s."),
                address=login.get("address"),
                key=login.get("key"),
            )


def _other(key: str, value: Any, say: Say) -> Iterator[str]:
    if value not in (None, "", [], {}):
        yield f"{key.replace('_', ' ')}: {_plain(value)}"[:500]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return ", ".join(_plain(each) for each in value) if isinstance(value, list) else str(value)


def _int(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


_READERS: dict[str, Callable[[Any, Say], Iterator[str]]] = {
    "grown": _resized(True),
    "shrunk": _resized(False),
    "identities": _identities,
    "boot_entries": _boot_entries,
    "customise": _customised,
    "wipe": _wiped,
    "test": _tested,
    "rescue": _rescued,
    "shell_logins": _logins,
}


def _chunks(result: Mapping[str, Any]) -> dict[str, int]:
    told = result.get("chunks")
    if not isinstance(told, Mapping) or not _int(told.get("total")):
        return {}
    return {key: _int(told.get(key)) for key in ("total", "kept", "written")}


@pass_context
def outcome_lines(context: Context, result: Mapping[str, Any], chunks: bool = True) -> list[str]:
    """The sentences in the reader's language."""
    return list(lines(result, context["gettext"], chunks=chunks))


@pass_context
def written_text(context: Context, result: Mapping[str, Any]) -> str:
    """How many chunks were written, in a few words; "" when nobody says."""
    counts = _chunks(result)
    return str(context["gettext"](N_("%(written)s of %(total)s chunks written"), **counts)) if counts else ""
