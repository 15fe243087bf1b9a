"""A deploy as its page shows it while it runs, in a real Chromium: figures, ways, reasons; nothing jumps."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, select

from pxeboot.adapters.container import Services
from pxeboot.db.models import Host, Task, TaskState
from pxeboot.services import groups, hosts, operations, tasks
from pxeboot.services.views import OperationRequest
from tests.plane import NOW
from tests.webui.browsing import URL, page

__all__ = ["page"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("room")]
MACHINES = 40
SESSION = 7
DEAF = (
    "Nothing of 239.192.0.0 has arrived in {seconds} s although the server has sent {sent} datagrams: IGMP "
    "snooping without a querier, a filter, or another VLAN."
)


class Deploy:
    """A deploy to a large room that is under way: what agents and sender say comes from the test."""

    def __init__(self, services: Services) -> None:
        self.services, self.transfers = services, services.sessions.transfers
        with services.write() as session:
            groups.create_group(session, name="C101")
            for number in range(1, MACHINES + 1):
                mac = f"52:54:00:00:01:{number:02x}"
                hosts.create_host(session, name=name(number), macs=[mac], group="C101", state="approved")
            wanted = OperationRequest(kind="deploy", group="C101", image="debian")
            self.id = operations.start(session, wanted, actor="ada", settings=services.settings).id
        with services.write() as session:
            for host in session.exec(select(Host).where(col(Host.name).startswith("C101-"))).all():
                host.address = f"10.20.1.{int(host.name[-2:])}"
            for task in session.exec(select(Task).where(Task.operation_id == self.id)).all():
                task.state, task.attempt, task.stage = TaskState.RUNNING, 1, "receive"
        self.tasks = {task.host: task.id for task in self._tasks()}
        self.transfers.open_session(self.id, SESSION, "127.0.0.1", lambda mbit: None, "authenticate")
        self.rows: dict[str, dict[str, Any]] = {}

    def _tasks(self) -> Any:
        with self.services.read() as session:
            return operations.get(session, self.id).tasks

    def reports(self, number: int, percent: int, *, multicast: int = 0, peers: int = 0, **way: str) -> None:
        """An agent tells its progress."""
        with self.services.write() as session:
            tasks.progress(
                session, self.tasks[name(number)], attempt=1, stage="receive", done=percent, total=100,
                bytes_multicast=multicast, bytes_peers=peers, bytes_http=0, message="", now=NOW, **way,
            )  # fmt: skip

    def hears(self, number: int, **row: Any) -> None:
        """What the sender says of a receiver, from its next word on."""
        said = {"address": f"10.20.1.{number}", "received": 0, "lost": 0, "wanted": 9, "backlog": 0}
        self.rows[name(number)] = {**said, **self.rows.get(name(number), {}), **row}

    def look(self) -> None:
        """The sender's word, and a round of the daemon."""
        state = {
            "state": "sending", "rate_mbit": 80, "receivers": len(self.rows), "chunks_sent": 100,
            "chunks_resent": 0, "datagrams": 10_600, "parity_sent": 600, "hosts": list(self.rows.values()),
        }  # fmt: skip
        self.transfers.heard(self.id, SESSION, "state", state)
        # Not in this thread: the browser's own loop runs here.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(self.transfers._round())).result(30)


def name(number: int) -> str:
    return f"C101-{number:02}"


@pytest.fixture
def deploy(services: Services, page: Page) -> Deploy:
    return Deploy(services)


