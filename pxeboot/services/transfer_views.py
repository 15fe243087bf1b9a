"""What API and pages show of transfers: streams and machines now, and why it took so long."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pxeboot.services.views import View
from pxeboot.transfer.figures import HostFigures
from pxeboot.transfer.why import Reason


class ReasonView(View):
    """One reason: a stable code, the sentence in English, and what it is made of."""

    code: str
    sentence: str
    slow: bool = Field(default=True, description="It cost time.")
    template: str
    facts: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, reason: Reason) -> ReasonView:
        """From a reason."""
        return cls(
            code=reason.code,
            sentence=reason.say(),
            slow=reason.slow,
            template=reason.template,
            facts=dict(reason.facts),
        )


class HostFiguresView(View):
    """One machine now; see `pxeboot.transfer.figures.HostFigures`."""

    host: str
    way: str = Field(description="multicast, peers, http, or empty while nothing comes.")
    way_reason: str = Field(default="", description="The agent's sentence: why not by a better way.")
    rate_mbit: float = Field(description="Image data, over the last 10 s.")
    loss_percent: float
    backlog_percent: float = Field(description="Of its buffers in use: 100 means that its disk is too slow.")
    wanted: int = Field(description="Chunks it still wants from the stream.")
    taken_bytes: int
    state: str
    class_: str = Field(serialization_alias="class", description="healthy, slow, lost; empty: unknown.")
    stage: str
    eta_seconds: int | None = Field(description="Until its stage is over; null: cannot be said.")
    sparks: list[float] = Field(description="Its rate over the last while, one value a second.")
    reason: ReasonView | None = None

    @classmethod
    def of(cls, one: HostFigures) -> HostFiguresView:
        """From figures."""
        return cls(
            host=one.host,
            way=one.way,
            way_reason=one.way_reason,
            rate_mbit=round(one.rate, 1),
            loss_percent=round(one.loss_percent, 2),
            backlog_percent=round(one.backlog_percent, 1),
            wanted=one.wanted,
            taken_bytes=one.taken,
            state=one.state,
            class_=one.grade,
            stage=one.stage,
            eta_seconds=None if one.eta is None else round(one.eta),
            sparks=list(one.sparks),
            reason=ReasonView.of(one.reason) if one.reason else None,
        )


class StreamView(View):
    """One stream now: a multicast session, or the downloads (session 0) or uploads (-1) of the operation."""

    session: int
    way: str  # multicast | http | upload
    interface: str
    state: str = ""  # of a sender: gathering, sending, idle
    receivers: int = 0
    rate_mbit: float = Field(description="What it sends, or brings us, on the wire.")
    granted_mbit: float = Field(description="What the arbiter lets it be.")
    bound: str = Field(description="Which limit it met: demand, session, operation, time or interface.")
    wanted: int = 0
    parity: int = Field(default=0, description="Datagrams of parity that were sent.")
    overhead_percent: float = Field(
        default=0.0,
        description="Datagrams beyond each chunk once: parity, chunks again for who came late, announces.",
    )
    datagrams: int = 0
    bytes_sent: int = Field(default=0, description="On the wire.")
    protected: str = "off"  # off | authenticate | encrypt


class TransferView(View):
    """What an operation transfers now; empty lists when nothing runs."""

    operation: str
    limit_mbit: float | None = None
    priority: str = "normal"
    eta_seconds: int | None = None
    streams: list[StreamView] = Field(default_factory=list)
    hosts: list[HostFiguresView] = Field(default_factory=list)


class WhyView(View):
    """Why an operation took as long as it did."""

    operation: str
    reasons: list[ReasonView] = Field(default_factory=list)


class OperationChange(BaseModel):
    """What can be changed of an operation while it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    limit_mbit: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Most it may send, in Mbit/s on the wire; null: no limit.",
    )
    priority: Literal["low", "normal", "high"] | None = None

    def said(self) -> dict[str, Any]:
        """Only what was named; `priority: null` says nothing."""
        named = self.model_dump(include=self.model_fields_set)
        return {key: value for key, value in named.items() if key == "limit_mbit" or value is not None}
