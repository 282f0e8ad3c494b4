"""Answers that draw themselves: HTML, text, matplotlib, pandas."""

import copy
import re
from html.parser import HTMLParser

import headlight
import numpy as np
import pytest
from headlight import drawing
from matplotlib import pyplot

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Tags, attributes and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], "all that is opened is closed"

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("input", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def demo(client) -> headlight.Attention:
    """The demo's sentence with all its maps."""
    given = client.get_demo()
    return client.attend_embeddings(given.embeddings, given.layer, tokens=given.tokens, maps=True)


def test_html(demo) -> None:
    """A heatmap for each head, and a switch that needs neither script nor network."""
    page = Page(demo._repr_html_())
    assert {tag for tag, _ in page.tags} <= {"style", "div", "input", "label", "figure", "figcaption", "table", "thead",
                                             "tbody", "tr", "th", "td", "span"}  # fmt: skip
    assert not any(name in ("src", "href") or name.startswith("on") for _, found in page.tags for name in found)
    assert "url(" not in page.text[0] and "@import" not in page.text[0]
    switches, figures = page.of("input"), page.of("figure")
    assert [one["type"] for one in switches] == ["radio"] * 3
    assert len({one["name"] for one in switches}) == 1 and ["checked" in one for one in switches] == [
        True,
        False,
        False,
    ]
    for switch, label, figure in zip(switches, page.of("label"), figures, strict=True):
        assert switch["id"] == label["for"] == figure["class"]
        assert f"#{switch['id']}:checked~.{figure['class']}{{display:block}}" in page.text[0]
    assert len(page.of("td")) == 300
    weights = [float(cell["title"]) for cell in page.of("td")]
    np.testing.assert_allclose(weights[:100], demo.maps[0].weights.ravel(), rtol=0.01, atol=1e-4)
    assert any(one.get("title") == "it attends most to because (0.80)" for one in page.of("th"))


def test_two_drawings_do_not_share_switches(demo) -> None:
    names = {Page(demo._repr_html_()).of("input")[0]["name"] for _ in range(2)}
    assert len(names) == 2


def test_labels_are_escaped(client) -> None:
    query = np.ones((1, 1, 2, 4), np.float32)
    answer = client.attend(query, query, query, maps=True, tokens=[EVIL, "b\"'&"])
    page = Page(answer._repr_html_())
    assert not page.of("script") and EVIL in page.text
    assert any(one.get("title", "").startswith(EVIL) for one in page.of("th"))


def test_page(demo, tmp_path) -> None:
    path = demo.to_html(tmp_path / "attention.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!doctype html>") and page.of("meta") == [{"charset": "utf-8"}]
    assert len(page.of("figure")) == 3 and not re.search(r"https?:", text)


def test_large_maps_are_shrunk() -> None:
    """To the largest of each block, and not more maps than a notebook bears."""
    cells = np.zeros((100, 60), np.float32)
    cells[99, 59] = 1
    names = [str(i) for i in range(100)]
    small = drawing.shrink(drawing.Figure("head 0", cells, names, names[:60]), 10, 7)
    assert small.cells.shape == (10, 7) and small.cells[9, 6] == 1 and small.cells.sum() == 1
    assert small.rows[0] == "0 … 9" and small.keys[-1] == "51 … 59"
    page = Page(drawing.fragment([drawing.Figure(f"head {i}", cells, names, names[:60]) for i in range(40)]))
    assert len(page.of("figure")) == drawing.MOST_FIGURES and "the first 32 of 40 maps" in page.text
    assert len(page.of("td")) == drawing.MOST_FIGURES * drawing.MOST_CELLS**2


def test_shades() -> None:
    """From 0, or what is least, to the largest; forbidden pairs and what was not sent have none."""
    cells = np.array([[-np.inf, -1.0], [np.nan, 3.0]], np.float32)
    assert np.array_equal(drawing.shares(cells), [[0, 0], [0, 1]])
    assert np.array_equal(drawing.shares(np.zeros((1, 2), np.float32)), [[0, 0]])
    assert np.array_equal(drawing.shares(np.array([[0.25, 0.5]], np.float32)), [[0.5, 1]])


def test_text(demo, client) -> None:
    lines = repr(demo).splitlines()
    assert lines[0].startswith("AttendResponse(output=array[10, 16] float32, maps=[3 WeightMap]")
    assert lines[1] == "head 0:" and lines[9] == "     it |░░░░░░█░░░|"
    query = np.ones((1, 1, 2, 4), np.float32)
    plain = client.attend(query, query, query)
    assert len(repr(plain).splitlines()) == 1
    assert plain._repr_html_().startswith("<pre>AttendResponse(")


def test_stages_draw(client, rng) -> None:
    """Scores with -inf, sums and top keys, with what they are of."""
    query = rng.standard_normal((2, 2, 5, 4)).astype(np.float32)
    asked = [headlight.weight_maps([1], stage="biased"), headlight.weight_maps([0], form=headlight.top_keys(1)),
             headlight.weight_maps([0], form="column_sums")]  # fmt: skip
    answer = client.attend(query, query, query, causal="top_left", maps=asked)
    page = Page(answer._repr_html_())
    assert "head 1" in page.text and "batch 1, head 1" in page.text
    assert len(page.of("figure")) == 6
    frame = answer.to_dataframe()
    assert np.isneginf(frame.weight).sum() == 2 * 10


def test_maps_without_keys_draw(client, rng, tmp_path) -> None:
    """Where no row may attend to any key, in every form."""
    query = rng.standard_normal((1, 2, 5, 4)).astype(np.float32)
    forms = ["full", headlight.top_keys(2), "column_sums", headlight.pooled(2, 2, "max")]
    asked = [headlight.weight_maps([0], form=form) for form in forms]
    for maps in (asked, asked[1]):
        answer = client.attend(query, query, query, key_lengths=[0], maps=maps, tokens="a b c d e")
        lines = repr(answer).splitlines()
        assert lines[1] == "head 0:" and [line.strip(" |") for line in lines[2:]] == list("abcde")
        page = Page(answer.to_html(tmp_path / "empty.html").read_text(encoding="utf-8"))
        assert len(page.of("figure")) == len(answer.maps)
        assert not any(float(cell["style"].removeprefix("--w:")) for cell in page.of("td"))
        for index in range(len(answer.maps)):
            answer.plot(index)
        pyplot.close("all")
    assert answer.to_dataframe().empty


def test_dataframe(demo) -> None:
    frame = demo.to_dataframe()
    assert list(frame.columns) == ["batch", "head", "row", "key", "weight", "row_token", "key_token"]
    assert len(frame) == 300
    np.testing.assert_allclose(frame.groupby(["head", "row"]).weight.sum(), 1, atol=1e-5)
    best = frame[(frame["head"] == 0) & (frame.row_token == "it")].nlargest(1, "weight").iloc[0]
    assert (best.key_token, round(best.weight, 2)) == ("because", 0.8)


def test_dataframe_of_ranges(client, rng) -> None:
    """Rows and keys have their own numbers; pooled maps those of their cells; a stack's maps their layer."""
    query = rng.standard_normal((1, 1, 6, 4)).astype(np.float32)
    asked = headlight.weight_maps(rows=[(2, 4)], keys=(3, 6))
    frame = client.attend(query, query, query, maps=asked, tokens="a b c d e f").to_dataframe()
    assert sorted(set(frame.row_token)) == ["c", "d"] and sorted(set(frame.key)) == [3, 4, 5]
    asked = headlight.weight_maps(rows=[(2, 6)], form=headlight.pooled(2, 2, "sum"))
    frame = client.attend(query, query, query, maps=asked, tokens="a b c d e f").to_dataframe()
    assert sorted(set(frame.row)) == [0, 1] and "row_token" not in frame
    trace = client.trace_stack("induction", "Mr and Mrs", maps=True)
    assert sorted(set(trace.to_dataframe().layer)) == [0, 1]
    assert "layer 1, head 3" in Page(trace._repr_html_()).text


def test_keys_of_a_part_have_no_labels(client, rng) -> None:
    """They are others than the rows, though they may be as many."""
    query = rng.standard_normal((1, 1, 5, 4)).astype(np.float32)
    answer = client.attend(query, query, query, part=(5, 10, 10), maps=[0], tokens="a b c d e")
    frame = answer.to_dataframe()
    assert set(frame.row_token) == set("abcde") and "key_token" not in frame
    assert "a attends most to" in answer._repr_html_() and "attends most to a" not in answer._repr_html_()


def test_copies(demo) -> None:
    """An answer can be copied, and has no attributes that its message has not."""
    assert copy.copy(demo).execution.algorithm == demo.execution.algorithm
    assert "execution" in dir(demo) and not hasattr(demo, "_anything")


def test_plot(demo) -> None:
    ax = demo.plot(1)
    assert ax.get_title() == "head 1" and ax.get_yticklabels()[7].get_text() == "it"
    np.testing.assert_array_equal(ax.images[0].get_array(), demo.maps[1].weights)
    assert demo.plot(0, ax=ax) is ax
    pyplot.close("all")


def test_nothing_to_plot(demo, client) -> None:
    query = np.ones((1, 1, 2, 4), np.float32)
    for answer in (client.attend(query, query, query), client.trace_stack("induction", "Mr and Mrs")):
        with pytest.raises(ValueError, match="no maps were asked for"):
            answer.plot()
    with pytest.raises(IndexError):
        demo.plot(3)
