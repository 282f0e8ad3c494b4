"""Each experiment says what the server says."""

import re

import numpy as np
import pytest
from actions import numbers, unfold
from google.protobuf import json_format
from headlight.v1 import analysis_service_pb2 as analyses
from headlight.v1 import attention_service_pb2 as pb
from playwright.sync_api import expect


def body(page, part: str):
    unfold(page, part)
    return page.locator(f"details[data-part={part}]")


def number(text: str) -> float:
    return float(re.search(r"-?\d[\d.]*(?:e-?\d+)?", text)[0])


def test_the_slider_walks_from_scores_to_weights(open_page):
    part = body(open_page("#row=7"), "softmax")
    slider = part.locator("input[type=range]")
    expect(part.locator("h3")).to_have_text("1. Scores")
    shown = {}
    for step in range(4):
        slider.fill(str(step))
        shown[step] = [float(text) for text in part.locator(".bars .number").all_inner_texts()]
    scores, masked, powers, weights = (np.array(shown[step]) for step in range(4))
    assert np.array_equal(scores, masked)
    assert np.allclose(powers, np.exp(scores - scores.max()), atol=0.006)
    assert np.allclose(weights, powers / powers.sum(), atol=0.006)
    expect(part.locator(".finding")).to_contain_text("= 0.80. All together: 1.00.")


def test_stages_differ_where_a_mask_forbids(open_page):
    scores = numbers(open_page("#stage=scaled&causal=1"))[2]
    masked = numbers(open_page("#stage=biased&causal=1"))[2]
    below = np.tril(np.ones_like(scores, bool))
    assert np.array_equal(scores[below], masked[below])
    assert np.all(np.isneginf(masked[~below])) and np.all(np.isfinite(scores))


@pytest.mark.parametrize("position", ["none", "sinusoidal", "rotary", "alibi"])
def test_shuffled_words_keep_their_rows_only_without_positions(open_page, position):
    page = open_page(f"#source=text&position={position}")
    part = body(page, "places")
    part.get_by_role("button", name="Shuffle the words").click()
    found = part.locator(".finding")
    expect(found).to_contain_text("The words are shuffled.")
    largest = 0 if "exactly 0" in found.inner_text() else number(found.locator("b").inner_text())
    if position == "none":
        assert largest < 1e-6
        expect(found).to_contain_text("rows travel with their words")
    else:
        assert largest > 0.01
        expect(found).to_contain_text("another order is another sentence")
    part.get_by_role("button", name="Back in order").click()
    expect(found).to_be_hidden()


@pytest.mark.parametrize(
    ("position", "same"), [("none", True), ("rotary", True), ("alibi", True), ("sinusoidal", False)]
)
def test_a_shift_by_a_thousand(open_page, position, same):
    part = body(open_page(f"#source=text&position={position}"), "places")
    part.get_by_role("button", name="Shift all words by 1,000").click()
    found = part.locator(".finding")
    expect(found).to_contain_text("shifted by 1,000")
    largest = 0 if "exactly 0" in found.inner_text() else number(found.locator("b").inner_text())
    assert (largest < 1e-3) == same
    expect(found).to_contain_text("only distances count" if same else "the places themselves count")


def test_learned_positions_take_a_table_from_a_file(open_page, tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).standard_normal((32, 16)).astype("<f4"))
    page = open_page()
    part = body(page, "places")
    before = numbers(page)[2]
    page.select_option("[name=position]", "learned")
    expect(page.locator("#error")).to_contain_text("Learned positions need a table")
    part.locator("[data-file=table]").set_input_files(tmp_path / "table.npy")
    expect(page.locator("#error")).to_be_hidden()
    assert not np.array_equal(numbers(page)[2], before)


def test_a_bad_table_is_said_where_it_is_chosen(open_page, tmp_path):
    np.save(tmp_path / "bad.npy", np.zeros((4, 16)))
    page = open_page("#open=places")
    page.select_option("[name=position]", "learned")
    page.set_input_files("[data-file=table]", tmp_path / "bad.npy")
    expect(page.locator("#table-words")).to_contain_text("expected float32")
    expect(page.locator("#table-words")).to_be_visible()
    expect(page.locator("#error")).to_contain_text("expected float32")


