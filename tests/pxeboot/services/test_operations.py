"""Starting operations: what is refused, for whom, and why."""

from __future__ import annotations

import pytest

from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import captures, checkin, explain, groups, hosts, images, operations, versions
from tests.plane import NOW, Plane, mac


def test_a_group_deploy_goes_on_without_the_hosts_that_cannot(plane: Plane) -> None:
    plane.room(4)
    with plane.write() as session:
        hosts.update_host(session, "pc2", state="pending")
        hosts.update_host(session, "pc3", state="blocked")
    plane.start(kind="inventory", hosts=["pc4"])
    view = plane.start(kind="deploy", group="B204", image="debian@1")
    assert view.counts == {"queued": 1, "failed": 3}
    reasons = {task.host: task.code for task in view.tasks if task.state == "failed"}
    assert reasons == {"pc2": "host-pending", "pc3": "host-blocked", "pc4": "host-busy"}
    assert view.state == "running"
    assert view.title == "Deploy debian@1 to B204"


def test_when_nobody_can_nothing_is_made(plane: Plane) -> None:
    plane.room(2, state="pending")
    with pytest.raises(Conflict) as refused:
        plane.start(kind="deploy", group="B204", image="debian")
    assert [error["host"] for error in refused.value.data["errors"]] == ["pc1", "pc2"]
    with plane.read() as session:
        assert operations.list_operations(session).items == []


def test_unknown_names_are_named_with_their_neighbours(plane: Plane) -> None:
    plane.room(1)
    with pytest.raises(NotFound, match="Did you mean debian") as missing:
        plane.start(kind="deploy", group="B204", image="debain")
    assert missing.value.problem_code == "image-not-found"
    with pytest.raises(NotFound, match="debian@1") as missing:
        plane.start(kind="deploy", group="B204", image="debian@7")
    assert missing.value.problem_code == "version-not-found"
    with pytest.raises(NotFound, match="Did you mean B204"):
        plane.start(kind="deploy", group="B205", image="debian")
    with pytest.raises(NotFound, match="no host 'pc9'"):
        plane.start(kind="deploy", hosts=["pc9"], image="debian")
    with pytest.raises(Invalid) as both:
        plane.start(kind="deploy", hosts=["pc8", "pc9", "pc1"], image="debian")
    assert [error["host"] for error in both.value.data["errors"]] == ["pc8", "pc9"]


def test_requests_that_make_no_sense(plane: Plane) -> None:
    plane.room(2)
    for request in (
        {"kind": "deploy", "image": "debian"},
        {"kind": "deploy", "group": "B204"},
        {"kind": "capture", "group": "B204", "image": "debian"},
        {"kind": "capture", "hosts": ["pc1", "pc2"], "image": "debian"},
        {"kind": "capture", "hosts": ["pc1"]},
        {"kind": "capture", "hosts": ["pc1"], "image": "a/b"},
    ):
        with pytest.raises(Invalid):
            plane.start(**request)


def test_a_reset_gives_each_host_its_own_image(plane: Plane) -> None:
    plane.room(3)
    with plane.write() as session:
        images.add_version(
            session, "windows", manifest="cd" * 32, disk_bytes=1, used_bytes=1, stored_bytes=1, chunks=1
        )
        groups.update_group(session, "B204", image="debian")
        hosts.update_host(session, "pc2", image="windows")
    view = plane.start(kind="reset", group="B204")
    assert {task.host: task.version for task in view.tasks} == {
        "pc1": "debian@1",
        "pc2": "windows@1",
        "pc3": "debian@1",
    }
    assert view.title == "Reset B204"


def test_a_capture_makes_a_version_only_at_its_end(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="capture", hosts=["pc1"], image="fresh", note="after updates")
    assert (operation.image, operation.version) == ("fresh", None)
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None
    with plane.read() as session:
        order = checkin.order(session, task.id, plane.settings)
        with pytest.raises(NotFound):
            images.get_image(session, "fresh")
    assert order.image == {"name": "fresh", "version": None}
    with plane.write() as session:
        captures.note_upload(session, task.id, attempt=1, bytes=40, now=NOW)
        captures.note_upload(session, task.id, attempt=1, bytes=2, now=NOW)
    for _ in range(2):  # the answer may be lost: the second time finds the same version
        with plane.write() as session:
            version = captures.finish(
                session, task.id, manifest="ef" * 32, disk_bytes=9, used_bytes=8, chunks=7
            )
    assert (version.name, version.stored_bytes, version.source_host) == ("fresh@1", 42, "pc1")
    assert version.note == "after updates"
    assert plane.operation(operation.id).version == "fresh@1"
    with plane.read() as session:
        assert images.resolve(session, "fresh").number == 1


def test_versions_are_kept_while_used(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        versions.pin(session, "debian@1", True)
        with pytest.raises(Conflict, match="pinned"):
            images.delete_image(session, "debian")
        versions.pin(session, "debian", False)
        groups.update_group(session, "B204", image="debian")
        with pytest.raises(Conflict, match="group B204"):
            images.delete_image(session, "debian")
        groups.update_group(session, "B204", image=None)
    plane.start(kind="deploy", group="B204", image="debian")
    with pytest.raises(Conflict, match="still uses"), plane.write() as session:
        images.delete_image(session, "debian")


def test_pages_of_operations(plane: Plane) -> None:
    plane.room(3)
    made = [plane.start(kind="inventory", hosts=[f"pc{number}"]).id for number in (1, 2, 3)]
    with plane.read() as session:
        first = operations.list_operations(session, limit=2)
        second = operations.list_operations(session, limit=2, cursor=first.next_cursor)
        assert {item.id for page in (first, second) for item in page.items} == set(made)
        assert second.next_cursor is None
        assert [item.id for item in operations.list_operations(session, host="pc2").items] == [made[1]]


def test_explain_tells_the_whole_story(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", group="B204", image="debian")
    with plane.read() as session:
        told = explain.explain(session, "pc1", settings=plane.settings, now=NOW)
    assert told.action == "agent"
    assert "waits for pc1" in told.reason
    assert any("It is busy: deploy is queued" in sentence for sentence in told.sentences)
    with plane.read() as session:
        stranger = explain.explain(session, mac(99), settings=plane.settings, now=NOW)
        assert (stranger.action, stranger.host) == ("menu", None)
        with pytest.raises(NotFound):
            explain.explain(session, "nobody", settings=plane.settings, now=NOW)
