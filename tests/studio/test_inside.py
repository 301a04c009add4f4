"""The views of one text: what they show is what the model computes."""

import html
import json
import re

import pytest
import torch

from folio.config import UserError
from folio.infer.sampling import GREEDY, Sampling
from folio.studio import inside
from folio.studio.tokens import small_tokenizers, token_record, tokens_view
from folio.text.byte import ByteTokenizer
from folio.training.run import Run
from folio.viz.attention import pack

XSS = (
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x onerror=alert(1)>",
    "![x](https://evil.example/x.png) [y](javascript:alert(1))",
    '"><svg onload=alert(1)>',
    "${alert(1)} {{constructor.constructor('alert(1)')()}} @children",
    "</textarea></style><iframe src=//evil.example>",
)


def test_attention_of_a_text_is_embedded_for_the_script(studio):
    view = inside.attention_of(studio.load("base"), "a hen")
    block = re.search(r'<script type="application/json">(.*?)</script>', view)[1]
    data = json.loads(block)
    assert data["tokens"] == ["a", "·", "h", "e", "n"]
    assert (data["layers"], data["heads"], data["steps"]) == (2, 2, [7])


def test_the_recorded_sentence_is_shown_or_it_is_said_that_there_is_none(studio):
    loaded = studio.load("experts")
    with pytest.raises(UserError, match="recorded no attention"):
        inside.recorded_attention(loaded)
    path = Run(loaded.folder).figures / "attention.json"
    path.parent.mkdir(exist_ok=True)
    weights = torch.eye(2)[None, None].numpy()
    entries = [pack(step, weights) for step in (0, 5)]
    path.write_text(json.dumps({"tokens": ["a", "b"], "steps": entries}))
    assert '"steps":[0,5]' in inside.recorded_attention(loaded)
    path.unlink()


def test_candidates_are_shown_with_the_cut_that_removed_them(studio):
    loaded = studio.load("base")
    plain = inside.next_token(loaded, "a hen", Sampling())
    assert plain.count("<li") == inside.SHOWN
    assert "cut by" not in plain
    view = inside.next_token(loaded, "a hen", Sampling(top_k=5))
    assert view.count("cut by top-k") == inside.SHOWN - 5
    assert "All other tokens together" in view


def test_drawing_takes_the_likeliest_when_greedy_and_whole_characters(studio):
    loaded = studio.load("base")
    scores = loaded.next_scores(list(b"a hen"))
    ordinary = scores.argmax().item()
    piece = inside.draw_token(loaded, "a hen", GREEDY, seed=0)
    if ordinary < 128:
        assert piece == chr(ordinary)
    for seed in range(20):
        inside.draw_token(loaded, "a hen", Sampling(), seed).encode()
    with torch.no_grad():
        loaded.model.head.weight[loaded.tokenizer.end_of_text] = 0
    assert inside.draw_token(loaded, "x" * 192, Sampling(), 0) == ""


def test_scores_are_remembered_but_not_forever(studio):
    loaded = studio.load("base")
    first = loaded.next_scores([1, 2])
    assert loaded.next_scores([1, 2]) is first
    for number in range(40):
        loaded.next_scores([number])
    assert len(loaded._scores) == 32


def test_the_lens_has_a_row_for_each_layer_and_the_embedding(studio):
    view = inside.layers_of(studio.load("base"), "hen")
    rows = re.findall(r'<th scope="row">(.*?)</th>', view)
    assert rows == ["layer 2", "layer 1", "embedding"]
    assert len(re.findall("<td", view)) == 9
    assert len(re.findall(r'class="(?:deep )?marked"', view)) >= 3  # the last row


def test_only_so_many_tokens_are_drawn_and_that_is_said(studio):
    view = inside.layers_of(studio.load("base"), "x" * 80)
    assert "The first 64 of 80 tokens are shown." in view


def test_experts_are_shown_where_there_are_some(studio):
    assert "This run has no experts" in inside.experts_of(studio.load("base"), "hen")
    view = inside.experts_of(studio.load("experts"), "hen")
    assert view.count('<th scope="row">expert') == 4
    assert len(re.findall('class="(?:deep )?marked"', view)) == 6  # 3 tokens, 2 each


@pytest.mark.parametrize("text", XSS)
def test_no_text_becomes_markup(studio, text):
    loaded = studio.load("experts")
    views = [
        tokens_view(text, loaded.tokenizer, text),
        inside.attention_of(loaded, text),
        inside.next_token(loaded, text, Sampling()),
        inside.layers_of(loaded, text),
        inside.experts_of(loaded, text),
    ]
    for view in views:
        tags = set(re.findall(r"<([a-zA-Z]+)", view))
        assert not tags & {"img", "iframe", "textarea", "style"}
        assert not re.search(r"<[^>]* on\w+=", view)
        assert "<script>" not in view


# ---- tokens --------------------------------------------------------------------------


def test_every_kind_of_tokenizer_cuts_the_text(studio):
    view = html.unescape(tokens_view("a red kite", ByteTokenizer(), "mine"))
    names = [*small_tokenizers(), "mine (this run)"]
    assert len(names) == 6
    assert all(name in view for name in names)
    assert view.count("bytes per token.") == 6


def test_a_tokenizer_that_lacks_a_letter_says_so_in_its_place():
    view = tokens_view("☃ snow")
    assert view.count("notice") >= 1
    assert "U+2603" in view
    assert view.count("bytes per token.") == 4


def test_a_record_has_the_bytes_of_each_token():
    record = token_record(ByteTokenizer(), "né")
    assert [token["bytes"] for token in record["tokens"]] == [1, 1, 1]
    assert [token["text"] for token in record["tokens"]] == ["n", "<C3>", "<A9>"]
