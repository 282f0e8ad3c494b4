"""A row lights up and is put into words: by the pointer, by touch, by keys alone."""

import re

import pytest
from actions import cell, line, lit_row
from headlight.v1 import attention_service_pb2 as pb
from playwright.sync_api import expect

IT = 7
SAID = "it attends most to because (0.80)"


def test_hovering_a_word_lights_its_row_and_says_the_sentence(page):
    page.locator("#strip button", has_text=re.compile("^The$")).hover()
    assert line(page).startswith("The attends most to The")
    page.locator("#strip button", has_text=re.compile("^it$")).hover()
    assert line(page) == SAID
    assert lit_row(page) == IT


def test_hovering_the_map_lights_the_row_under_the_pointer(page):
    page.mouse.move(*cell(page, IT, 2))
    expect(page.locator("#line")).to_have_text(SAID)
    assert lit_row(page) == IT
    page.mouse.move(*cell(page, 1, 2))
    expect(page.locator("#line")).to_have_text(re.compile("^cat attends most to The"))
    assert lit_row(page) == 1


def test_the_keyboard_alone_does_the_same(page):
    page.locator("[name=numbers]").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "map"
    for _ in range(IT):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#line")).to_have_text(SAID)
    expect(page.locator("#live")).to_have_text(f"{SAID}; cat: 0.00")
    assert lit_row(page) == IT
    expect(page.locator("#map [role=row]").last).to_have_attribute("aria-rowindex", str(IT + 2))
    expect(page.locator("#cell")).to_have_attribute("aria-colindex", "3")
    page.keyboard.press("Enter")
    assert "row=7" in page.url
    page.keyboard.press("Escape")
    assert "row=7" not in page.url


def test_the_words_are_one_stop_for_tab_and_arrows_go_on(page):
    assert page.locator("#strip button[tabindex='0']").count() == 1
    page.locator("#strip button[tabindex='0']").focus()
    page.keyboard.press("End")
    expect(page.locator("#line")).to_have_text(re.compile("^tired attends most to"))
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#line")).to_have_text(SAID)


def test_a_click_locks_a_row_and_another_lets_it_go(page):
    page.mouse.click(*cell(page, IT, 0))
    page.mouse.move(5, 5)
    expect(page.locator("#line")).to_have_text(SAID)
    assert lit_row(page) == IT
    page.mouse.click(*cell(page, IT, 0))
    page.mouse.move(5, 5)
    expect(page.locator("#line")).to_have_text("Point at a row, or tap it.")


def test_a_pointer_that_left_within_a_frame_lights_nothing(page):
    x, y = cell(page, 1, 2)
    page.evaluate(
        """([clientX, clientY]) => { for (const type of ['pointermove', 'pointerleave'])
          document.getElementById('map').dispatchEvent(new PointerEvent(type, { clientX, clientY, pointerType: 'mouse' }));
          return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); }""",
        [x, y],
    )
    expect(page.locator("#line")).to_have_text("Point at a row, or tap it.")


