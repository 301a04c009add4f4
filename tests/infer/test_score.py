"""Chances of a text that is there, and one vector of it, against the plain way."""

import pytest
import torch

from engines import VOCABULARY, model_of
from folio.config import UserError
from folio.infer import score
from folio.infer.score import last_hidden, score_text, text_vector

MODEL = model_of()
IDS = [(7 * i + i * i) % VOCABULARY for i in range(40)]


def test_log_probs_are_those_of_one_forward_pass():
    with torch.no_grad():
        logprobs = MODEL(torch.tensor([IDS])).logits[0, :-1].log_softmax(-1)
    found = score_text(MODEL, IDS, top=3)
    assert [token.id for token in found] == IDS[1:]
    wanted = [logprobs[place, id].item() for place, id in enumerate(IDS[1:])]
    assert [token.logprob for token in found] == pytest.approx(wanted, abs=1e-5)
    for token, row in zip(found, logprobs, strict=True):
        values, ids = row.topk(3)
        assert [id for id, _ in token.top] == ids.tolist()
        assert [value for _, value in token.top] == pytest.approx(values.tolist())


@pytest.mark.parametrize("at_once", [1, VOCABULARY, 5 * VOCABULARY])
def test_a_few_rows_at_a_time_give_the_same(monkeypatch, at_once):
    wanted = score_text(MODEL, IDS, top=2)
    monkeypatch.setattr(score, "AT_ONCE", at_once)
    found = score_text(MODEL, IDS, top=2)
    assert [token.id for token in found] == [token.id for token in wanted]
    assert [t.logprob for t in found] == pytest.approx([t.logprob for t in wanted])


def test_no_more_likeliest_tokens_than_there_are():
    assert len(score_text(MODEL, [1, 2], top=1000)[0].top) == VOCABULARY
    assert score_text(MODEL, [1, 2])[0].top == ()


def test_one_token_has_no_chances_but_a_vector():
    assert score_text(MODEL, [3]) == []
    assert text_vector(MODEL, [3]).norm() == pytest.approx(1.0)


def test_the_vector_is_the_mean_of_length_one():
    with torch.no_grad():
        mean = MODEL.hidden(torch.tensor([IDS]))[0][0].mean(0)
    vector = text_vector(MODEL, IDS)
    assert torch.allclose(vector, mean / mean.norm(), atol=1e-6)
    assert vector.dtype == torch.float32
    assert not vector.requires_grad
    assert text_vector(MODEL.double(), IDS).dtype == torch.float32
    MODEL.float()


@pytest.mark.parametrize(
    ("ids", "told"),
    [([], "empty|no token|at least"), ([VOCABULARY], "61|vocab"), ([1] * 129, "128")],
)
def test_what_the_model_cannot_read_is_one_line(ids, told):
    with pytest.raises(UserError, match=told) as error:
        last_hidden(MODEL, ids)
    assert "\n" not in str(error.value)
