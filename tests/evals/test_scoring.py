"""A reward model's scores: read at the right token, and alone as in any batch."""

import pytest
import torch

from folio.config import UserError
from folio.evals.scoring import ids_of, score_rows, scores_with
from folio.model.scorer import Scorer, ScorerConfig
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate
from helpers import tiny_model

TOKENIZER = ByteTokenizer()
TEXTS = ("", "a", "no", "a rather longer answer than the others", "yes", "yes and no")


def scorer(kind: str = "decoder", limit: int = 64, **shape) -> Scorer:
    shape = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": limit} | shape
    model = Scorer(tiny_model(**shape), ScorerConfig(kind)).eval()
    torch.nn.init.normal_(model.value_head.weight)
    return model


def asked(text: str):
    return ({"role": "user", "content": text},)


ANSWERED = [(asked("Who?"), text) for text in TEXTS]


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_score_does_not_depend_on_padding_or_batch(kind, positions):
    model = scorer(kind, positions=positions).double()
    together = scores_with(model, TOKENIZER)(ANSWERED)
    assert scores_with(model, TOKENIZER, max_batch=2)(ANSWERED) == pytest.approx(
        together, abs=1e-6
    )
    for one, wanted in zip(ANSWERED, together, strict=True):
        assert scores_with(model, TOKENIZER)([one]) == pytest.approx([wanted], abs=1e-6)
    backwards = scores_with(model, TOKENIZER)(ANSWERED[::-1])
    assert backwards[::-1] == pytest.approx(together, abs=1e-6)
    assert max(together) - min(together) > 0.1  # far more than the tolerance
    rows = [ids_of(*one, TOKENIZER) for one in ANSWERED]
    other_padding = score_rows(model, rows, pad=7).tolist()
    assert other_padding == pytest.approx(together, abs=1e-6)


def test_it_is_the_value_at_the_token_that_ends_the_answer():
    model = scorer()
    [found] = scores_with(model, TOKENIZER)([(asked("Who?"), "me")])
    said = [*asked("Who?"), {"role": "assistant", "content": "me"}]
    ids, _ = ChatTemplate().render(said, TOKENIZER)
    assert TOKENIZER.decode(ids[-1:]) == "<|end|>"
    values = model(torch.tensor([ids])).values[0]
    assert found == pytest.approx(values[-1].item(), abs=1e-6)
    assert (values[:-1] - found).abs().min() > 1e-3  # no other token's


def test_the_model_is_left_as_it_was():
    for training in (True, False):
        model = scorer(dropout=0.5).train(training)
        score = scores_with(model, TOKENIZER)
        assert score(ANSWERED) == score(ANSWERED)  # without dropout
        assert model.training is training
        assert all(weight.grad is None for weight in model.parameters())


def test_a_long_text_loses_its_beginning_and_that_is_told():
    said = []
    model = scorer(limit=16)
    long = (asked("x" * 30), "yes")
    score = scores_with(model, TOKENIZER, say=said.append)
    found = score([long, (asked("a"), "b")])
    assert said == [
        "1 of 2 texts to be scored lost their beginning: they are longer than the "
        "context of 16 tokens"
    ]
    ids = ids_of(*long, TOKENIZER)[-16:]
    assert found[0] == pytest.approx(
        model(torch.tensor([ids])).values[0, -1].item(), abs=1e-6
    )


def test_what_is_no_conversation_is_refused():
    with pytest.raises(UserError, match="nobody"):
        scores_with(scorer(), TOKENIZER)([(({"role": "nobody", "content": ""},), "a")])


def test_a_broken_model_is_refused():
    model = scorer()
    torch.nn.init.constant_(model.value_head.bias, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        scores_with(model, TOKENIZER)(ANSWERED)
