"""A link restores everything."""

import pytest
from actions import line, lit_row, unfold
from playwright.sync_api import expect

# Fields as the page writes them, and what is to be seen.
LINKS = {
    "#row=7&head=2": {"line": "it attends most to cat"},
    "#row=7&numbers=1&stage=scaled&position=rotary&shift=1000": {"line": "it scores highest with because"},
    "#source=text&text=one+two+three+two&causal=1&window=2&row=3&heads=2&width=32&head=1&open=places": {"line": "two "},
    "#source=stack&depth=0&head=1&row=9&off=1%3A3": {"line": "Mrs attends most to then"},
    "#source=long&tokens=2048&zoom=100%2C64%2C200%2C64&row=3&position=alibi": {"line": "t103 attends most to t207"},
}


@pytest.mark.parametrize("fragment", LINKS)
def test_a_link_restores_the_picture(open_page, fragment):
    page = open_page(fragment)
    assert line(page).startswith(LINKS[fragment]["line"])
    assert lit_row(page) == int(fragment.split("row=")[1].split("&")[0])
    for part in fragment[1:].split("&"):
        name, value = part.split("=")
        field = page.locator(f"[name={name}]:not([type=radio]):not([type=checkbox])")
        if field.count():
            assert field.input_value() == value.replace("+", " ")


def test_what_is_chosen_goes_into_the_link_and_back_again(open_page):
    page = open_page()
    page.check("input[value='2'][name=head]", force=True)
    page.locator("#strip button").nth(7).click()
    page.check("[name=stage][value=scaled]", force=True)
    page.check("[name=numbers]")
    expect(page.locator("#line")).to_have_text("it scores highest with cat (6.00)")
    again = open_page(page.url.split("/")[-1])
    assert line(again) == "it scores highest with cat (6.00)"
    assert again.is_checked("[name=numbers]")
    assert again.locator("#map").screenshot() == page.locator("#map").screenshot()


def test_a_changed_fragment_is_followed(open_page):
    page = open_page("#row=7")
    page.evaluate("location.hash = '#row=7&head=2'")
    expect(page.locator("#line")).to_have_text("it attends most to cat (0.88)")


def test_back_takes_back_what_was_switched(open_page):
    page = open_page()
    page.check("[name=head][value='2']", force=True)
    page.locator("#strip button").nth(1).click()
    page.check("[name=source][value=text]", force=True)
    expect(page.locator("#strip button").first).to_have_text("the")
    page.go_back()
    expect(page.locator("#strip button").first).to_have_text("The")
    expect(page.locator("[name=head][value='2']")).to_be_checked()
    assert "row=1" in page.url
    page.go_back()
    expect(page.locator("[name=head][value='0']")).to_be_checked()
    page.go_forward()
    expect(page.locator("[name=head][value='2']")).to_be_checked()


@pytest.mark.parametrize(
    "fragment", ["#row=99", "#row=1.5", "#head=77", "#head=1.5", "#zoom=1,2", "#unknown=1&row=x", "#source=stack&depth=9", "#shuffle=abc"]
)
def test_a_link_of_nonsense_still_shows_a_picture(open_page, fragment):
    page = open_page(fragment)
    expect(page.locator("#map")).to_be_visible()



@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("#head=7&row=3", "There is no head 7 here; head 0 is shown."),
        ("#source=long&tokens=1024&head=7", "There is no head 7 here; head 0 is shown."),
        ("#source=stack&depth=9&head=0", "There is no layer 9 here; layer 1 is shown."),
    ],
)
def test_a_head_that_is_not_there_is_said_and_the_first_is_marked(open_page, fragment, said):
    page = open_page(fragment)
    expect(page.locator("#heads-words")).to_have_text(said)
    expect(page.locator("[name=head][value='0']")).to_be_checked()
    assert "head=7" not in page.url and "depth=9" not in page.url
    if "long" in fragment:
        expect(page.locator("#zoom-words")).to_contain_text("pooled to 512 × 512")
    if "stack" in fragment:
        expect(page.locator("[name=depth][value='1']")).to_be_checked()
    page.check("[name=head][value='1']", force=True)
    expect(page.locator("#heads-words")).to_be_empty()


def test_a_links_number_of_tokens_is_among_the_choices(open_page):
    page = open_page("#source=long&tokens=777")
    expect(page.locator("[name=tokens]")).to_have_value("777")
    assert page.locator("[name=tokens] option").all_inner_texts() == ["512", "777", "2048", "8192", "16384"]


@pytest.mark.parametrize("seed", ["9007199254740993", "18446744073709551615"])
def test_a_seed_keeps_all_its_digits(open_page, seed):
    page = open_page("#source=long&tokens=512")
    with page.expect_response("**/*Attend"):
        page.fill("[name=seed]", seed)
    page.wait_for_selector("#picture:not(.stale)")
    assert f"seed={seed}" in page.url
    unfold(page, "take")
    page.click("[data-take=curl]")
    assert page.inner_text("#code").count(f'"seed":"{seed}"') == 2, "embeddings and weights"
    again = open_page(page.url.split("/")[-1])
    expect(again.locator("[name=seed]")).to_have_value(seed)
    expect(again.locator("#error")).to_be_hidden()


@pytest.mark.parametrize("fragment", ["#stage=bogus", "#position=__proto__", "#view=constructor", "#lengths=-1&open=compare"])
def test_choices_that_are_none_are_the_first(open_page, fragment):
    page = open_page(fragment)
    expect(page.locator("#stages [value=weights]")).to_be_checked()
    assert page.locator("[role=alert]:not([hidden])").count() == 0
