"""Tokens, samples and attention."""

import json
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from folio.config import UserError
from folio.viz.attention import (
    Attention,
    attention_view,
    cells,
    head_grid,
    heat_map,
    levels,
    pack,
    read_attention,
    thinned,
)
from folio.viz.samples import group, moments, sample_strip, sample_text
from folio.viz.tokens import read_tokens, token_lengths, token_rows, token_strip


def triangle(layers=1, heads=1, length=6, seed=0) -> np.ndarray:
    """Causal attention weights, rows summing to 1, as stored."""
    scores = np.random.default_rng(seed).normal(0, 2, (layers, heads, length, length))
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    share = np.exp(scores)
    return np.rint(share / share.sum(-1, keepdims=True) * 255).astype(np.uint8)


# Attention


def repaint(drawing: str, length: int) -> np.ndarray:
    """The matrix of levels that the strokes of `cells` paint; -1 where nothing is."""
    painted = np.full((length, length), -1)
    for path in xml.fromstring(f"<g>{drawing}</g>"):
        level = int(path.attrib["stroke"].removeprefix("var(--attention-").rstrip(")"))
        for stroke in path.attrib["d"].split("M")[1:]:
            place, run = stroke.split("h")
            x, y = map(float, place.split())
            painted[int(y), int(x) : int(x) + int(run)] = level
    return painted


def test_strokes_paint_every_weight_and_nothing_of_the_future():
    weights = triangle(length=9)[0, 0]
    painted = repaint(cells(weights), 9)
    expected = np.where(np.tri(9, dtype=bool), levels(weights), -1)
    assert (painted == expected).all()


def test_attention_that_looks_ahead_is_drawn_whole():
    weights = np.full((4, 4), 64, dtype=np.uint8)
    assert (repaint(cells(weights), 4) == levels(weights)).all()


def test_heat_maps_are_well_formed():
    tokens = ["<a>", " &", '"', "\n", "", "long token text"]
    root = xml.fromstring(heat_map(triangle()[0, 0], tokens))
    assert "<a>" in {text.text for text in root.findall("text")}
    xml.fromstring(head_grid(triangle(3, 4)))


def test_the_largest_view_stays_small():
    """36 heads, 64 tokens, 20 recorded steps: thinned, and the ends are kept."""
    weights = [triangle(6, 6, 64, seed) for seed in range(20)]
    record = Attention(["word"] * 64, list(range(20)), weights)
    fewer = thinned(record)
    assert (fewer.steps[0], fewer.steps[-1]) == (0, 19)
    assert len(attention_view(record)) < 2_600_000


def test_pack_and_read_agree(tmp_path):
    share = triangle(2, 3, 5) / 255.0
    path = tmp_path / "attention.json"
    steps = [pack(100, share), pack(0, share * 0)]
    path.write_text(json.dumps({"tokens": list("abcde"), "steps": steps}))
    record = read_attention(path)
    assert record.steps == [0, 100]
    assert (record.weights[1] == triangle(2, 3, 5)).all()
    assert read_attention(tmp_path / "none.json") is None


def test_a_longer_sentence_is_cut(tmp_path):
    path = tmp_path / "attention.json"
    entry = pack(0, triangle(1, 1, 80) / 255.0)
    path.write_text(json.dumps({"tokens": ["x"] * 80, "steps": [entry]}))
    record = read_attention(path)
    assert (len(record.tokens), record.weights[0].shape) == (64, (1, 1, 64, 64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": ["a"]}, "for 1 tokens"),
        ({"steps": []}, "not empty"),
        ({"steps": [{"step": 3, "shape": [1, 1, 2, 2], "weights": "AAA"}]}, "step 3"),
        ({"steps": [{"step": 3, "shape": [1, 1, 2, 2], "weights": "AAAA"}]}, "step 3"),
        ({"steps": [{"shape": [1, 1, 2, 2]}]}, "no number 'step'"),
        ({"steps": [{"step": 1, "shape": None}]}, "shape None"),
    ],
)
def test_damaged_attention_is_named(tmp_path, change, words):
    path = tmp_path / "attention.json"
    good = {"tokens": ["a", "b"], "steps": [pack(0, triangle(1, 1, 2) / 255.0)]}
    path.write_text(json.dumps(good | change))
    with pytest.raises(UserError, match=words) as caught:
        read_attention(path)
    assert str(path) in str(caught.value)


# Tokens


def test_tokens_show_text_id_and_bytes():
    tokens = [
        {"id": 5, "text": " <b>", "bytes": 4, "special": False},
        {"id": 9, "text": "<|endoftext|>", "bytes": 0, "special": True},
    ]
    root = xml.fromstring(token_strip(tokens))
    assert [chip.find("b").text for chip in root] == ["·<b>", "<|endoftext|>"]
    assert [chip.find("small").text for chip in root] == ["5", "9"]
    assert [chip.find("i").attrib["style"] for chip in root] == [
        "--bytes:4",
        "--bytes:0",
    ]
    assert root[1].attrib["class"] == "token special"
    xml.fromstring(token_lengths(tokens))


def test_equal_texts_stand_below_one_another():
    rows = {"letters": [("a", 0), (" ", 1), ("b", 2)], "words": [("a ", 7), ("b", 2)]}
    boxes = [
        (float(box.attrib["x"]), float(box.attrib["width"]), box.attrib["y"])
        for box in xml.fromstring(token_rows(rows)).iter("rect")
    ]
    (a, blank, b), (first, last) = boxes[:3], boxes[3:]
    assert first[:2] == (a[0], pytest.approx(a[1] + blank[1], abs=0.1))
    assert last[:2] == pytest.approx(b[:2], abs=0.1)
    assert last[2] != b[2], "one row is below the other"


def test_very_many_tokens_are_cut_and_counted():
    strip = token_strip([{"id": 1, "text": "a", "bytes": 1}] * 1000)
    assert "and 600 more" in strip


@pytest.mark.parametrize("tokens", [None, [3], [{"id": 1, "text": "a"}]])
def test_damaged_tokens_are_named(tmp_path, tokens):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"tokens": tokens}))
    with pytest.raises(UserError, match=r"tokens\.json"):
        read_tokens(path)


# Samples


def test_moments_begin_end_and_widen():
    chosen = moments(range(0, 2001, 50))
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 2000, 5)
    gaps = np.diff(chosen)
    assert (np.diff(gaps) >= 0).all()
    assert moments([7]) == [7]
    assert moments([]) == []


@pytest.mark.parametrize("text", ["Once upon", " upon"])
def test_the_prompt_is_shown_once_and_apart(text):
    root = xml.fromstring(sample_text({"step": 1, "prompt": "Once", "text": text}))
    assert root.find("span").text == "Once"
    assert root.find("span").tail == " upon"


def test_samples_keep_their_order_and_their_losses():
    rows = [
        {"step": s, "prompt": "p", "text": f"t{s}"} for s in (40, 0, 10, 20, 30, 50)
    ]
    ((key, samples),) = group(rows).items()
    assert key == ("p", None)
    strip = sample_strip(samples, {0: 5.0, 50: 1.5})
    root = xml.fromstring(strip)
    shown = [item.find("div/b").text for item in root.find("ol")]
    assert shown == sorted(shown, key=int)
    assert "val. loss 1.500" in strip
    assert len(root.find("details/ol")) == 6


def test_a_long_sample_is_cut():
    text = sample_text({"step": 0, "prompt": "", "text": "word " * 1000})
    assert len(text) < 800
