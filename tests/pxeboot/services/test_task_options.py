"""Options of captures and deploys on their way from an image and a request to the agent."""

from __future__ import annotations

from typing import Any

import pytest

from pxeboot.errors import Conflict, Invalid
from pxeboot.services import checkin, groups, hosts, images, operations, outcomes, schedules
from pxeboot.services.views import OperationRequest
from tests.plane import MANIFEST, NOW, Plane


def _order(plane: Plane, number: int = 1) -> checkin.TaskOrder:
    task = plane.checkin(number, plane.boot(number).token).task
    assert task is not None
    with plane.read() as session:
        return checkin.order(session, task.id, plane.settings)


def _defaults(plane: Plane, image: str = "debian", **params: Any) -> None:
    with plane.write() as session:
        images.update_image(session, image, params=params)


def test_what_a_deploy_is_asked_for_reaches_the_agent(plane: Plane) -> None:
    plane.room(1)
    options = {"grow": "last", "identities": "renew", "discard": True}
    view = plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy=options)
    assert view.params["deploy"] == options
    assert _order(plane).options == {"deploy": options}


def test_an_agent_is_not_told_what_it_would_do_anyway(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy={"grow": "none", "verify": True})
    assert _order(plane).options == {"deploy": {}}


def test_a_request_says_its_word_over_the_image_s_defaults(plane: Plane) -> None:
    plane.room(1)
    _defaults(plane, deploy={"grow": "last", "discard": True})
    plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy={"discard": False, "shrink": True})
    _defaults(plane, deploy={"identities": "renew"})  # too late for this one
    assert _order(plane).options == {"deploy": {"grow": "last", "shrink": True}}


def test_single_partitions_do_not_inherit_growth(plane: Plane) -> None:
    plane.room(1)
    _defaults(plane, deploy={"grow": "last", "discard": True})
    plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy={"partitions": [3]})
    assert _order(plane).options == {"deploy": {"partitions": [3], "discard": True}}


def test_a_reset_takes_the_defaults_of_each_host_s_own_image(plane: Plane) -> None:
    plane.room(2)
    with plane.write() as session:
        images.add_version(
            session, "windows", manifest="cd" * 32, disk_bytes=1, used_bytes=1, stored_bytes=1, chunks=1
        )
        groups.update_group(session, "B204", image="debian")
        hosts.update_host(session, "pc2", image="windows")
    _defaults(plane, "windows", deploy={"grow": "last"})
    plane.start(kind="reset", group="B204", deploy={"discard": True})
    assert _order(plane, 1).options == {"deploy": {"discard": True}}
    assert _order(plane, 2).options == {"deploy": {"grow": "last", "discard": True}}


def test_a_capture_takes_its_options_and_its_image_s(plane: Plane) -> None:
    plane.room(1)
    _defaults(plane, capture={"whole": ["bitlocker"]})
    plane.start(kind="capture", hosts=["pc1"], image="debian", capture={"partitions": [1, 2]})
    assert _order(plane).options == {"capture": {"partitions": [1, 2], "whole": ["bitlocker"]}}


@pytest.mark.parametrize(
    ("request_", "field", "remedy"),
    [
        ({"deploy": {"grow": "first"}}, "deploy.grow", "choose none, last"),
        ({"deploy": {"partitions": [0]}}, "deploy.partitions", "1 to 1024"),
        ({"deploy": {"partitions": [1], "grow": "last"}}, "deploy.grow", "deploy all partitions"),
        ({"deploy": {"speed": 3}}, "deploy.speed", "does not know it"),
        ({"deploy": {"disks": [{"rule": "serial"}]}}, "deploy.disks[0].value", "say which serial"),
        ({"capture": {"whole": ["luks"]}}, "capture", "takes no capture options"),
    ],
)
def test_nonsense_is_refused_with_key_and_remedy(
    plane: Plane, request_: dict[str, Any], field: str, remedy: str
) -> None:
    plane.room(1)
    with pytest.raises(Invalid) as refused:
        plane.start(kind="deploy", hosts=["pc1"], image="debian", **request_)
    assert remedy in refused.value.sentence
    errors = refused.value.data.get("errors") or [{"field": refused.value.data["field"]}]
    assert errors[0]["field"] == field
    with plane.write() as session, pytest.raises(Invalid):  # a schedule is refused when it is made
        schedules.create_schedule(
            session,
            name="",
            request=OperationRequest(kind="deploy", hosts=["pc1"], image="debian", **request_),
            cron="30 6 * * *",
            actor="ada",
            now=NOW,
        )


@pytest.mark.parametrize(
    "params", [{"deploy": {"grow": "first"}}, {"keep": 0}, {"keep": True}, {"keep": "3"}, {"colour": 1}]
)
def test_an_image_s_defaults_are_checked(plane: Plane, params: dict[str, Any]) -> None:
    plane.room(1)
    with pytest.raises(Invalid):
        _defaults(plane, **params)


def test_an_image_s_parameters_are_changed_one_by_one(plane: Plane) -> None:
    plane.room(1)
    _defaults(plane, keep=5, deploy={"grow": "last"})
    _defaults(plane, keep=None)
    with plane.read() as session:
        assert images.get_image(session, "debian").params == {"deploy": {"grow": "last"}}


def test_a_capture_may_be_refused_before_it_starts(plane: Plane) -> None:
    plane.room(1)

    def no_room(request: OperationRequest) -> None:
        assert request.image == "debian"
        raise Conflict("no room")

    with plane.write() as session, pytest.raises(Conflict, match="no room"):
        operations.start(
            session,
            OperationRequest(kind="capture", hosts=["pc1"], image="debian"),
            actor="ada",
            settings=plane.settings,
            now=NOW,
            allow=no_room,
        )
    with plane.read() as session:
        assert operations.list_operations(session).items == []


def _end(plane: Plane, verified: bool, **told: Any) -> str:
    order = _order(plane)
    with plane.write() as session:
        view = outcomes.outcome(
            session, order.id, attempt=1, ok=True, reason="", code="", verified=verified, manifest=MANIFEST,
            bytes_multicast=0, bytes_http=0, seconds={}, chunks={}, now=NOW, told=told,
        )  # fmt: skip
    return view.state


def _holds(plane: Plane) -> str:
    with plane.read() as session:
        return hosts.get_host(session, "pc1").held_manifest


def test_a_deploy_without_verify_is_done_and_proves_nothing(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy={"verify": False})
    assert _end(plane, verified=False) == "done"
    assert _holds(plane) == ""


def test_a_deploy_of_one_partition_does_not_prove_the_whole_disk(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", hosts=["pc1"], image="debian", deploy={"partitions": [2]})
    assert _end(plane, verified=True) == "done"
    assert _holds(plane) == ""


def test_what_an_agent_tells_of_its_work_is_kept(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="deploy", hosts=["pc1"], image="debian")
    grown = [{"partition": 3, "before": 1, "after": 2}]
    assert _end(plane, verified=True, grown=grown, manifest="a lie") == "done"
    result = plane.operation(operation.id).tasks[0].result
    assert (result["grown"], result["manifest"]) == (grown, MANIFEST)
    assert _holds(plane) == MANIFEST
