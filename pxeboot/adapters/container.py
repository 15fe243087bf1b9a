"""Everything a request handler may need, made once by `pxeboot.main` (and by tests) and passed to
`create_app`.

For the API and the pages: `services.read()`, `services.write()`, `services.settings`, `services.journal`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlmodel import Session

from pxeboot.db.engine import Database
from pxeboot.events import Journal
from pxeboot.services import unit
from pxeboot.settings import Settings


@dataclass
class Services:
    """What the handlers share."""

    settings: Settings
    database: Database
    journal: Journal

    def read(self) -> AbstractContextManager[Session]:
        """A session that may only read."""
        return self.database.read()

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A unit of work: commits at the end, rolls back on an exception, journals after the commit."""
        with unit.writing(self.database, self.journal) as session:
            yield session
