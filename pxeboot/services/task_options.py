"""Options of tasks: an image's defaults, what a request says over them, checked as the agent
will check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imaging.options import DeployOptions, OptionsError
from pxeboot.errors import Invalid
from pxeboot.services.task_kinds import KINDS, REQUESTS, AnyOptions
from pxeboot.services.views import OperationRequest

SECTIONS: dict[str, AnyOptions] = {
    options.NAME: options for kind in KINDS.values() if (options := kind.options) is not None
}
IMAGE_SECTIONS = ("capture", "deploy")  # those of which an image has defaults
# What only makes sense for a whole disk: an image's default of it does not hold for single partitions.
_OF_WHOLE_DISKS = ("grow", "shrink")


def section_of(request_kind: str) -> str:
    """The name of the options a kind of request takes (`capture`, `deploy`); "" for none."""
    options = KINDS[REQUESTS[request_kind].task].options
    return options.NAME if options is not None else ""


def checked(section: str, data: object) -> dict[str, Any]:
    """What an image or a request says of one section, as JSON. Invalid with key, value and remedy."""
    try:
        SECTIONS[section].from_task(data)  # type: ignore[arg-type]
    except OptionsError as error:
        raise Invalid(
            str(error),
            errors=[{"field": error.key, "msg": str(error), "value": error.value, "remedy": error.remedy}],
        ) from error
    return dict(data) if isinstance(data, Mapping) else {}


def asked(request: OperationRequest) -> dict[str, Any]:
    """The options a request gives for its kind. Invalid for those of another kind."""
    own = section_of(request.kind)
    for section in SECTIONS:
        if getattr(request, section) and section != own:
            raise Invalid(
                f"A request of kind {request.kind} takes no {section} options; leave {section} away.",
                field=section,
            )
    return checked(own, getattr(request, own)) if own else {}


def merged(section: str, defaults: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """An image's defaults with what a request says over them. Invalid when they do not fit together."""
    base = dict(defaults.get(section) or {})
    if said.get("partitions") is not None:
        for key in _OF_WHOLE_DISKS:
            base.pop(key, None)
    return checked(section, {**base, **said})


def for_task(section: str, params: Mapping[str, Any], image: str) -> dict[str, Any]:
    """What TASK carries: only what differs from the agent's own defaults.

    `params` are an operation's; where each host has its own image they are kept by image.
    """
    data = (params.get("by_image") or {}).get(image) or params.get(section) or {}
    return SECTIONS[section].from_task(data).to_task()


def deploy_of(params: Mapping[str, Any], image: str) -> DeployOptions:
    """How a deploy of this operation was asked for."""
    data = (params.get("by_image") or {}).get(image) or params.get("deploy") or {}
    return DeployOptions.from_task(data)