@pytest.mark.parametrize("shape", [(), (8,)])
def test_a_query_without_tokens_is_refused_in_words(open_page, tmp_path, shape):
    np.save(tmp_path / "flat.npy", np.zeros(shape, "<f4"))
    page = open_page("#source=file", ready=False)
    for name in ("query", "key", "value"):
        page.set_input_files(f"[data-file={name}]", tmp_path / "flat.npy")
    expect(page.locator("#error")).to_contain_text("Q has the shape")


def test_a_head_that_is_off_moves_the_output_as_the_server_says(page, analysis, attention):
    demo = attention.GetDemo(pb.GetDemoRequest())
    request = analyses.AblateHeadsRequest(
        embeddings=demo.embeddings, layer="demo", heads=[2], mode=analyses.ABLATION_MODE_ZERO
    )
    want = analysis.AblateHeads(request)
    part = body(page, "ablation")
    part.locator("input").nth(2).check()
    expect(part.locator(".finding b")).to_have_text(f"{want.change.relative_l2:.2f}")
    shown = part.locator(".bars .number").all_inner_texts()
    assert shown == [f"{loss.change.relative_l2:.2f}" for loss in want.losses]


def test_a_head_of_seeded_weights_is_switched_off_by_its_gain(open_page):
    page = open_page("#source=text")
    part = body(page, "ablation")
    part.locator("input").nth(1).check()
    expect(part.locator(".finding")).to_contain_text("Without head 1 the output moves by")
    assert 0.05 < number(part.locator(".finding b").inner_text()) < 2
    unfold(page, "take")
    page.click("[data-take=grpcurl]")
    request = json_format.Parse(re.search(r"^\{.*\}$", page.inner_text("#code"), re.M)[0], pb.AttendRequest())
    assert list(request.options.head_gains) == [1, 0, 1, 1]


def test_a_swap_moves_what_the_head_adds(open_page):
    part = body(open_page("#source=text&layer=induction/0&aim=1&cargo=2"), "swap")
    expect(part.locator(".finding")).to_contain_text("What the head adds moves by")
    written, output = (number(text) for text in part.locator(".finding b").all_inner_texts())
    assert written > 0.01 and output > 0.01
    expect(part.locator(".bars li").first).to_be_visible()
    part.locator("select").nth(1).select_option("1")
    expect(part.locator(".finding")).to_contain_text("exactly 0")
    expect(part.locator(".bars li")).to_have_count(0)


def test_a_swap_that_changes_nothing_leads_to_one_that_does(page):
    part = body(page, "swap")
    expect(part).to_contain_text("all three carry the same")
    part.get_by_role("button", name="Your sentence with").click()
    expect(part.locator(".bars li").first).to_be_visible()


def test_a_swap_without_weights_is_explained(open_page):
    part = body(open_page("#source=text"), "swap")
    expect(part).to_contain_text("it needs a layer that has a name")
    expect(part.locator("[role=alert]")).to_be_hidden()


def test_the_grid_grows_fourfold_while_flashs_workspace_stays(page, attention):
    part = body(page, "compare")
    more = part.get_by_role("button", name="Double the length")
    for rows in range(2, 7):
        more.click()
        expect(part.locator("tbody tr")).to_have_count(rows)
        expect(part.locator(".finding")).to_contain_text("the grid takes 4.0 times the bytes")
    table = [row.locator("th, td").all_inner_texts() for row in part.locator("tbody tr").all()]
    assert [row[0] for row in table] == ["256", "512", "1,024", "2,048", "4,096", "8,192"]
    assert table[-1][5] == "planned" and re.match(r"[\d.]+ m?s$", table[-1][6]), "flash runs on"
    assert all(number(row[7]) < 1e-4 for row in table[:-1])
    assert table[2][4] == table[3][4] == table[4][4], "flash's tiles stay"
    request = pb.PlanAttentionRequest()
    problem = {"seededEmbeddings": {"seed": 1, "tokens": 8192, "width": 128}, "seededWeights": {"seed": 2}}
    json_format.ParseDict({"selfAttention": problem, "options": {"queryHeads": 8}}, request)
    plan = attention.PlanAttention(request)
    assert table[-1][1] == f"{plan.score_grid_bytes / 2**30:.1f} GiB"


