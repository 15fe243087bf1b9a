"""Every rule of the boot policy, as a table of who asks and what is said."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.boot import BootPolicy, Client, ExamFacts, HostFacts, TaskFacts, decide

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PC = Client("52:54:00:00:00:01", "uefi-x64", "grub")
B204 = HostFacts("B204-01", "approved")
EXAM = ExamFacts("Analysis 1", NOW - timedelta(minutes=5), NOW + timedelta(minutes=3))


def task(state="queued", attempt=0, max_attempts=3, **more):
    return TaskFacts(7, "deploy", state, attempt, max_attempts, **more)


@pytest.mark.parametrize(
    ("host", "what", "action", "words"),
    [
        (None, None, "menu", "Nobody has registered 52:54:00:00:00:01"),
        (HostFacts("B204-01", "pending"), None, "local", "waits for approval"),
        (HostFacts("B204-01", "pending"), task(), "local", "waits for approval"),
        (HostFacts("B204-01", "blocked"), task(), "refuse", "B204-01 is blocked"),
        (B204, None, "local", "No task waits for B204-01"),
        (B204, task(), "agent", "task 7 (deploy) waits for B204-01 (attempt 1 of 3)"),
        (B204, task(attempt=2), "agent", "(attempt 3 of 3)"),
        (B204, task(attempt=3), "local", "was tried 3 times in vain"),
        (B204, task(attempt=1, max_attempts=1), "local", "was tried once in vain"),
        # The loader asks twice (HEAD, GET): its own attempt does not count against it.
        (B204, task("booting", attempt=3), "agent", "(attempt 3 of 3)"),
        (B204, task("booting", attempt=4), "local", "was tried 3 times"),
        (B204, task("running", attempt=1), "agent", "(attempt 2 of 3; it came back"),
        (B204, task("running", attempt=3), "local", "was tried 3 times"),
        (B204, task("verifying", attempt=1), "agent", "came back"),
        (B204, task("scheduled"), "local", "not due yet"),
        (B204, task("done"), "local", "is done"),
        (B204, task("failed"), "local", "is failed"),
        (B204, task("cancelled"), "local", "is cancelled"),
    ],
)
def test_rules(host, what, action, words):
    decision = decide(host, None, what, PC, NOW)
    assert decision.action == action
    assert words in decision.reason
    assert decision.reason.endswith(".")
    assert (decision.mode, decision.task_id) == (("task", 7) if action == "agent" else (None, None))
    assert decision.valid_until == NOW + timedelta(minutes=10)


def test_unknown_machines_may_be_ignored():
    decision = decide(None, None, None, PC, NOW, BootPolicy(unknown_host="ignore"))
    assert (decision.action, decision.silent) == ("local", True)
    assert "boot.unknown_host" in decision.reason


def test_the_menu_waits_as_long_as_the_setting_says():
    assert decide(None, None, None, PC, NOW, BootPolicy(menu_seconds=7)).menu_seconds == 7


@pytest.mark.parametrize("firmware", ["uefi-arm64", "uefi-ia32"])
def test_the_agent_is_not_offered_where_it_cannot_run(firmware):
    client = Client("52:54:00:00:00:01", firmware)
    for host, what in ((None, None), (B204, task())):
        decision = decide(host, None, what, client, NOW)
        assert decision.action == "local"
        assert f"does not run on {firmware}" in decision.reason


def test_during_an_exam():
    assert decide(None, EXAM, None, PC, NOW).action == "local"
    assert "Analysis 1" in decide(None, EXAM, None, PC, NOW).reason
    assert "Analysis 1" in decide(B204, EXAM, None, PC, NOW).reason
    assert decide(B204, EXAM, task(), PC, NOW).action == "agent"
    assert decide(None, EXAM, None, PC, NOW).valid_until == EXAM.ends
    assert decide(None, EXAM, None, PC, EXAM.ends).action == "menu"


def test_a_decision_ends_when_the_clock_could_change_it():
    soon = NOW + timedelta(seconds=30)
    assert decide(B204, None, task("scheduled", not_before=soon), PC, NOW).valid_until == soon
    assert decide(B204, ExamFacts("x", soon, soon + timedelta(hours=1)), None, PC, NOW).valid_until == soon


@given(
    st.none() | st.builds(HostFacts, st.just("h"), st.sampled_from(["pending", "approved", "blocked"])),
    st.none()
    | st.builds(
        TaskFacts,
        st.just(1),
        st.just("deploy"),
        st.sampled_from(
            ["scheduled", "queued", "booting", "running", "verifying", "done", "failed", "cancelled"]
        ),
        st.integers(0, 5),
        st.integers(1, 3),
    ),
    st.sampled_from(["bios", "uefi-x64", "uefi-ia32", "uefi-arm64", "unknown"]),
)
def test_nobody_unapproved_and_nothing_finished_gets_the_agent(host, what, firmware):
    decision = decide(host, None, what, Client("m", firmware), NOW)
    if decision.action == "agent":
        assert host.state == "approved"
        assert what.state in ("queued", "booting", "running", "verifying")
        assert what.attempt <= what.max_attempts
    assert decision.valid_until > NOW
    assert decision.reason.endswith(".")