def test_a_room_is_followed_while_it_is_deployed(page: Page, deploy: Deploy) -> None:
    trouble: list[str] = []
    page.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    for number in range(1, MACHINES):
        deploy.reports(number, 9, multicast=9_000_000, way="multicast")
        deploy.hears(number, received=100)
    deploy.reports(2, 9, peers=9_000_000, way="peers", way_reason=DEAF.format(seconds=5, sent=500))
    deploy.look()
    page.goto(f"{URL}/operations/{deploy.id}")
    row = page.locator(f'tr[data-host="{name(1)}"]')
    expect(row).to_contain_text("multicast 9.0 MB")
    expect(page.locator("#transfer")).to_contain_text("parity: 600 datagrams, 6.0 % beyond the image")
    expect(page.locator("#tasks tbody tr[data-host]")).to_have_count(MACHINES)

    # Somebody is on the row with the keyboard: figures change around them, and nothing else does.
    row.get_by_role("link").focus()
    page.evaluate(
        """() => {
          window.link = document.activeElement;
          window.said = 0;
          const all = document.querySelectorAll("#tasks th[scope=col]");
          const heads = () => [...all].map((head) => head.offsetLeft);
          window.before = heads();
          window.moved = () => heads().some((at, place) => Math.abs(at - window.before[place]) > 2);
          new MutationObserver(() => window.said++).observe(
            document.getElementById("through"), {subtree: true, childList: true, characterData: true});
        }"""
    )
    deploy.reports(1, 56, multicast=560_000_000, way="multicast")
    deploy.hears(1, received=1000, lost=140, backlog=300)
    deploy.hears(3, received=1000, backlog=950, slow=True)
    deploy.reports(2, 56, peers=56_000_000, way="peers", way_reason=DEAF.format(seconds=9, sent=900))
    deploy.look()
    expect(row).to_contain_text("56 %")
    expect(row).to_contain_text("13.5 %")
    expect(page.locator(f'[data-slow-of="{name(1)}"]')).to_have_text("It loses 13 % of the datagrams.")
    expect(page.locator(f'tr[data-host="{name(3)}"]')).to_have_attribute("data-class", "slow")
    expect(page.locator(f'[data-slow-of="{name(3)}"]')).to_contain_text("its buffers fill up")
    deaf = page.locator(f'[data-way-of="{name(2)}"]')
    expect(deaf).to_contain_text("From neighbours: Nothing of 239.192.0.0 has arrived in 9 s although")
    expect(page.locator(f'tr[data-host="{name(2)}"]')).to_contain_text("neighbours 56.0 MB")
    assert page.evaluate("document.activeElement === window.link && window.link.isConnected")
    assert not page.evaluate("window.moved()"), "the columns stay where they are"
    assert page.evaluate("window.said") == 0, (
        "a screen reader is told of machines that are through, not of figures"
    )

    # The same in French, on a telephone; the agent had spoken English.
    assert page.context.browser is not None
    context = page.context.browser.new_context(
        locale="fr-FR", viewport={"width": 390, "height": 844}, storage_state=page.context.storage_state()
    )
    phone = context.new_page()
    phone.goto(f"{URL}/operations/{deploy.id}")
    expect(phone.locator(f'[data-way-of="{name(2)}"]')).to_contain_text(
        "Depuis les machines voisines : Rien de 239.192.0.0 n'est arrivé en 9 s"
    )
    expect(phone.locator(f'[data-slow-of="{name(1)}"]')).to_have_text("Ce poste perd 13 % des datagrammes.")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert phone.evaluate(wide) == 0, "nothing is cut off"
    phone.goto(f"{URL}/operations/{deploy.id}/why")
    expect(phone.locator("#why")).to_contain_text(f"{name(2)} a pris ses blocs chez des machines voisines")
    expect(phone.locator("#why")).to_contain_text("Rien de 239.192.0.0 n'est arrivé en 9 s")
    context.close()
    assert trouble == []


def test_a_connection_that_broke_is_told_and_taken_up(page: Page, services: Services, deploy: Deploy) -> None:
    deploy.reports(1, 10, multicast=10, way="multicast")
    page.goto(f"{URL}/operations/{deploy.id}")
    row = page.locator(f'tr[data-host="{name(1)}"]')
    expect(row).to_contain_text("10 %")
    page.locator("#bandwidth summary").click()
    page.get_by_label("At most, in Mbit/s").fill("12,")
    page.evaluate(
        """() => {
          const stale = document.getElementById("stale");
          new MutationObserver(() => { window.told ||= !stale.hidden; }).observe(stale, {attributes: true});
        }"""
    )
    for stream in tuple(services.journal._subscriptions):
        stream.close()  # as a server that is started again does
    page.wait_for_function("window.told")
    deploy.reports(1, 20, multicast=20, way="multicast")
    expect(row).to_contain_text("20 %")
    expect(page.locator("#stale")).to_be_hidden()
    # What was being typed is still there.
    expect(page.get_by_label("At most, in Mbit/s")).to_have_value("12,")
    page.get_by_label("At most, in Mbit/s").fill("12,5")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_label("At most, in Mbit/s")).to_have_value("12.5")
    with services.write() as session:
        operations.cancel(session, deploy.id, actor="ada")
    expect(page.locator("#operation-state")).to_have_attribute("data-state", "cancelled")
    expect(page.locator("#through")).to_have_text(f"Finished: {MACHINES} of {MACHINES}.")
    expect(page.locator("#bandwidth")).to_have_count(0)


def test_a_task_is_chosen_first_and_a_wipe_confirmed(page: Page) -> None:
    page.goto(f"{URL}/tasks/new?host=B204-01")
    wipe = page.locator("#wipe")
    expect(wipe.get_by_label("Confirm")).to_be_hidden()
    wipe.get_by_text("Wipe disks").click()
    which = wipe.get_by_label("Its serial number, size, model")
    expect(which).to_be_hidden()
    wipe.get_by_label("Which disks").select_option("serial")
    which.fill("S1")
    wipe.get_by_label("Confirm").fill("B204")
    wipe.get_by_role("button", name="Wipe").click()
    expect(page.get_by_role("alert")).to_contain_text("destroys the data of B204-01")
    expect(which).to_have_value("S1")
    wipe.get_by_label("Confirm").fill("B204-01")
    wipe.get_by_role("button", name="Wipe").click()
    expect(page.get_by_role("heading", name="Wipe B204-01")).to_be_visible()
    expect(page.locator("#switch-on")).to_be_visible()
    expect(page.locator("#tasks tr[data-host]")).to_have_count(1)
