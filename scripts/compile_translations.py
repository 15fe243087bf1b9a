"""Compile every `.po` of the tree to the `.mo` beside it (Babel, so that no gettext tools are needed)."""

from __future__ import annotations

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent

for source in sorted(path for top in ("pxeboot", "imaging", "webui") for path in (ROOT / top).rglob("*.po")):
    with source.open("rb") as stream:
        catalog = read_po(stream)
    with source.with_suffix(".mo").open("wb") as stream:
        write_mo(stream, catalog)
