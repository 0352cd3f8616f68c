"""The credential dialog in a real browser against a whole vault and an emulated service."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Stack, Visit

SERVICE = "google"


def fill(page: Page, *, name: str, scope: str = "Workspace") -> None:
    page.get_by_role("button", name="New credential").click()
    page.get_by_label("Service").select_option(SERVICE)
    page.get_by_label("Display name").fill(name)
    page.get_by_role("radio", name=scope).check()


def consent(visit: Visit, button: Locator, *, account: str = "ada") -> Page:
    """Click `button`, choose an account in the tab that opens, and return that tab."""
    with visit.page.expect_popup() as popup:
        button.click()
    tab = popup.value
    tab.get_by_role("radio", name=account).check()
    return tab


def allow(tab: Page) -> None:
    """Allow, and see the tab say that it can be closed and close itself."""
    with tab.expect_event("close"):
        tab.get_by_role("button", name="Allow").click()
        expect(tab.get_by_text("You can close this tab.")).to_be_visible()
        assert urlsplit(tab.url).path.startswith("/oauth/result/")
        assert urlsplit(tab.url).query == ""


def connect(visit: Visit, *, name: str, account: str = "ada") -> Locator:
    """Make a credential; returns its card in the list."""
    fill(visit.page, name=name)
    allow(consent(visit, visit.page.get_by_role("button", name="Authorize"), account=account))
    expect(visit.page.get_by_role("button", name="Connected!")).to_be_visible()
    visit.page.get_by_role("button", name="Save").click()
    return card(visit.page, name)


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )


def secrets_of(visit: Visit) -> list[str]:
    queries = [parse_qs(urlsplit(url).query) for url in visit.callbacks]
    return [value for query in queries for key in ("state", "code") for value in query.get(key, [])]


def test_the_eight_steps(visit: Visit) -> None:
    page = visit.page
    expect(page.get_by_role("heading", name="Credentials")).to_be_visible()
    visit.picture("1-page")

    # 1 service, 2 display name, 3 scope
    fill(page, name="Sales mailbox")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    visit.picture("2-filled")

    # 4 Authorize opens a tab, 5 consent
    tab = consent(visit, page.get_by_role("button", name="Authorize"))
    expect(page.get_by_role("status").get_by_text("Continue in the tab")).to_be_visible()
    visit.picture("3-waiting")
    visit.picture("4-consent", tab)

    # 6 the tab says so and closes itself
    with tab.expect_event("close"):
        tab.get_by_role("button", name="Allow").click()
        expect(tab.get_by_text("You can close this tab.")).to_be_visible()
        visit.picture("5-closing", tab)

    # 7 the button knows
    expect(page.get_by_role("button", name="Connected!")).to_be_visible()
    visit.picture("6-connected")

    # 8 Save, with what was changed meanwhile
    page.get_by_label("Display name").fill("Sales mailbox, shared")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    saved = card(page, "Sales mailbox, shared")
    expect(saved.get_by_text("Connected", exact=True)).to_be_visible()
    expect(saved).to_contain_text("Connected as")
    expect(saved).to_contain_text("Workspace")
    visit.picture("7-saved")


def test_a_blocked_tab_becomes_a_link(visit: Visit) -> None:
    page = visit.page
    page.evaluate("window.open = () => null")
    fill(page, name="Blocked")

    page.get_by_role("button", name="Authorize").click()
    link = page.get_by_role("link", name="Open authorize page")
    expect(page.get_by_text("Your browser blocked the tab")).to_be_visible()
    visit.picture("8-blocked")
    with visit.context.expect_page() as opened:
        link.click()
    tab = opened.value
    tab.get_by_role("radio", name="ada").check()
    tab.get_by_role("button", name="Allow").click()

    expect(tab.get_by_text("You can close this tab.")).to_be_visible()
    expect(page.get_by_role("button", name="Connected!")).to_be_visible()


def test_who_declines_reads_why_and_tries_again(visit: Visit) -> None:
    page = visit.page
    fill(page, name="Second thoughts")
    tab = consent(visit, page.get_by_role("button", name="Authorize"))

    tab.get_by_role("button", name="Cancel").click()
    expect(tab.get_by_role("heading", name="Not connected")).to_be_visible()
    visit.picture("9-declined-tab", tab)
    sentence = tab.locator("#sentence").inner_text()
    tab.close()

    expect(page.get_by_role("status").get_by_text(sentence)).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    visit.picture("10-declined")
    allow(consent(visit, page.get_by_role("button", name="Try again")))
    expect(page.get_by_role("button", name="Connected!")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(card(page, "Second thoughts")).to_have_count(1)


def test_cancel_leaves_nothing_behind(visit: Visit) -> None:
    page = visit.page
    fill(page, name="Never mind")
    tab = consent(visit, page.get_by_role("button", name="Authorize"))
    expect(page.get_by_role("status").get_by_text("Continue in the tab")).to_be_visible()

    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 204
    tab.get_by_role("button", name="Allow").click()
    expect(tab.get_by_role("heading", name="This page can no longer be used")).to_be_visible()
    page.reload()

    expect(page.get_by_role("heading", name="Credentials")).to_be_visible()
    expect(card(page, "Never mind")).to_have_count(0)


def test_reauthenticate_keeps_name_and_place(visit: Visit) -> None:
    mine = connect(visit, name="Keeps its name")
    before = mine.get_by_role("heading").get_attribute("id")

    allow(consent(visit, mine.get_by_role("button", name="Re-authenticate")))

    expect(mine.get_by_role("status")).to_contain_text("Connected")
    assert mine.get_by_role("heading").get_attribute("id") == before
    expect(mine.get_by_text("Connected", exact=True)).to_be_visible()


def test_another_account_is_refused_until_it_is_meant(visit: Visit) -> None:
    mine = connect(visit, name="Ada's")

    tab = consent(visit, mine.get_by_role("button", name="Re-authenticate"), account="grace")
    tab.get_by_role("button", name="Allow").click()
    expect(tab.get_by_role("heading", name="This is another account")).to_be_visible()
    tab.close()
    visit.picture("11-other-account")

    other = mine.get_by_role("button", name="Use the other account")
    allow(consent(visit, other, account="grace"))
    expect(mine.get_by_role("status")).to_contain_text(re.compile("grace", re.IGNORECASE))


def test_test_connection_revoke_and_delete(visit: Visit) -> None:
    page = visit.page
    mine = connect(visit, name="Short life")

    mine.get_by_role("button", name="Test connection").click()
    expect(mine.get_by_role("status")).to_contain_text("It works")

    mine.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(mine.get_by_text("Revoked", exact=True)).to_be_visible()
    visit.picture("12-revoked")

    mine.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(mine).to_have_count(0)


def test_a_reload_half_way_can_be_finished_from_the_list(visit: Visit) -> None:
    page = visit.page
    fill(page, name="Interrupted")
    tab = consent(visit, page.get_by_role("button", name="Authorize"))
    expect(page.get_by_role("status").get_by_text("Continue in the tab")).to_be_visible()
    tab.close()

    page.reload()
    mine = card(page, "Interrupted")
    expect(mine.get_by_text("Not finished", exact=True)).to_be_visible()
    allow(consent(visit, mine.get_by_role("button", name="Finish authorizing")))

    expect(mine.get_by_text("Connected", exact=True)).to_be_visible()


def test_the_whole_dialog_works_from_the_keyboard(visit: Visit) -> None:
    page = visit.page

    new = page.get_by_role("button", name="New credential")
    expect(new).to_be_enabled()
    new.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Service")).to_be_focused()
    page.keyboard.type("Goo")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Display name")).to_be_focused()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(new).to_be_focused()


def test_neither_state_nor_code_stands_anywhere_afterwards(visit: Visit, stack: Stack) -> None:
    page = visit.page
    connect(visit, name="Canary")

    secrets = secrets_of(visit)
    places = {
        "console": "\n".join(visit.console),
        "page": page.content(),
        "storage": page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])"),
        "cookies": str(visit.context.cookies()),
        "log": "".join(stack.lines),
    }

    assert len(secrets) == 2
    assert [place for place, text in places.items() for secret in secrets if secret in text] == []


@pytest.mark.parametrize("width", [1000, 380])
def test_it_fits_the_window(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 860})
    fill(visit.page, name="Narrow")

    visit.picture(f"13-width-{width}")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
