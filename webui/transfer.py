"""What is being sent, as people read it: small curves, times that are left, limits and reasons."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import pass_context
from jinja2.runtime import Context

from pxeboot.services.transfer_views import ReasonView
from webui.words import N_, translated

WAYS = {"multicast": "multicast", "http": "HTTP", "upload": N_("uploads")}
GRADES = {"healthy": "", "slow": N_("slow"), "lost": N_("lost"), "": ""}
BOUNDS = {
    "demand": N_("as fast as it can be taken"),
    "session": N_("held by multicast.rate_mbit"),
    "operation": N_("held by the limit of this operation"),
    "time": N_("held by the limit of this time of day"),
    "interface": N_("its part of the link"),
}
PRIORITIES = {"low": N_("low"), "normal": N_("normal"), "high": N_("high")}
SPARK_WIDTH, SPARK_HEIGHT = 80, 16


def spark(values: Sequence[float]) -> str:
    """The points of a curve as SVG takes them, newest at the right; "" for less than two values."""
    if len(values) < 2:
        return ""
    top, step = max(*values, 1.0), SPARK_WIDTH / (len(values) - 1)
    return " ".join(
        f"{n * step:.1f},{SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * value / top:.1f}"
        for n, value in enumerate(values)
    )


def left(seconds: int | None) -> str:
    """`45 s`, `12 min`, `1 h 05 min`; "" when nobody can say."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


@pass_context
def reason_text(context: Context, reason: ReasonView) -> str:
    """A reason in the reader's language."""
    return str(context["_"](reason.template, **reason.facts))


@pass_context
def bound_text(context: Context, value: str) -> str:
    """Which limit a stream met."""
    return translated(context, BOUNDS, value)


@pass_context
def stream_text(context: Context, value: str) -> str:
    """By which way a stream goes."""
    return translated(context, WAYS, value)


@pass_context
def grade_text(context: Context, value: str) -> str:
    """What class a receiver is in, when that is worth a word."""
    return translated(context, GRADES, value)


@pass_context
def priority_text(context: Context, value: str) -> str:
    """A priority."""
    return translated(context, PRIORITIES, value)


FILTERS = {
    "spark": spark,
    "time_left": left,
    "reason_text": reason_text,
    "bound_text": bound_text,
    "grade_text": grade_text,
    "priority_text": priority_text,
    "stream_text": stream_text,
}
