"""The life of a task, told as conversations between machines and the control plane."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from pxeboot.db.models import Host, Task, TaskKind, TaskState
from pxeboot.errors import Conflict, Unauthorized
from pxeboot.services import attempts, checkin, operations, outcomes, tasks, tokens
from pxeboot.services.task_states import ACTIVE, FINAL, MOVES, move
from tests.plane import MANIFEST, NOW, Plane, mac


def later(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def ended(plane: Plane, task_id: str, attempt: int = 1, **values: Any) -> Any:
    given: dict[str, Any] = {"ok": True, "reason": "", "code": "", "verified": True, "manifest": MANIFEST}
    given |= {"bytes_multicast": 7, "bytes_http": 3, "seconds": {"scan": 1.5}, "now": NOW}
    given |= {"chunks": {"total": 1, "kept": 0, "written": 1}}
    with plane.write() as session:
        return outcomes.outcome(session, task_id, attempt=attempt, **{**given, **values})


def report(plane: Plane, task_id: str, stage: str, attempt: int = 1, now: Any = NOW) -> tuple[bool, str]:
    with plane.write() as session:
        return tasks.progress(
            session, task_id, attempt=attempt, stage=stage, done=1, total=4, bytes_multicast=0, bytes_http=0,
            message="", now=now,
        )  # fmt: skip


def reap(plane: Plane, now: Any, since: Any = NOW) -> int:
    with plane.write() as session:
        return attempts.reap(session, plane.settings.tasks, now=now, since=since)


def test_a_deploy_from_boot_to_proof(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="deploy", group="B204", image="debian")
    boot = plane.boot(1)
    assert boot.decision.action == "agent"
    assert len(boot.token) == 43
    given = plane.checkin(1, boot.token).task
    assert given is not None
    assert (given.state, given.attempt) == ("running", 1)
    assert report(plane, given.id, "scan") == (True, "")
    assert report(plane, given.id, "verify") == (True, "")
    assert plane.operation(operation.id).tasks[0].state == "verifying"
    assert ended(plane, given.id).state == "done"
    view = plane.operation(operation.id)
    assert (view.state, view.counts, view.percent) == ("done", {"done": 1}, 100)
    with plane.read() as session:
        host = session.exec(select(Host)).one()
    assert host.held_manifest == MANIFEST
    assert host.secure_boot is True
    assert plane.heard.kinds.count("task.done") == 1
    assert plane.boot(1).decision.action == "local"


def test_the_disk_is_believed_in_only_after_the_proof(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", group="B204", image="debian")
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None
    ended(plane, task.id)
    plane.start(kind="deploy", group="B204", image="debian")
    plane.checkin(1, plane.boot(1).token)  # from now on the disk is being written
    with plane.read() as session:
        assert session.exec(select(Host)).one().held_manifest == ""


def test_two_threads_claim_one_task_once(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="inventory", group="B204")
    plane.boot(1)
    task_id = operation.tasks[0].id
    won: list[bool] = []
    gate = threading.Barrier(2)

    def claim() -> None:
        gate.wait(60)
        with plane.write() as session:
            won.append(tasks.claim(session, task_id, now=NOW))

    threads = [threading.Thread(target=claim) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(won) == [False, True]


def test_the_database_itself_refuses_a_second_unfinished_task(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="inventory", group="B204")
    with plane.write() as session:
        session.add(Task(operation_id=operation.id, host_id=1, kind=TaskKind.INVENTORY))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()


def test_a_loader_that_asks_twice_uses_one_attempt(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="inventory", group="B204")
    first = plane.boot(1)
    second = plane.boot(1, later(2))
    assert first.token != second.token
    assert plane.operation(operation.id).tasks[0].attempt == 1
    with pytest.raises(Unauthorized) as refused:
        plane.checkin(1, first.token, later(3))
    assert refused.value.problem_code == "token-expired"
    assert plane.checkin(1, second.token, later(3)).task is not None


def test_a_machine_that_is_restarted_in_mid_deploy_goes_on_and_its_old_agent_is_out(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", group="B204", image="debian")
    first = plane.checkin(1, plane.boot(1).token)
    again = plane.checkin(1, plane.boot(1, later(60)).token, later(70))
    assert first.task is not None
    assert again.task is not None
    assert (again.task.id, again.task.attempt) == (first.task.id, 2)
    go_on, reason = report(plane, first.task.id, "scan", attempt=1)
    assert not go_on
    assert "Another boot" in reason
    with plane.read() as session, pytest.raises(Unauthorized, match="booted again"):
        tokens.authenticate(session, first.credential, now=NOW)
    with pytest.raises(Conflict):
        ended(plane, first.task.id, attempt=1)


def test_a_machine_that_never_gets_through_boots_its_disk_in_the_end(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="inventory", group="B204", max_attempts=2)
    assert plane.boot(1, later(0)).decision.action == "agent"
    assert plane.boot(1, later(100)).decision.action == "agent"
    last = plane.boot(1, later(200))
    assert (last.decision.action, last.token) == ("local", "")
    view = plane.operation(operation.id)
    assert (view.state, view.tasks[0].code) == ("failed", "boot-lost")
    assert "2 attempts are used up" in view.tasks[0].reason


def test_silence_loses_the_attempt_then_the_task(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="inventory", group="B204", max_attempts=2)
    silence = plane.settings.tasks.silence_seconds
    plane.checkin(1, plane.boot(1).token)
    assert reap(plane, later(silence - 1)) == 0
    assert reap(plane, later(silence + 1)) == 1
    assert plane.operation(operation.id).tasks[0].state == "queued"
    boot = plane.boot(1, later(1000))
    plane.checkin(1, boot.token, later(1010))
    assert reap(plane, later(1011 + silence)) == 1
    task = plane.operation(operation.id).tasks[0]
    assert (task.state, task.code) == ("failed", "agent-lost")


def test_agents_are_not_blamed_for_the_daemons_own_absence(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="inventory", group="B204")
    plane.checkin(1, plane.boot(1).token)
    assert reap(plane, later(5000), since=later(4990)) == 0
    assert reap(plane, later(5200), since=later(4990)) == 1


def test_boot_and_wait_limits(plane: Plane) -> None:
    plane.room(2)
    operation = plane.start(kind="inventory", group="B204")
    rules = plane.settings.tasks
    plane.boot(1)
    assert reap(plane, later(rules.boot_seconds + 1)) == 1  # pc1 back to the queue
    assert reap(plane, later(rules.wait_seconds + rules.boot_seconds)) == 2
    codes = {task.host: task.code for task in plane.operation(operation.id).tasks}
    assert codes == {"pc1": "never-booted", "pc2": "never-booted"}


@pytest.mark.parametrize(
    ("lie", "word"),
    [
        ({"verified": False}, "verified"),
        ({"manifest": "cd" * 32}, "another image"),
        ({"manifest": None}, "another"),
    ],
)
def test_a_success_that_cannot_be_true_is_a_failure(plane: Plane, lie: dict[str, Any], word: str) -> None:
    plane.room(1)
    plane.start(kind="deploy", group="B204", image="debian")
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None
    view = ended(plane, task.id, **lie)
    assert (view.state, view.code, view.verified) == ("failed", "outcome-contradicts", False)
    assert word in view.reason


def test_a_repeated_outcome_changes_nothing(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="deploy", group="B204", image="debian")
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None
    ended(plane, task.id)
    assert ended(plane, task.id, ok=False, reason="late").state == "done"


def test_one_failure_makes_the_operation_partly_and_says_why(plane: Plane) -> None:
    plane.room(2)
    operation = plane.start(kind="deploy", group="B204", image="debian")
    for number in (1, 2):
        task = plane.checkin(number, plane.boot(number).token).task
        assert task is not None
        ended(plane, task.id, ok=number == 1, reason="The disk is too small.", code="disk-too-small")
    view = plane.operation(operation.id)
    assert view.state == "partly"
    assert [(task.state, task.code) for task in view.tasks] == [("done", ""), ("failed", "disk-too-small")]


def test_cancel_ends_waiting_tasks_and_tells_running_agents(plane: Plane) -> None:
    plane.room(2)
    operation = plane.start(kind="deploy", group="B204", image="debian")
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None
    with plane.write() as session:
        view = operations.cancel(session, operation.id, actor="ada")
    assert (view.state, view.counts) == ("cancelled", {"cancelled": 2})
    assert report(plane, task.id, "write") == (False, "Cancelled by ada.")
    with pytest.raises(Conflict), plane.write() as session:
        operations.cancel(session, operation.id, actor="ada")


def test_tasks_survive_a_restart(plane: Plane) -> None:
    plane.room(1)
    operation = plane.start(kind="deploy", group="B204", image="debian")
    first = plane.checkin(1, plane.boot(1).token)
    plane.database.close()
    again = Plane(plane.settings.server.data_dir)
    with again.read() as session:
        known = tokens.authenticate(session, first.credential, now=NOW)
        assert checkin.is_working(session, known, operation.tasks[0].id).state == TaskState.RUNNING
    assert again.operation(operation.id).state == "running"
    again.database.close()


def test_the_table_of_moves(plane: Plane) -> None:
    assert {TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED} == FINAL
    assert all(MOVES[state] for state in ACTIVE)
    plane.room(1)
    task_id = plane.start(kind="inventory", group="B204").tasks[0].id
    with plane.write() as session:
        assert not move(session, task_id, TaskState.RUNNING)  # not from queued
        assert not move(session, task_id, TaskState.BOOTING, attempt=5)
        assert move(session, task_id, TaskState.BOOTING, attempt=0, attempt_new=1)


def test_a_stranger_gets_no_token_and_disturbs_nobody(plane: Plane) -> None:
    from pxeboot.boot.decide import Client
    from pxeboot.services import boots

    plane.room(1)
    operation = plane.start(kind="deploy", group="B204", image="debian")
    plane.checkin(1, plane.boot(1).token)
    with plane.write() as session:
        boot = boots.begin(
            session, Client(mac(1), "uefi-x64", "grub"), address="10.20.0.66",
            is_owner=lambda address, mac: False, settings=plane.settings, now=later(100),
        )  # fmt: skip
    assert (boot.decision.action, boot.token) == ("local", "")
    assert plane.operation(operation.id).tasks[0].state == "running"
    assert "boot.refused" in plane.heard.kinds
