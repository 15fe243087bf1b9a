"""What all tables of the settings file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the settings file; unknown keys are mistakes. Frozen: settings are passed around."""

    model_config = ConfigDict(extra="forbid", frozen=True)
