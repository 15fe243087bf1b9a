"""The boot policy as an administrator sets it, in a real Chromium in a namespace of its own."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from pxeboot.adapters.container import Services
from tests.webui.browsing import URL, page

__all__ = ["page"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("room")]


def test_a_protected_entry_becomes_what_a_room_boots(page: Page, services: Services) -> None:
    page.get_by_role("link", name="Boot menu").click()
    page.get_by_label("What it starts").select_option("linux")
    page.get_by_role("button", name="Next").click()
    page.get_by_label("Title in the menu").fill("Rescue system")
    page.get_by_label("Name, a word").fill("rescue")
    page.get_by_label("Kernel", exact=True).fill("rescue/vmlinuz")
    page.get_by_label("Initial RAM disk").fill("rescue/initrd.img")
    page.get_by_label("Key that starts it at once").fill("s")
    page.get_by_label("Password, if it is to be protected").fill("Geheim-1234")
    page.get_by_role("button", name="Save").click()
    row = page.locator('tr[data-entry="rescue"]')
    expect(row).to_contain_text("Rescue system")
    expect(row).to_contain_text("password")
    expect(page.locator("pre.preview")).to_contain_text(re.compile(r"Rescue system +\[s\] password"))

    page.goto(f"{URL}/groups/B204")
    page.get_by_text("Change what its hosts boot").click()
    page.get_by_label("An idle machine boots").select_option("entry:rescue")
    page.get_by_label("Time for the menu").fill("soon")
    page.get_by_role("button", name="Save").nth(1).click()
    expect(page.get_by_label("Time for the menu")).to_have_js_property("validity.patternMismatch", True)
    page.get_by_label("Time for the menu").fill("10")
    page.locator("#boot select[name=menu]").select_option("always")
    page.get_by_role("button", name="Save").nth(1).click()
    expect(page.locator("#boot dl")).to_contain_text("the entry rescue")

    page.goto(f"{URL}/hosts/B204-01")
    expect(page.locator("#boot dl")).to_contain_text("10 seconds")
    expect(page.locator("#boot dl")).to_contain_text("said by its group")
    expect(page.locator("p.lead").first).to_contain_text("the menu")

    # What the machine does now comes by itself.
    services.journal.record("dhcp", "dhcp.offered", "Offered 10.20.0.31 to it.", mac="52:54:00:00:00:01")
    services.journal.record("dhcp", "dhcp.offered", "Offered another's.", mac="52:54:00:00:00:02")
    expect(page.locator("#live")).to_contain_text("Offered 10.20.0.31 to it.")
    expect(page.locator("#live")).not_to_contain_text("Offered another's.")
    page.goto(f"{URL}/journal?plane=tftp")
    services.journal.record("tftp", "tftp.served", "Sent shimx64.efi.", mac="52:54:00:00:00:02")
    expect(page.locator("#live")).to_contain_text("Sent shimx64.efi.")
    expect(page.locator("#live")).not_to_contain_text("Offered")
