"""What an operation is called, in the reader's language: its title is stored in English."""

from __future__ import annotations

import re
from typing import Final

from jinja2 import pass_context
from jinja2.runtime import Context

from webui.words import N_

#: As `pxeboot.services.task_kinds.REQUESTS` has them; a reset of which each host knows its own image has no
#: version.
TITLES: Final = (
    N_("Capture {image} from {where}"),
    N_("Deploy {version} to {where}"),
    N_("Reset {where} to {version}"),
    N_("Reset {where}"),
    N_("Inventory of {where}"),
    N_("Wipe {where}"),
    N_("Test {where}"),
    N_("Debug shell on {where}"),
    N_("Rescue files of {where}"),
)
_MORE: Final = re.compile(r" and (\d+) more$")
_PATTERNS: Final = [
    (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(text))), text) for text in TITLES
]


@pass_context
def title_text(context: Context, title: str) -> str:
    """A title in the reader's language; one that is none of ours as it is."""
    gettext = context["gettext"]
    for pattern, text in _PATTERNS:
        if match := pattern.fullmatch(title):
            names = match.groupdict()
            more = _MORE.search(names["where"])
            if more:
                rest = names["where"][: more.start()]
                names["where"] = str(gettext(N_("%(name)s and %(n)s more"))) % {"name": rest, "n": more[1]}
            return str(gettext(text)).format(**names)
    return title
