"""Rewards: verified, modelled, mixed; read at END, and never of what has none."""

import math

import pytest
import torch

from folio.config import UserError
from folio.data.records import Prompt
from folio.data.verifiers import exact_answer
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.model.scorer import Scorer, ScorerConfig
from folio.rl.rewards import MixedReward, ModelReward, VerifierReward, judge
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate

TOKENIZER = ByteTokenizer()
TEXTS = ["no", "", "a rather longer answer than the others", "yes", "yes and no"]
DONE = [True] * 5


def prompt(text: str = "Who?", answer: str = "yes") -> Prompt:
    asked = ({"role": "user", "content": text},)
    return Prompt(asked, answer, answer, where=f"line {len(text)}")


PROMPTS = [prompt(text) for text in ("Who?", "What is it?", "?", "Who?", "Whose?")]


def make_scorer(kind: str = "decoder", **config) -> Scorer:
    torch.manual_seed(3)
    shape = {"vocab_size": TOKENIZER.vocab_size, "d_model": 16, "n_heads": 2}
    trunk = Decoder(ModelConfig(**shape, n_layers=2, max_seq_len=80, dropout=0.3))
    scorer = Scorer(trunk, ScorerConfig(kind, **config))
    torch.nn.init.normal_(scorer.value_head.weight)
    return scorer


def at_end(scorer: Scorer, prompt: Prompt, text: str) -> float:
    """The score longhand: alone, without padding, at the token that ends the turn."""
    said = [*prompt.messages, {"role": "assistant", "content": text}]
    ids, _ = ChatTemplate().render(said, TOKENIZER)
    assert ids[-1] == TOKENIZER.special_id("<|end|>")
    with torch.no_grad():
        return scorer.eval()(torch.tensor([ids])).values[0, -1].item()


# ---------------------------------------------------------------------- verifiers


def test_a_verifier_is_asked_of_each_response_with_its_own_prompt_and_finish():
    asked = []

    def verifier(prompt, text, finished):
        asked.append((prompt.text, text, finished))
        return len(asked)

    finished = [True, False, True, False, True]
    found = VerifierReward(verifier)(PROMPTS, TEXTS, finished)
    assert found.tolist() == [1, 2, 3, 4, 5]
    wanted = zip((p.text for p in PROMPTS), TEXTS, finished, strict=True)
    assert asked == list(wanted)


def test_right_but_unfinished_is_what_the_verifier_says():
    reward = VerifierReward(exact_answer)
    asked = ([prompt(), prompt()], ["yes", "yes"])
    assert reward(*asked, [True, False]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "good"])
def test_a_verifier_that_gives_no_number_is_named_with_the_prompt(value):
    def verifier(prompt, text, finished):
        return value if text == "no" else 1.0

    with pytest.raises(UserError, match=rf"line 4.*'Who\?' returned {value!r}.*'no'"):
        VerifierReward(verifier)(PROMPTS, TEXTS, DONE)


