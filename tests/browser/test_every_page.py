"""Every page of the menu, light and dark: nothing from elsewhere, nothing that complains, nothing in anybody's way."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from explorer.frame.frame import PAGES

from .conftest import settled

FITS = """() => {
    const main = document.querySelector('[data-testid=stMain]');
    return main.scrollWidth <= main.clientWidth;
}"""
SIZES = [(800, 1000), (1280, 800)]


def not_ours(page, violation) -> bool:
    """The menu's list is Streamlit's own, and there is no other way to make one."""
    if violation["id"] not in ("list", "listitem"):
        return False
    menu = "e => !!e.closest('[data-testid=stSidebarNav]')"
    return all(page.locator(node["target"][0]).first.evaluate(menu) for node in violation["nodes"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_walk_through_every_page(page_at, server, scheme):
    watched = page_at("/", scheme=scheme)
    page = watched.page
    titles, found = set(), []
    for file, title, _ in [row for rows in PAGES.values() for row in rows]:
        page.goto(f"{server.url}/{'' if file == 'start' else file}")
        settled(page)
        assert page.title() == f"{title} · Linkage Explorer"
        titles.add(page.title())
        only = None if scheme == "light" else {"runOnly": ["color-contrast"]}  # the rest is the same in any colours
        for violation in Axe().run(page, options=only).response["violations"]:
            if not not_ours(page, violation):
                found += [(file, violation["id"], node["html"][:120]) for node in violation["nodes"][:3]]
        assert "Synthetic cohort" in page.get_by_test_id("stSidebar").inner_text()
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(FITS, timeout=5000)  # a chart takes a moment to follow
    assert found == []
    assert len(titles) == sum(map(len, PAGES.values()))
    assert watched.outside() == []
    assert watched.errors == []
