"""What an agent tells of its work, as people read it: what was grown, renewed, customised, left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context

from webui.words import N_, size

# Shown elsewhere on the page, or for programs only.
_SILENT = frozenset({"manifest", "version_id", "version", "stored_bytes", "chunks"})
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


def lines(result: Mapping[str, Any], say: Say) -> Iterator[str]:
    """One sentence for each thing; whatever is not known is shown as it came."""
    if version := result.get("version"):
        yield say(N_("Became %(version)s."), version=version)
    if stored := result.get("stored_bytes"):
        yield say(N_("New in the store: %(size)s."), size=size(_int(stored)))
    if isinstance(chunks := result.get("chunks"), Mapping) and _int(chunks.get("total")):
        yield say(
            N_("%(total)s chunks: %(kept)s were on the disk already, %(written)s were written."),
            total=_int(chunks.get("total")),
            kept=_int(chunks.get("kept")),
            written=_int(chunks.get("written")),
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
                before, after = (size(_int(each)) for each in sizes)
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
}


@pass_context
def outcome_lines(context: Context, result: Mapping[str, Any]) -> list[str]:
    """The sentences in the reader's language."""
    gettext = context["gettext"]
    return list(lines(result, gettext))