# -------------------------------------------------------------------- reward models


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("max_batch", [1, 2, 64])
def test_the_score_is_read_at_end_whatever_stands_beside_it(kind, max_batch):
    scorer = make_scorer(kind, mean=0.3, deviation=2.0)
    found = ModelReward(scorer, TOKENIZER, max_batch=max_batch)(PROMPTS, TEXTS, DONE)
    wanted = [
        (at_end(scorer, p, t) - 0.3) / 2 for p, t in zip(PROMPTS, TEXTS, strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    assert max(wanted) - min(wanted) > 0.01  # far more than the tolerance


def test_unfinished_responses_are_never_shown_to_the_model():
    scorer = make_scorer()
    shown = []
    scorer.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    finished = [True, False, True, False, True]
    found = ModelReward(scorer, TOKENIZER, penalty=1.5)(PROMPTS, TEXTS, finished)
    assert sum(len(tokens) for tokens in shown) == 3
    lowest = found[[0, 2, 4]].min().item()
    assert found[1].item() == found[3].item() == pytest.approx(lowest - 1.5)
    shown.clear()
    none = ModelReward(scorer, TOKENIZER)(PROMPTS, TEXTS, [False] * 5)
    assert none.tolist() == [-1.0] * 5
    assert not shown


def test_the_model_is_left_as_it_was():
    scorer = make_scorer().train()
    before = {name: x.clone() for name, x in scorer.state_dict().items()}
    reward = ModelReward(scorer, TOKENIZER)
    found = [reward(PROMPTS, TEXTS, DONE) for _ in range(2)]
    assert torch.equal(*found)  # without dropout
    assert scorer.training
    assert not found[0].requires_grad
    assert all(p.grad is None for p in scorer.parameters())
    for name, x in scorer.state_dict().items():
        assert torch.equal(x, before[name]), name


def test_a_long_text_keeps_its_end_and_that_is_said_once():
    scorer, told = make_scorer(), []
    reward = ModelReward(scorer, TOKENIZER, say=told.append)
    asked = prompt("?" * 100)
    found = reward([asked, asked], ["no", "yes"], [True, True])
    said = [*asked.messages, {"role": "assistant", "content": "yes"}]
    ids, _ = ChatTemplate().render(said, TOKENIZER)
    with torch.no_grad():
        wanted = scorer.eval()(torch.tensor([ids[-80:]])).values[0, -1].item()
    assert found[1].item() == pytest.approx(wanted, abs=1e-5)
    reward([asked], ["no"], [True])
    assert len(told) == 1
    assert "lose their beginning" in told[0]


def test_a_model_whose_score_is_not_finite_is_refused():
    scorer = make_scorer()
    scorer.value_head.bias.data.fill_(math.nan)
    with pytest.raises(UserError, match=r"line 4: the reward returned nan.*'Who\?'"):
        judge(ModelReward(scorer, TOKENIZER), PROMPTS, TEXTS, DONE)


@pytest.mark.parametrize("penalty", [-0.1, math.nan, math.inf])
def test_an_impossible_penalty_is_refused(penalty):
    with pytest.raises(UserError, match=f"penalty = {penalty}"):
        ModelReward(make_scorer(), TOKENIZER, penalty=penalty)


# ---------------------------------------------------------------------------- mixed


def length(prompts, texts, finished):
    return torch.tensor([float(len(text)) for text in texts])


def test_a_mix_is_the_weighted_sum_and_its_parts_are_told():
    right = VerifierReward(exact_answer)
    mixed = MixedReward([(2.0, right, "right"), (-0.1, length, "length")])
    found, parts = judge(mixed, PROMPTS, TEXTS, DONE)
    assert parts["right"].tolist() == [0, 0, 0, 1, 0]
    assert parts["length"].tolist() == [2, 0, 38, 3, 10]
    assert found.tolist() == pytest.approx([-0.2, 0, -3.8, 1.7, -1.0])
    assert torch.equal(found, mixed(PROMPTS, TEXTS, DONE))
    alone, none = judge(length, PROMPTS, TEXTS, DONE)
    assert (alone.tolist(), none) == ([2, 0, 38, 3, 10], {})


def test_the_part_that_is_no_number_is_named():
    def broken(prompts, texts, finished):
        return torch.tensor([0.0, 0.0, math.inf, 0.0, 0.0])

    mixed = MixedReward([(1.0, length, "length"), (0.0, broken, "style")])
    with pytest.raises(UserError, match=r"line 1: style returned inf .*'\?'.*rather"):
        judge(mixed, PROMPTS, TEXTS, DONE)


def test_a_reward_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"shape \(1,\) for 5"):
        judge(lambda *asked: torch.zeros(1), PROMPTS, TEXTS, DONE)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "at least one"),
        ([(1.0, length, "a"), (1.0, length, "a")], "distinct names"),
        ([(math.nan, length, "a")], "weight of reward 'a' is nan"),
    ],
)
def test_an_impossible_mix_is_refused(terms, message):
    with pytest.raises(UserError, match=message):
        MixedReward(terms)
