"""Every rule of the boot policy, as a table of who asks and what is said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.boot import BootPolicy, Client, ExamFacts, HostFacts, TaskFacts, decide
from pxeboot.boot.decide import RulesInForce
from pxeboot.boot.rules import NO_RULES, BootRules, MenuEntry

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


MEMTEST = MenuEntry(name="memtest", title="Test the memory", kind="memtest")
SHELL = MenuEntry(name="shell", title="Shell", kind="shell", protected=True)
EFI = MenuEntry(name="tool", title="Tool", kind="efi", params={"file": "x.efi"})
BIOS = Client("52:54:00:00:00:01", "bios", "ipxe")


@pytest.mark.parametrize(
    ("setting", "action", "words"),
    [
        ("ignore", "local", "ignored (boot.unknown_host = ignore)"),
        ("menu", "menu", "a menu offers to register it"),
        ("register", "agent", "registers itself (boot.unknown_host = register)"),
        ("quarantine", "local", "sees a message"),
    ],
)
def test_unknown_machines(setting, action, words):
    policy = BootPolicy(unknown_host=setting, quarantine_message="Ask in B 001.", entries=(MEMTEST,))
    decision = decide(None, None, None, PC, NOW, policy)
    assert (decision.action, words in decision.reason) == (action, True)
    assert decision.silent == (setting == "ignore")
    assert decision.message == ("Ask in B 001." if setting == "quarantine" else "")
    assert decision.mode == ("register-quick" if setting == "register" else None)
    assert decision.registers == (setting == "menu")
    assert decision.entries == ((MEMTEST,) if setting == "menu" else ())
    # While an exam runs, none of them shows anything.
    assert decide(None, EXAM, None, PC, NOW, policy).action == "local"
    assert decide(None, EXAM, None, PC, NOW, policy).message == ""


@pytest.mark.parametrize("choice", ["register-quick", "register-full"])
def test_what_was_chosen_at_the_menu(choice):
    chosen = replace(PC, choice=choice)
    decision = decide(None, None, None, chosen, NOW)
    assert (decision.action, decision.mode) == ("agent", choice)
    assert f"somebody chose to ({choice})" in decision.reason
    # Where the menu would not offer it any more, it means nothing.
    assert decide(None, EXAM, None, chosen, NOW).action == "local"
    for setting in ("ignore", "quarantine"):
        assert decide(None, None, None, chosen, NOW, BootPolicy(unknown_host=setting)).action == "local"
    assert decide(B204, None, None, chosen, NOW).action == "local"


def test_quarantine_without_a_message_says_who():
    assert PC.mac in decide(None, None, None, PC, NOW, BootPolicy(unknown_host="quarantine")).message


def idle(client=PC, exam=None, policy=None, group=NO_RULES, **own):
    host = HostFacts("B204-01", "approved", "B204", BootRules(**own), group)
    return decide(host, exam, None, client, NOW, policy or BootPolicy(entries=(MEMTEST, SHELL, EFI)))


def test_an_idle_machine_boots_what_the_rules_say_and_the_reason_says_who():
    plain = idle()
    assert (plain.action, plain.local) == ("local", "auto")
    assert plain.reason == "No task waits for B204-01, so it boots its own disk."
    windows = idle(group=BootRules(default="windows"))
    assert (windows.action, windows.local) == ("local", "windows")
    assert "group B204 says default = windows" in windows.reason
    linux = idle(group=BootRules(default="windows"), default="linux")
    assert (linux.local, "host B204-01 says default = linux" in linux.reason) == ("linux", True)
    site = idle(policy=BootPolicy(rules=BootRules(default="linux")))
    assert (site.local, "the site says default = linux" in site.reason) == ("linux", True)
    disk = idle(local_boot="partition:hd0,gpt3")
    assert disk.local == "partition:hd0,gpt3"
    assert "host B204-01 says local_boot = partition:hd0,gpt3" in disk.reason


def test_the_way_to_the_own_disk_holds_wherever_it_is_booted():
    host = HostFacts("B204-01", "approved", "B204", BootRules(local_boot="firmware"))
    assert decide(host, None, task(), PC, NOW).local == "firmware"
    assert decide(host, None, task("scheduled"), PC, NOW).local == "firmware"
    assert decide(host, EXAM, None, PC, NOW).local == "firmware"
    site = BootPolicy(rules=BootRules(local_boot="sanboot"))
    assert decide(None, None, None, PC, NOW, site).local == "sanboot"
    assert decide(HostFacts("x", "pending"), None, None, PC, NOW, site).local == "sanboot"


def test_a_menu_for_an_idle_machine():
    menu = idle(group=BootRules(menu="always", menu_seconds=0), default="linux")
    assert (menu.action, menu.default, menu.menu_seconds) == ("menu", "linux", 0)
    assert (menu.registers, menu.systems) == (False, True)
    assert menu.entries == (MEMTEST, SHELL, EFI)
    assert "group B204 says menu = always" in menu.reason
    assert idle(default="menu").default == "local"
    assert "host B204-01 says default = menu" in idle(default="menu").reason
    assert idle(default="menu").menu_seconds == 20
    assert idle(menu="never", group=BootRules(menu="always")).action == "local"
    never = idle(menu="never", group=BootRules(default="menu"))
    assert (never.action, "host B204-01 says menu = never" in never.reason) == ("local", True)
    assert idle(menu="always", default="entry:memtest").default == "memtest"


def test_a_default_entry():
    decision = idle(default="entry:memtest")
    assert (decision.action, decision.entry) == ("entry", MEMTEST)
    assert "host B204-01 says default = entry:memtest" in decision.reason
    gone = idle(default="entry:removed")
    assert (gone.action, "it has no such entry" in gone.reason) == ("local", True)
    assert idle(BIOS, default="entry:tool").action == "local"


def test_a_protected_entry_is_not_begun_without_its_password():
    alone = idle(default="entry:shell")
    assert (alone.action, alone.entry) == ("local", None)
    assert "needs a password that nobody is asked for" in alone.reason
    assert idle(exam=EXAM, default="entry:shell").action == "local"
    menu = idle(default="entry:shell", menu="always")  # its loader asks when the time is up
    assert (menu.action, menu.default) == ("menu", "shell")


def test_entries_are_offered_where_they_work():
    def names(client, entries=(MEMTEST, SHELL, EFI)):
        return [each.name for each in idle(client, policy=BootPolicy(entries=entries), menu="always").entries]

    assert names(PC) == ["memtest", "shell", "tool"]
    assert names(BIOS) == ["memtest", "shell"]
    assert names(Client("m", "uefi-arm64")) == ["shell", "tool"]
    assert names(Client("m")) == ["memtest", "shell", "tool"]
    assert names(PC, (replace(SHELL, protected=False), replace(MEMTEST, firmware="bios"))) == []


def test_an_exam_says_what_is_booted_and_shows_no_menu():
    for exam in (EXAM, replace(EXAM, default="windows"), replace(EXAM, default="entry:memtest")):
        assert idle(exam=exam, menu="always", default="menu").action != "menu"
    forced = idle(exam=replace(EXAM, default="windows"), default="linux")
    assert (forced.action, forced.local) == ("local", "windows")
    assert "the exam says default = windows" in forced.reason
    assert idle(exam=replace(EXAM, default="entry:memtest")).entry == MEMTEST
    assert idle(exam=EXAM, default="linux").local == "linux"
    assert idle(exam=EXAM, default="menu").action == "local"
    assert idle(exam=EXAM, default="menu").entries == ()


def test_rules_are_told_with_who_says_them():
    host = HostFacts("B204-01", "approved", "B204", BootRules(default="linux"), BootRules(menu_seconds=0))
    assert RulesInForce(host, BootPolicy(rules=BootRules(local_boot="sanboot"))).told() == [
        ("default", "linux", "host B204-01"),
        ("local_boot", "sanboot", "the site"),
        ("menu", "never", "built in"),
        ("menu_seconds", "0", "group B204"),
    ]
    menu = HostFacts("B204-01", "approved", "B204", BootRules(default="menu"))
    assert RulesInForce(menu, BootPolicy()).told()[2] == ("menu", "always", "host B204-01")


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
