"""`/api/v1/doctor`: what the checks of this server and its network found."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.v1.deps import ServicesDep, Technician, Viewer
from pxeboot.doctor.finding import Finding, worst
from pxeboot.doctor.periodic import Watch

router = APIRouter(tags=["doctor"])

Level = Literal["ok", "note", "warning", "error"]


class FindingView(BaseModel):
    """One thing a check found."""

    check: str = Field(description="Name of the check; docs/doctor.md describes each.")
    level: Level
    subject: str = Field(description="What it is about: an interface, an address, a file.")
    sentence: str
    remedy: str = Field(description="What to do; empty: nothing.")
    data: dict[str, Any]

    @classmethod
    def of(cls, finding: Finding) -> FindingView:
        """The view of a finding."""
        return cls(
            check=finding.check,
            level=finding.level,
            subject=finding.subject,
            sentence=finding.sentence,
            remedy=finding.remedy,
            data=dict(finding.data),
        )


class DoctorView(BaseModel):
    """The last findings of every check."""

    at: datetime | None = Field(description="When the last look ended; null: there was none yet.")
    running: bool = Field(description="A look is being made.")
    worst: Level | None
    findings: list[FindingView]

    @classmethod
    def of(cls, watch: Watch) -> DoctorView:
        """What a watch knows."""
        return cls(
            at=watch.at,
            running=watch.running,
            worst=worst(watch.findings) if watch.at else None,
            findings=[FindingView.of(finding) for finding in watch.findings],
        )


@router.get("/doctor", operation_id="getDoctor")
async def get_doctor(these: ServicesDep, who: Viewer) -> DoctorView:
    """The last findings."""
    return DoctorView.of(these.doctor)


@router.post("/doctor:run", operation_id="runDoctor")
async def run_doctor(these: ServicesDep, who: Technician) -> DoctorView:
    """Run every check now, which takes some ten seconds, and tell what they found."""
    await these.doctor.look()
    return DoctorView.of(these.doctor)