@pytest.mark.parametrize("lengths", ["-1", "0.5"])
def test_lengths_of_nonsense_are_bounded(open_page, lengths):
    part = body(open_page(f"#lengths={lengths}"), "compare")
    expect(part.locator("tbody tr")).to_have_count(1)
    expect(part.locator(".notice")).to_be_hidden()


def test_the_stack_bets_on_potter_until_the_head_that_finds_it_is_off(open_page, analysis):
    page = open_page("#source=stack")
    expect(page.locator("#bet .finding b")).to_have_text("Potter")
    expect(page.locator("#line")).to_have_text(re.compile("^Mrs attends most to Potter"))
    words = "Mr and Mrs Potter thanked the driver ; then Mrs".split()
    trace = analysis.TraceStack(analyses.TraceStackRequest(stack="induction", tokens=words))
    shown = page.locator("#bet .bars .number").all_inner_texts()
    want = [one.logit for one in trace.attributions] + [trace.embedding_logit, trace.bias_logit]
    assert np.allclose([float(text) for text in shown], want, atol=0.0051)
    expect(page.locator("#bet tbody tr").first).to_contain_text(f"{trace.bets[0].logit:.2f}")
    part = body(page, "ablation")
    part.get_by_label("off: layer 1, head 3").check()
    expect(part.locator(".finding")).to_contain_text("With all heads the bet is Potter (0.93). Now it is She")
    expect(page.locator("#bet .finding b")).to_have_text("She")


def test_another_words_logit_is_taken_apart(open_page):
    page = open_page("#source=stack")
    word = page.locator("#bet tbody button").nth(1).inner_text()
    page.locator("#bet tbody button").nth(1).click()
    expect(page.locator("#bet h3")).to_have_text(f"What adds to “{word}”")


def test_tensors_come_from_files(open_page, tmp_path, attention):
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal((1, 2, 6, 8)).astype("<f4") for name in ("query", "key", "value")}
    page = open_page("#source=file", ready=False)
    expect(page.locator("#error")).to_contain_text("Choose a file of embeddings, or one each for Q, K and V.")
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        page.locator(f"[data-file={name}]").set_input_files(tmp_path / f"{name}.npy")
    expect(page.locator("#map")).to_be_visible()
    request = pb.AttendRequest()
    for name, array in arrays.items():
        getattr(request.query_key_value, name).shape.extend(array.shape)
        getattr(request.query_key_value, name).f32_le = array.tobytes()
    json_format.ParseDict({"maps": [{"heads": [0], "full": {}}]}, request.outputs)
    want = np.frombuffer(attention.Attend(request).maps[0].weights.f32_le, "<f4").reshape(6, 6)
    assert np.array_equal(numbers(page)[2].astype(np.float32), want)


@pytest.mark.parametrize(
    ("array", "word"), [(np.zeros((4, 16)), "float32"), (np.asfortranarray(np.ones((4, 16), "<f4")), "Fortran")]
)
def test_a_file_that_cannot_be_read_is_said(open_page, tmp_path, array, word):
    np.save(tmp_path / "bad.npy", array)
    page = open_page("#source=file", ready=False)
    page.locator("[data-file=embeddings]").set_input_files(tmp_path / "bad.npy")
    expect(page.locator("#file-words")).to_contain_text(word)
    expect(page.locator("#error")).to_contain_text(word)
    page.get_by_role("button", name="Drop the embeddings").click()
    expect(page.locator("#error")).to_contain_text("Choose a file of embeddings")
    expect(page.locator("[data-file=embeddings]")).to_be_focused()


def save(path, shape):
    np.save(path, np.random.default_rng(3).standard_normal(shape).astype("<f4"))
    return path


