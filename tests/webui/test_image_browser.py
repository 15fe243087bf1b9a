"""Versions as an administrator works with them, in a real Chromium in a namespace of its own."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from pxeboot.adapters.container import Services
from tests.shelf import spoil, stock
from tests.webui.test_browser import URL, page

__all__ = ["page"]
pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("room")]


@pytest.fixture(autouse=True)
def shelf(services: Services) -> None:
    for letters in ("abc", "abd", "aed"):
        stock(services, "linux", *letters, source_host="pc1", actor="ada")


def test_a_version_is_tagged_rolled_back_to_and_the_others_are_pruned(page: Page, services: Services) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Images", exact=True).click()
    page.get_by_role("link", name="linux").click()
    expect(page.locator('tr[data-version="3"]')).to_contain_text("current")
    page.get_by_role("link", name="linux@2").click()
    page.get_by_label("New tag").fill("exam")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("kbd")).to_contain_text("linux@exam")
    page.get_by_role("button", name="Roll back to it").click()
    expect(page.locator("#held")).to_contain_text("Deploys take linux@2, also when new versions come.")
    expect(page.locator('tr[data-version="2"]')).to_contain_text("exam")

    page.locator("select[name=from]").select_option("1")
    page.locator("select[name=to]").select_option("3")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#diff")).to_contain_text("chunks: 2")
    page.go_back()

    page.get_by_label("A prune keeps the newest").fill("1")
    page.get_by_text("How it is deployed unless a deploy says otherwise").click()
    page.get_by_label("On a larger disk, grow").fill("last")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("On a larger disk, grow")).to_have_value("last")
    page.goto(f"{URL}/store/prune")
    expect(page.locator("#doomed")).to_have_text("linux@1")
    page.get_by_role("button", name="Prune now").click()
    expect(page.locator("#job-state")).to_have_attribute("data-state", "done")
    expect(page.locator("dl")).to_contain_text("linux@1")
    page.goto(f"{URL}/images/linux")
    expect(page.locator("tr[data-version]")).to_have_count(2)


def test_jobs_come_and_go_on_the_page_by_themselves(page: Page, services: Services) -> None:
    page.goto(f"{URL}/images")
    expect(page.locator("#store")).to_contain_text("never yet")
    spoil(services, "e")
    services.keeper.scrub(actor="somebody else")
    expect(page.locator('tr[data-job="scrub"]')).to_have_attribute("data-state", "done")
    expect(page.locator("#store")).to_contain_text("damaged: 1")
    expect(page.locator("#store")).to_contain_text("linux@3 (1)")
    page.get_by_role("button", name="Verify all").click()
    expect(page.locator("#job-state")).to_have_attribute("data-state", "done")
    expect(page.locator("#live")).to_contain_text("is damaged")


def test_options_are_under_a_fold_until_they_are_needed(page: Page) -> None:
    page.goto(f"{URL}/deploy?group=B204&image=linux")
    expect(page.get_by_label("GUIDs and UUIDs")).not_to_be_visible()
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("GUIDs and UUIDs").select_option("renew")
    page.get_by_label("On a larger disk, grow").fill("first")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("write their numbers, like 2, 3")
    expect(page.get_by_label("GUIDs and UUIDs")).to_have_value("renew")
    page.get_by_label("On a larger disk, grow").fill("last")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator("#options")).to_contain_text("grow on a larger disk: the last one")
    expect(page.locator("#options")).to_contain_text("identities: made new")
