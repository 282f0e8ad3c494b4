"""Nobody is shut out: axe, keys, widths, light and dark."""

import pytest
from actions import unfold
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

PARTS = "softmax,places,ablation,swap,compare,take"
FRAGMENTS = [
    "",
    f"#row=7&open={PARTS}",
    "#source=stack&open=ablation",
    "#source=text&view=words&row=2",
    "#source=long&tokens=512&row=3",
    "#source=file",
    "#head=all",
]
SIZES = {
    "phone": (390, 844),
    "small phone": (320, 640),
    "tablet": (820, 1180),
    "desktop": (1280, 900),
    "wide": (2560, 1300),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_axe_finds_no_serious_fault(open_page, fragment, scheme):
    page = open_page(fragment, color_scheme=scheme, ready="file" not in fragment)
    page.wait_for_load_state("networkidle")
    found = Axe().run(page).response["violations"]
    grave = [
        (fault["id"], [node["target"] for node in fault["nodes"]])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert grave == []


def test_headings_are_in_order_where_nothing_can_be_shown(open_page):
    page = open_page("#source=file", ready=False)
    expect(page.locator("#error")).to_be_visible()
    assert "heading-order" not in [fault["id"] for fault in Axe().run(page).response["violations"]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_nothing_is_wider_than_the_window(open_page, fragment, size):
    width, height = SIZES[size]
    page = open_page(fragment, viewport={"width": width, "height": height}, ready="file" not in fragment)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_chosen_source_is_in_sight_on_a_phone(open_page):
    page = open_page("#source=long&tokens=512", viewport={"width": 320, "height": 640})
    expect(page.locator("#sources label", has_text="Long input")).to_be_in_viewport(ratio=1)


def test_light_and_dark_follow_the_system_until_the_switch_says_otherwise(open_page):
    page = open_page(color_scheme="dark")
    theme = page.locator("html")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    expect(theme).to_have_attribute("data-theme", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.click("#theme")
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.emulate_media(color_scheme="dark")
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_css("background-color", dark)


def test_the_chosen_theme_outlives_a_reload(page):
    page.click("#theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_forced_colours_leave_bars_and_marks(open_page):
    page = open_page("#row=7", forced_colors="active")
    none = "rgba(0, 0, 0, 0)"
    assert page.locator(".bars .filled").first.evaluate("e => getComputedStyle(e).backgroundColor") != none
    other = page.locator("#strip button").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert page.locator("#strip button.lit").evaluate("e => getComputedStyle(e).backgroundColor") != other


def test_a_phone_shows_some_of_the_map_at_once(open_page):
    page = open_page(viewport={"width": 390, "height": 844})
    assert page.locator("#map").bounding_box()["y"] < 600


def test_the_word_view_has_a_word_before_one_is_chosen(open_page):
    page = open_page("#source=text&view=words")
    expect(page.locator("#arcs .word.lit")).to_have_count(1)
    expect(page.locator("[name=numbers]")).to_be_hidden()


def test_the_policy_of_the_page_is_strict(server, browser):
    page = browser.new_page()
    policy = page.goto(server.web).headers["content-security-policy"]
    page.close()
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy


def test_every_step_can_be_taken_by_keys(page):
    """Tab reaches every control that is seen, and the focus is never lost to the page when a part is built anew."""
    unfold(page, "ablation")
    expect(page.locator("details[data-part=ablation] .bars li")).to_have_count(3)
    box = page.locator("details[data-part=ablation] input").nth(1)
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator("details[data-part=ablation] .finding")).to_contain_text("relative L2")
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.locator("[name=head][value='0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[document.activeElement.name, document.activeElement.value]") == ["head", "1"]
