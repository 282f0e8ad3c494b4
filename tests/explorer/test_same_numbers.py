"""The page's numbers are gRPC's, to the last digit shown, and bit for bit where they are exported."""

import re

import numpy as np
import pytest
from actions import line, numbers
from google.protobuf import json_format
from headlight.v1 import analysis_service_pb2 as analyses
from headlight.v1 import attention_service_pb2 as pb
from playwright.sync_api import expect

STAGES = {"scaled": "MAP_STAGE_SCALED", "biased": "MAP_STAGE_BIASED", "weights": "MAP_STAGE_WEIGHTS"}


def floats(tensor) -> np.ndarray:
    return np.frombuffer(tensor.f32_le, "<f4").reshape(tensor.shape)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("head", [0, 1, 2])
def test_the_demos_maps(open_page, attention, head, stage):
    demo = attention.GetDemo(pb.GetDemoRequest())
    request = pb.AttendRequest(self_attention=pb.SelfAttention(embeddings=demo.embeddings, layer=demo.layer))
    options = {"mask": {"causal": {"alignment": "CAUSAL_ALIGNMENT_TOP_LEFT"}}, "position": {"alibi": {}}}
    json_format.ParseDict(options, request.options)
    json_format.ParseDict({"maps": [{"heads": [head], "full": {}, "stage": STAGES[stage]}]}, request.outputs)
    want = floats(attention.Attend(request).maps[0].weights)
    page = open_page(f"#head={head}&stage={stage}&causal=1&position=alibi")
    keys, rows, got = numbers(page)
    assert keys == rows == list(demo.tokens)
    assert np.array_equal(got.astype(np.float32), want)
    for row, word in enumerate(demo.tokens):
        page.locator("#strip button").nth(row).hover()
        best = int(np.argmax(want[row]))
        assert line(page).startswith(f"{word} "), line(page)
        assert f"{demo.tokens[best]} ({float(want[row, best]):.2f})" in line(page)


def test_a_trained_stacks_maps(open_page, analysis):
    words = "Mr and Mrs Potter thanked the driver ; then Mrs".split()
    trace = analysis.TraceStack(analyses.TraceStackRequest(stack="induction", tokens=words, maps=True))
    page = open_page("#source=stack")
    for depth, layer in enumerate(trace.layers):
        page.check(f"[name=depth][value='{depth}']", force=True)
        for head, map_ in enumerate(layer.maps):
            page.check(f"[name=head][value='{head}']", force=True)
            assert np.array_equal(numbers(page)[2].astype(np.float32), floats(map_.weights))


def test_a_zoomed_tile_of_a_long_input(open_page, attention):
    request = pb.AttendRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 8192, "width": 64}, "seededWeights": {"seed": 1}}
    maps = {"heads": [1], "rows": [{"begin": 5000, "end": 5032}], "keys": {"begin": 700, "end": 740}, "full": {}}
    json_format.ParseDict(
        {"selfAttention": problem, "options": {"queryHeads": 4}, "outputs": {"maps": [maps]}}, request
    )
    want = floats(attention.Attend(request).maps[0].weights)
    page = open_page("#source=long&tokens=8192&head=1&zoom=5000,32,700,40")
    assert np.array_equal(numbers(page)[2].astype(np.float32), want)
    assert "exact weights" in page.inner_text("#zoom-words")


def test_a_pooled_overview(open_page, attention):
    request = pb.AttendRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 2048, "width": 64}, "seededWeights": {"seed": 1}}
    pooled = {"rows": 512, "columns": 512, "reducer": "POOL_REDUCER_MAX"}
    json_format.ParseDict(
        {
            "selfAttention": problem,
            "options": {"queryHeads": 4},
            "outputs": {"maps": [{"heads": [0], "pooled": pooled}]},
        },
        request,
    )
    want = floats(attention.Attend(request).maps[0].weights)
    assert np.array_equal(numbers(open_page("#source=long&tokens=2048"))[2].astype(np.float32), want)