def test_of_embeddings_and_q_k_v_the_last_choice_is_read(open_page, tmp_path):
    page = open_page("#source=file", ready=False)
    embeddings = save(tmp_path / "embeddings.npy", (7, 32))
    page.set_input_files("[data-file=embeddings]", embeddings)
    expect(page.locator("#picture:not(.stale)")).to_be_visible()
    page.set_input_files("[data-file=query]", save(tmp_path / "query.npy", (1, 4, 12, 8)))
    expect(page.locator("#file-words")).to_contain_text("the embeddings dropped")
    expect(page.locator("#error")).to_contain_text("choose K and V, too")
    for name in ("key", "value"):
        page.set_input_files(f"[data-file={name}]", save(tmp_path / f"{name}.npy", (1, 4, 9, 8)))
    expect(page.locator("#error")).to_be_hidden()
    assert numbers(page)[2].shape == (12, 9)
    expect(page.get_by_role("button", name="Drop the embeddings")).to_be_hidden()
    page.set_input_files("[data-file=embeddings]", embeddings)
    expect(page.locator("#file-words")).to_contain_text("Q, K, V dropped")
    page.wait_for_selector("#picture:not(.stale)")
    assert numbers(page)[2].shape == (7, 7)


def test_a_file_can_be_dropped(open_page, tmp_path):
    page = open_page("#source=file", ready=False)
    for name in ("query", "key", "value"):
        page.set_input_files(f"[data-file={name}]", save(tmp_path / f"{name}.npy", (1, 4, 9, 8)))
    page.get_by_role("button", name="Drop K").click()
    expect(page.locator("#error")).to_contain_text("choose K, too")
    expect(page.get_by_role("button", name="Drop K")).to_be_hidden()
    assert page.locator("[data-file=key]").evaluate("field => field.files.length") == 0


def test_zoom_goes_to_exact_weights_and_back(open_page):
    page = open_page("#source=long&tokens=2048")
    expect(page.locator("#zoom-words")).to_contain_text("pooled to 512 × 512, each cell the largest of 16 weights")
    page.locator("#map").hover()
    page.mouse.wheel(0, -900)
    expect(page.locator("#zoom-words")).to_contain_text("exact weights")
    assert "zoom=" in page.url
    page.click("[data-zoom=whole]")
    expect(page.locator("#zoom-words")).to_contain_text("rows 0–2047")


@pytest.mark.parametrize(
    ("fragment", "words"),
    [
        ("tokens=513", "pooled to 512 × 512, each cell the largest of up to 4 weights"),
        ("tokens=1024&zoom=0,600,0,512", "pooled to 512 × 512, each cell the largest of up to 2 weights"),
        ("tokens=1024", "pooled to 512 × 512, each cell the largest of 4 weights"),
        ("tokens=1000&head=mean", "pooled to 256 × 256, each cell the mean of up to 16 weights of each head"),
    ],
)
def test_how_many_weights_a_cell_stands_for_is_true(open_page, fragment, words):
    expect(open_page(f"#source=long&{fragment}").locator("#zoom-words")).to_contain_text(words)


def test_a_long_file_is_pooled_and_can_be_zoomed(open_page, tmp_path):
    np.save(tmp_path / "long.npy", np.random.default_rng(2).standard_normal((600, 64)).astype("<f4"))
    page = open_page("#source=file", ready=False)
    page.locator("[data-file=embeddings]").set_input_files(tmp_path / "long.npy")
    expect(page.locator("#zoom-words")).to_contain_text("rows 0–599, keys 0–599: pooled")
    page.click("[data-zoom=in]")
    expect(page.locator("#zoom-words")).to_contain_text("rows 150–449, keys 150–449: exact weights")


def test_a_part_is_dragged_and_the_drag_locks_no_row(open_page):
    page = open_page("#source=long&tokens=2048&zoom=1000,128,1000,128")
    frame = page.locator("#map").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + 200
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y - 60, steps=6)
    page.mouse.up()
    expect(page.locator("#zoom-words")).not_to_contain_text("rows 1000–1127")
    assert "row=" not in page.url
    begin = [int(text) for text in re.findall(r"(\d+)–", page.inner_text("#zoom-words"))]
    assert begin[0] > 1000 and begin[1] > 1000
