"""Refusals, a stopped server, a token: shown as such, with a way on."""

import re

import pytest
from actions import line
from playwright.sync_api import expect

FAILED = "Failed to load resource"


def test_a_refused_request_names_its_fields_and_can_be_tried_again(open_page):
    page = open_page("#source=text&heads=7", expected=(FAILED,), ready=False)
    error = page.locator("#error")
    expect(error.locator("h2")).to_have_text("The server refused this request")
    expect(error.locator("li code").first).to_be_visible()
    assert re.match(r"^(options|self_attention)\.", error.locator("li code").first.inner_text())
    page.fill("[name=heads]", "4")
    expect(error).to_be_hidden()
    expect(page.locator("#map")).to_be_visible()


def test_a_refused_value_keeps_the_last_picture_dimmed(open_page):
    page = open_page("#source=text", expected=(FAILED,))
    page.fill("[name=heads]", "7")
    expect(page.locator("#error .retry")).to_be_visible()
    expect(page.locator("#picture")).to_have_class(re.compile("stale"))
    with page.expect_response("**/*Attend") as answer:
        page.click("#error .retry")
    assert answer.value.status == 400
    expect(page.locator("#error .retry")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("window", "-1", "a whole number from 0"),
        ("window", "1.5", "a whole number from 0"),
        ("window", "99999999999999999999", "to 999999999"),
        ("heads", "-3", "a whole number from 1 to 128"),
        ("heads", "", "a whole number from 1 to 128"),
        ("width", "63", "an even number from 2 to 4096"),
        ("seed", "1.5", "a whole number from 0 to 18446744073709551615"),
        ("seed", "-1", "a whole number from 0 to 18446744073709551615"),
    ],
)
def test_a_number_that_is_not_taken_is_said_at_its_field(open_page, name, value, takes):
    page = open_page("#source=long&tokens=512&open=places")
    field = page.locator(f"[name={name}]")
    before = field.input_value()
    field.fill(value)
    fault = page.locator(f"#{name}-fault")
    expect(fault).to_contain_text(takes)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(re.escape(takes)))
    expect(page.locator("#error")).to_be_hidden()
    field.fill(before)
    expect(fault).to_be_hidden()
    assert field.get_attribute("aria-invalid") is None


def test_a_window_beyond_all_bounds_in_a_link_is_none(open_page):
    page = open_page("#window=99999999999999999999&open=places")
    expect(page.locator("[name=window]")).to_have_value("")
    expect(page.locator("#error")).to_be_hidden()


def test_words_that_a_stack_does_not_know_are_named(open_page):
    page = open_page("#source=stack&stackText=Mr+and+xyzzy", expected=(FAILED,), ready=False)
    expect(page.locator("#error li").first).to_contain_text("tokens")


def test_a_server_that_does_not_answer_is_said_and_tried_again(open_page):
    page = open_page(expected=(FAILED,))
    page.route("**/headlight.v1.*/**", lambda route: route.abort("connectionrefused"))
    page.check("[name=stage][value=scaled]", force=True)
    expect(page.locator("#error h2")).to_have_text("The server does not answer")
    page.unroute("**/headlight.v1.*/**")
    page.click("#error .retry")
    expect(page.locator("#error")).to_be_hidden()
    page.locator("#strip button").nth(7).hover()
    assert line(page) == "it scores highest with because (8.80)"


def test_a_stopped_server_is_said_and_one_that_is_back_is_used(open_page, start):
    first = start()
    page = open_page("#row=7", web=first.web, expected=(FAILED,))
    first.close()
    page.check("[name=head][value='2']", force=True)
    assert line(page) == "it attends most to cat (0.88)", "what has been answered stays"
    page.check("[name=stage][value=scaled]", force=True)
    expect(page.locator("#error h2")).to_have_text("The server does not answer")
    start(web=first.web.removeprefix("http://"))
    page.click("#error .retry")
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("#line")).to_have_text("it scores highest with cat (6.00)")


def test_a_failed_experiment_says_so_in_its_place(open_page):
    page = open_page(expected=(FAILED,))
    page.route("**/*AblateHeads", lambda route: route.abort("connectionrefused"))
    page.locator("details[data-part=ablation] summary").click()
    notice = page.locator("details[data-part=ablation] .notice")
    expect(notice.locator("h3")).to_have_text("The server does not answer")
    expect(page.locator("#error")).to_be_hidden()
    page.unroute("**/*AblateHeads")
    notice.locator(".retry").click()
    expect(notice).to_be_hidden()
    expect(page.locator("details[data-part=ablation] .bars li")).to_have_count(3)