def test_the_whole_row_of_a_tile_is_asked_of_the_server(open_page, attention):
    request = pb.AttendRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 2048, "width": 64}, "seededWeights": {"seed": 1}}
    maps = {"heads": [0], "rows": [{"begin": 103, "end": 104}], "topKeys": {"k": 5}}
    json_format.ParseDict(
        {"selfAttention": problem, "options": {"queryHeads": 4}, "outputs": {"maps": [maps]}}, request
    )
    want = attention.Attend(request).maps[0].top_keys
    page = open_page("#source=long&tokens=2048&zoom=100,16,200,16")
    page.locator("#map").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#row-sum")).to_have_text("The largest of all 2,048 keys.")
    names = page.locator("#row-keys .name").all_inner_texts()
    assert names == [f"t{key}" for key in want.keys]
    shown = [float(text) for text in page.locator("#row-keys .number").all_inner_texts()]
    assert np.allclose(shown, want.weights, rtol=0.05)


def test_words_sent_in_another_order_come_back_with_their_rows(open_page):
    page = open_page("#source=text")
    keys, _, before = numbers(page)
    page.evaluate("location.hash = '#source=text&shuffle=1'")
    expect(page.locator("#strip")).not_to_have_text("".join(keys))
    shuffled, _, after = numbers(page)
    assert sorted(shuffled) == sorted(keys) and shuffled != keys
    for word in set(keys):
        own, now = before[keys.index(word)], after[shuffled.index(word)]
        for other in set(keys):
            assert own[keys.index(other)] == pytest.approx(now[shuffled.index(other)], abs=1e-6)
    assert re.search(r"\d", line(page)) is None


@pytest.mark.parametrize("head", ["mean", "all"])
def test_the_mean_of_a_pooled_map_is_the_mean_of_the_heads(open_page, attention, head):
    page = open_page(f"#source=long&tokens=2048&head={head}")
    expect(page.locator("#zoom-words")).to_contain_text("to 256 × 256, each cell the mean of 64 weights of each head")
    shown = numbers(page)[2]
    request = pb.AttendRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 2048, "width": 64}, "seededWeights": {"seed": 1}}
    pooled = {"rows": 256, "columns": 256, "reducer": "POOL_REDUCER_MEAN"}
    json_format.ParseDict(
        {"selfAttention": problem, "options": {"queryHeads": 4}, "outputs": {"maps": [{"pooled": pooled}]}}, request
    )
    maps = [floats(one.weights) for one in attention.Attend(request).maps]
    np.testing.assert_allclose(shown, np.mean(maps, axis=0), rtol=1e-5, atol=1e-9)


def test_the_mean_of_masked_scores_is_of_those_that_are_left(open_page):
    page = open_page("#source=long&tokens=2048&stage=biased&window=2&head=mean")
    expect(page.locator("#zoom-words")).to_contain_text("the largest of 64 scores of each head, and of these the mean")
    assert np.isfinite(numbers(page)[2]).sum() >= 256


def test_the_softmax_of_a_pooled_row_is_that_of_its_first_token(open_page, attention):
    page = open_page("#source=long&tokens=2048&open=softmax&row=300")
    panel = page.locator("[data-part=softmax]")
    expect(panel).to_contain_text("Row “t1200”, the first of t1200–t1203,")
    request = pb.AttendRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 2048, "width": 64}, "seededWeights": {"seed": 1}}
    maps = {"heads": [0], "rows": [{"begin": 1200, "end": 1201}], "topKeys": {"k": 16}}
    json_format.ParseDict(
        {"selfAttention": problem, "options": {"queryHeads": 4}, "outputs": {"maps": [maps]}}, request
    )
    want = attention.Attend(request).maps[0].top_keys
    panel.locator("input[type=range]").fill("3")
    assert panel.locator(".bars .name").all_inner_texts() == [f"t{key}" for key in want.keys]
    shown = [float(text) for text in panel.locator(".bars .number").all_inner_texts()]
    assert np.allclose(shown, want.weights, rtol=0.05)