def test_a_tap_lights_a_row(open_page):
    page = open_page(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.locator("#strip button", has_text=re.compile("^it$")).tap()
    expect(page.locator("#line")).to_have_text(SAID)
    page.touchscreen.tap(*cell(page, 1, 3))
    expect(page.locator("#line")).to_have_text(re.compile("^cat attends most to The"))


def test_a_rows_sum_is_shown(page):
    page.locator("#strip button", has_text=re.compile("^it$")).hover()
    expect(page.locator("#row-sum")).to_have_text("All 10 weights of this row add up to 1.00.")
    expect(page.locator("#row-keys li").first).to_have_text(re.compile("because.*0.80"))


def test_the_word_view_draws_the_thickest_arc_to_the_word_that_is_attended_to_most(open_page):
    page = open_page("#view=words&row=7")
    widths = page.eval_on_selector_all(
        "#arcs .arc path", "paths => paths.map((path) => Number(path.getAttribute('stroke-width')))"
    )
    assert len(widths) >= 3
    texts = page.eval_on_selector_all("#arcs .arc", "arcs => arcs.map((arc) => arc.textContent)")
    assert texts[widths.index(max(widths))] == "0.80"


def colour(page, row: int, key: int) -> list[int]:
    """What is seen of a cell, near its corner: both canvases over the page."""
    return page.evaluate(
        """async ([row, key]) => {
          const { matrix } = await import('/main.js');
          const { box, cell, base, over, size } = matrix;
          const scale = base.width / size.width;
          const copy = new OffscreenCanvas(base.width, base.height);
          const pen = copy.getContext('2d', { willReadFrequently: true });
          pen.fillStyle = getComputedStyle(document.body).backgroundColor;
          pen.fillRect(0, 0, copy.width, copy.height);
          pen.drawImage(base, 0, 0);
          pen.drawImage(over, 0, 0);
          const at = (first, i, side) => Math.round((first + (i + 0.3) * side) * scale);
          return [...pen.getImageData(at(box.left, key, cell.width), at(box.top, row, cell.height), 1, 1).data];
        }""",
        [row, key],
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_may_not_be_looked_at_is_grey_in_dimmed_rows_too(open_page, scheme):
    page = open_page("#causal=1&stage=biased&row=7", color_scheme=scheme)
    lit, dimmed = colour(page, 7, 9), colour(page, 1, 9)
    assert lit == dimmed
    assert max(dimmed[:3]) - min(dimmed[:3]) < 20, "grey, not blue"
    assert colour(page, 1, 0) != colour(page, 1, 1)


def test_the_legend_says_that_rows_are_dimmed(open_page):
    page = open_page("#row=7")
    expect(page.locator("#legend-words")).to_contain_text("while one row is lit the others are dimmed")
    page.check("#heads input[value=all]", force=True)
    expect(page.locator("#legend-words")).not_to_contain_text("dimmed")


def test_numbers_come_on_demand(page):
    without = page.locator("#map").screenshot()
    page.check("[name=numbers]")
    assert page.locator("#map").screenshot() != without


def test_numbers_are_offered_where_cells_have_room_for_them(open_page):
    small = {"viewport": {"width": 390, "height": 844}}
    page = open_page(**small)
    without = page.locator("#map").screenshot()
    page.check("[name=numbers]")
    assert page.locator("#map").screenshot() != without
    expect(open_page("#source=long&tokens=512&zoom=100,40,0,40", **small).locator("#numbers")).to_be_hidden()


@pytest.mark.parametrize("head", [0, 1, 2])
def test_heads_have_names_and_can_be_switched(page, head, attention):
    name = attention.GetDemo(pb.GetDemoRequest()).head_descriptions[head]
    page.locator("#heads label", has_text=name).click()
    expect(page.locator(f"#heads input[value='{head}']")).to_be_checked()
    page.locator("#strip button", has_text=re.compile("^it$")).hover()
    assert line(page) == [SAID, "it attends most to it (0.52)", "it attends most to cat (0.88)"][head]


def test_all_heads_stand_side_by_side_and_one_can_be_chosen(page):
    page.check("#heads input[value=all]", force=True)
    expect(page.locator("#multiples button")).to_have_count(3)
    page.locator("#multiples button").nth(2).click()
    expect(page.locator("#heads input[value='2']")).to_be_checked()
    expect(page.locator("#map")).to_be_visible()


def test_the_first_picture_explains_itself_until_somebody_points(page):
    expect(page.locator("#line")).to_have_text(SAID)
    assert lit_row(page) == IT
    page.mouse.move(*cell(page, 1, 2))
    page.mouse.move(5, 5)
    expect(page.locator("#line")).to_have_text("Point at a row, or tap it.")


def test_the_skip_link_moves_the_focus_and_keeps_what_is_shown(open_page):
    page = open_page("#source=text&text=a+b+c+d&head=2")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "map"
    assert "text=a+b+c+d" in page.url
    for unknown in ("nowhere", "no=where"):
        page.evaluate(f"location.hash = '{unknown}'")
        page.wait_for_timeout(100)
        expect(page.locator("[name=text]")).to_have_value("a b c d")


def test_what_was_typed_stays_when_another_control_is_used_at_once(open_page):
    page = open_page("#source=text")
    page.locator("[name=text]").press("Control+a")
    page.keyboard.type("one two three two")
    page.check("[name=stage][value=scaled]", force=True)
    page.wait_for_selector("#picture:not(.stale)")
    expect(page.locator("[name=text]")).to_have_value("one two three two")
    assert "text=one+two+three+two" in page.url and "stage=scaled" in page.url


def test_what_was_typed_stays_when_another_control_changes_while_the_field_is_not_left(open_page):
    page = open_page("#source=text")
    page.evaluate(
        """for (const [name, set] of [['text', { value: 'k l m' }], ['causal', { checked: true }]]) {
          const field = document.querySelector(`[name=${name}]`);
          Object.assign(field, set).dispatchEvent(new Event('input', { bubbles: true }));
        }"""
    )
    expect(page.locator("[name=text]")).to_have_value("k l m")
    assert "text=k+l+m" in page.url and "causal=1" in page.url


def test_the_mean_says_that_it_is_one_and_lights_every_small_picture(open_page):
    page = open_page("#head=all")
    expect(page.locator("#line")).to_contain_text("on average over the heads")
    expect(page.locator("#row-panel h2")).to_have_text("This row, on average over the heads")
    assert page.locator("#multiples .mark:not([hidden])").count() == 3
    page.locator("#multiples button").nth(1).press("Enter")
    assert page.evaluate("document.activeElement.id") == "map"


def test_a_small_picture_that_is_pointed_at_lights_its_row_in_all(open_page):
    page = open_page("#head=all")
    picture = page.locator("#multiples canvas").nth(1)
    picture.hover(position={"x": 20, "y": 0.15 * picture.bounding_box()["height"]})
    expect(page.locator("#line")).to_contain_text("cat attends most to")
    assert {mark.get_attribute("style") for mark in page.locator(".mark").all()} == {"top: 10%; height: 10%;"}


def test_the_focus_follows_a_head_that_is_chosen_of_a_long_input(open_page):
    page = open_page("#source=long&tokens=512&head=all")
    page.locator("#multiples button").nth(1).press("Enter")
    expect(page.locator("#map")).to_be_focused()


def test_a_zoom_of_what_is_shown_whole_is_no_zoom(open_page):
    page = open_page("#zoom=0,2,0,2")
    expect(page.locator("#line")).to_have_text(SAID)


def test_arrows_go_from_word_to_word_in_the_word_view(open_page):
    page = open_page("#view=words")
    page.locator("#arcs").focus()
    page.keyboard.press("Home")
    expect(page.locator("#live")).to_have_text(re.compile("^The attends most to"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert "row=1" in page.url


def test_a_word_view_without_arcs_is_no_stop(open_page):
    page = open_page("#source=text&view=words&text=" + "+".join(f"w{i}" for i in range(65)))
    expect(page.locator("#arcs")).to_have_attribute("tabindex", "-1")
    expect(page.locator("#arcs")).to_have_role("region")
    page.fill("[name=text]", "a b c")
    expect(page.locator("#arcs")).to_have_attribute("tabindex", "0")
    expect(page.locator("#arcs")).to_have_role("application")


def test_the_cell_that_has_the_focus_is_named_with_its_headers(page):
    page.locator("#map").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#map").get_attribute("aria-activedescendant") == "cell"
    expect(page.locator("#cell")).to_have_attribute("aria-label", re.compile("^The to cat: "))
    expect(page.locator("#map [role=columnheader]")).to_have_text("cat")
    expect(page.locator("#map [role=rowheader]")).to_have_text("The")
    expect(page.locator("#map [role=row]").last).to_have_accessible_name("The")