def test_a_token_is_asked_for_and_kept_in_memory_only(open_page, start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame-open-sesame\n")
    page = open_page(web=start(f"--auth-token-file={tokens}").web, expected=(FAILED,), ready=False)
    expect(page.locator("#error h2")).to_have_text("This server wants a token")
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    expect(page.locator("#token")).to_have_value("")
    page.fill("#token", "open-sesame-open-sesame")
    page.click("#error button[type=submit]")
    expect(page.locator("#map")).to_be_visible()
    expect(page.locator("#error")).to_be_hidden()
    assert "sesame" not in page.url
    assert (
        page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])") == '[{},{},""]'
    )


def test_a_token_that_no_header_carries_is_refused_in_the_form(open_page, start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame-open-sesame\n")
    page = open_page(web=start(f"--auth-token-file={tokens}").web, expected=(FAILED,), ready=False)
    page.fill("#token", "пароль-пароль")
    page.press("#token", "Enter")
    expect(page.locator("#error .hint")).to_contain_text("only plain Latin letters")
    expect(page.locator("#error h2")).to_have_text("This server wants a token")
    page.fill("#token", " open-sesame-open-sesame ")
    page.press("#token", "Enter")
    expect(page.locator("#map")).to_be_visible()


def test_the_focus_stays_near_what_is_tried_again(open_page):
    page = open_page(expected=(FAILED,))
    page.route("**/*Attend", lambda route: route.abort("connectionrefused"))
    page.check("[name=stage][value=scaled]", force=True)
    for _ in range(2):
        with page.expect_request("**/*Attend"):
            page.press("#error .retry", "Enter")
        expect(page.locator("#error .retry")).to_be_focused()
    page.unroute("**/*Attend")
    page.press("#error .retry", "Enter")
    expect(page.locator("#map-section")).to_be_focused()


def test_what_is_too_large_for_a_page_is_told_from_a_full_server(open_page):
    page = open_page("#source=text")
    page.fill("[name=text]", "word " * 40000)
    expect(page.locator("#error h2")).to_have_text("This is too large to send from a page")
    expect(page.locator("#error")).to_contain_text("the server takes 8.0 MiB")
    expect(page.locator("#error .retry")).to_have_count(0)


def test_a_width_beyond_all_bounds_is_too_large_too(open_page):
    page = open_page("#source=text&width=1000000000000", ready=False)
    expect(page.locator("#error h2")).to_have_text("This is too large to send from a page")


def test_what_the_page_refuses_it_does_not_offer_to_try_again(open_page):
    page = open_page("#source=file", ready=False)
    expect(page.locator("#error")).to_contain_text("Choose a file of embeddings")
    expect(page.locator("#error .retry")).to_have_count(0)


def test_when_to_come_back_is_said(open_page):
    page = open_page(expected=(FAILED,))
    details = [{"type": "google.rpc.RetryInfo", "value": "CgIIAg", "debug": {"retryDelay": "2.500s"}}]
    body = {"code": "resource_exhausted", "message": "no room now", "details": details}
    page.route("**/*Attend", lambda route: route.fulfill(status=429, json=body))
    page.check("[name=stage][value=scaled]", force=True)
    expect(page.locator("#error")).to_contain_text("The server is full")
    expect(page.locator("#error")).to_contain_text("It asks to come back in 2.5 s.")


def test_an_answer_of_another_protocol_is_an_error_too(open_page):
    page = open_page(expected=(FAILED,))
    page.route("**/*Attend", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    page.check("[name=stage][value=scaled]", force=True)
    expect(page.locator("#error")).to_contain_text("HTTP 502")


def test_what_takes_long_is_said_and_what_is_replaced_is_aborted(page):
    page.evaluate(
        """() => { window.aborted_ = 0; const asked = window.fetch; window.fetch = (url, options) => {
          options.signal?.addEventListener('abort', () => { window.aborted_ += 1; }); return asked(url, options); }; }"""
    )
    held = []
    page.route("**/*Attend", lambda route: held.append(route))
    page.check("[name=stage][value=scaled]", force=True)
    expect(page.locator("#progress p")).to_have_text(re.compile(r"computing, \d\.\d s"))
    page.unroute("**/*Attend")
    page.check("[name=stage][value=biased]", force=True)
    expect(page.locator("#progress")).to_be_hidden()
    assert len(held) == 1 and page.evaluate("window.aborted_") == 1
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("#legend-words")).to_contain_text("grey may not be looked at")
