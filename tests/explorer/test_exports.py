"""What is taken along is whole: pictures decode, drawings parse, numbers add up, code runs."""

import json
import os
import re
import struct
import subprocess
import xml.etree.ElementTree as xml
import zlib

import numpy as np
import pytest
from actions import download, numbers, unfold
from google.protobuf import json_format
from headlight.v1 import analysis_service_pb2, attention_service_pb2
from playwright.sync_api import expect


def decode_png(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and unpacked rows, with every chunk's checksum looked at."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, header, packed = 8, None, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + body)
        header = struct.unpack(">IIBBBBB", body) if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        place += 12 + length
    width, height, depth, colour, *_ = header
    assert (depth, colour) in ((8, 2), (8, 6))
    rows = zlib.decompress(packed)
    assert len(rows) == height * (1 + width * (3 if colour == 2 else 4))
    return width, height, rows


@pytest.mark.parametrize("fragment", ["", "#source=long&tokens=512"])
def test_the_picture_decodes_and_is_not_blank(open_page, fragment):
    width, height, rows = decode_png(download(open_page(fragment), "png"))
    assert width >= 300 and height >= 300
    assert len(set(rows)) > 20


def test_the_drawing_parses_and_has_every_cell_and_word(page):
    root = xml.fromstring(download(page, "svg"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("because") == 2
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 102, "paper, scale and cells"


@pytest.mark.parametrize(
    ("fragment", "title", "ends"),
    [
        ("#head=2", "looks", ("0.00", "1.00")),
        ("#head=all", "mean of all heads: weights", ("0.00",)),
        ("#source=stack&depth=1&head=3", "layer 1, head 3: weights", ("0.00",)),
        ("#source=long&tokens=2048", "head 0: weights", ("0.00", "and more")),
    ],
)
def test_a_drawing_says_what_it_shows_and_is_of_a_size_to_look_at(open_page, fragment, title, ends):
    page = open_page(fragment)
    title = page.inner_text("#heads label:has(:checked) .title") if title == "looks" else title
    root = xml.fromstring(download(page, "svg"))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0].startswith(title)
    assert all(any(end in text for text in texts[-2:]) for end in ends), texts[-2:]
    assert max(float(root.get("width")), float(root.get("height"))) <= 1600
    assert len(root.get("viewBox").split()) == 4


@pytest.mark.parametrize("what", ["png", "svg"])
def test_what_is_saved_in_the_word_view_is_said_to_be_the_matrix(open_page, what):
    page = open_page("#view=words")
    download(page, what)
    expect(page.locator("#taken")).to_contain_text("It shows the matrix, not the arcs.")


def test_words_of_a_drawing_are_escaped(open_page):
    root = xml.fromstring(download(open_page("#source=text&text=%3Cb%3E+a%26b+%22c%22"), "svg"))
    assert {"<b>", "a&b", '"c"'} <= {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize("fragment", ["", "#head=mean", "#source=stack&depth=1&head=3", "#source=text&causal=1"])
def test_rows_of_the_numbers_add_up_to_one(open_page, fragment):
    keys, rows, values = numbers(open_page(fragment))
    assert keys == rows and values.shape == (len(rows), len(keys))
    assert np.allclose(values.sum(axis=1), 1, atol=1e-6)


def code(page, what: str) -> str:
    unfold(page, "take")
    page.click(f"[data-take={what}]")
    return page.wait_for_selector("#code:not([hidden])").inner_text()


def test_the_curl_line_runs_and_answers_what_is_shown(page):
    # The shell as a person's: what is copied is pasted.
    ran = subprocess.run(["sh", "-c", code(page, "curl")], capture_output=True, text=True, timeout=30, check=True)
    answer = json_format.Parse(ran.stdout, attention_service_pb2.AttendResponse())
    weights = np.frombuffer(answer.maps[0].weights.f32_le, "<f4").reshape(10, 10)
    assert np.array_equal(weights, numbers(page)[2].astype(np.float32))


def test_the_python_runs(page, server, capsys):
    program = code(page, "python").replace("127.0.0.1:50051", server.address)
    exec(compile(program, "copied", "exec"), {})  # noqa: S102 - it is the page's own
    assert "maps {" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fragment", "kind"),
    [("", attention_service_pb2.AttendRequest), ("#source=stack", analysis_service_pb2.TraceStackRequest)],
)
def test_grpcurls_request_is_one_of_the_contract(open_page, fragment, kind):
    text = code(open_page(fragment), "grpcurl")
    request = json_format.Parse(re.search(r"^\{.*\}$", text, re.M)[0], kind())
    assert json.loads(json_format.MessageToJson(request))
    assert "\ngrpcurl -plaintext -max-msg-sz " in text and "--listen" in text


def test_code_for_a_server_with_tokens_names_where_the_token_stands(open_page, start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-some-length-0123456789\n")
    page = open_page("", web=start("--threads=1", f"--auth-token-file={tokens}").web, expected=("401",), ready=False)
    page.fill("#error input", "a-token-of-some-length-0123456789")
    page.keyboard.press("Enter")
    page.wait_for_selector("#picture:not([hidden]):not(.stale)")
    for what in ("curl", "grpcurl", "python"):
        text = code(page, what)
        assert "HEADLIGHT_TOKEN" in text and "Bearer" in text and "a-token" not in text
    environment = {**os.environ, "HEADLIGHT_TOKEN": "a-token-of-some-length-0123456789"}
    ran = subprocess.run(
        ["sh", "-c", code(page, "curl")], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(ran.stdout)["maps"]


def test_the_link_is_copied(open_page):
    page = open_page("#row=7", permissions=["clipboard-read", "clipboard-write"])
    unfold(page, "take")
    page.click("[data-take=link]")
    expect(page.locator("#taken")).to_contain_text("The link is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_a_word_that_is_a_formula_is_guarded(open_page):
    keys, rows, _ = numbers(open_page("#source=text&text=%3D1%2B1+-2+%40a+b-c"))
    assert keys == rows == ["'=1+1", "'-2", "'@a", "b-c"]


def test_nothing_old_is_exported_while_a_refusal_is_shown(open_page):
    page = open_page("#source=text&open=take", expected=("Failed to load resource",))
    page.fill("[name=heads]", "7")
    expect(page.locator("[data-take=csv]")).to_be_disabled()
    expect(page.locator("#taken")).to_contain_text("only the link")
    expect(page.locator("[data-take=link]")).to_be_enabled()
    page.fill("[name=heads]", "4")
    expect(page.locator("[data-take=csv]")).to_be_enabled()


def test_what_is_saved_of_all_heads_is_said_to_be_their_mean(open_page):
    page = open_page("#head=all")
    download(page, "csv")
    expect(page.locator("#taken")).to_contain_text("It is the mean of all heads")
