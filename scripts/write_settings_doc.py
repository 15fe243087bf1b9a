"""Write docs/settings.md from the settings' own descriptions; `tests/test_docs.py` fails when it is stale."""

from __future__ import annotations

from pathlib import Path

from pxeboot.settings import describe

HEAD = """# Settings

One TOML file: `/etc/pxeboot/pxeboot.toml`, or `--config FILE`, or `PXEBOOT_CONFIG`. The environment wins over
it: `PXEBOOT_SECTION__KEY`, lists and tables as JSON. `pxeboot check` says what is wrong with them,
`pxeboot reload` puts a changed file to work. Lists of tables, such as `[[dhcp.subnets]]`, may be repeated.
This page is made by `python scripts/write_settings_doc.py`.
"""


def text() -> str:
    """The whole page."""
    lines = [HEAD]
    last = ""
    for section, key, default, description in describe():
        if section != last:
            lines += [f"\n## [{section}]\n", "| setting | default | meaning |", "|---|---|---|"]
            last = section
        lines.append(f"| `{key}` | {f'`{default}`' if default else ''} | {description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "settings.md").write_text(text(), encoding="utf-8")
