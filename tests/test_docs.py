"""What the documents say is what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_settings_page_is_fresh() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "write_settings_doc.py"))["text"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_admin_endpoint_is_named_in_the_api_page() -> None:
    from api.v1 import router

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for route in router.routes:
        path = getattr(route, "path", "").removeprefix("/api/v1")
        pattern = re.sub(r"\{[^}]+\}", r"\\{[a-z]+\\}", path.replace("/", r"\/"))
        assert re.search(pattern, page), f"docs/api.md does not name {path}"
