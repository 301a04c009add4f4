"""Responses as they are drawn: whose they are, where they end, by which chances."""

import pytest
import torch

from folio.config import UserError
from folio.infer.sampling import Sampling
from folio.rl.control import RolloutLength
from folio.rl.rewards import MixedReward, VerifierReward
from folio.rl.sampler import Sampler
from rl.letters import END, PROMPTS, TOKENIZER, eager_to_stop, letter, tiny_prompts

SIX = RolloutLength(6, 6, 6, target=1.0)


def make_sampler(policy=None, prompts=None, reward=None, **changes) -> Sampler:
    options = {"group": 3, "sampling": Sampling(), "gold": None, "seed": 0}
    return Sampler(
        policy or eager_to_stop(),
        prompts or tiny_prompts(),
        reward or VerifierReward(letter),
        **(options | {"max_batch": 16} | changes),
    )


def said(responses) -> list[tuple[str, list[int]]]:
    return [(r.prompt.text, r.ids) for r in responses]


def test_a_groups_responses_stand_together_and_share_their_prompt():
    responses = make_sampler().draw(SIX).kept
    assert len(responses) == 12
    for start in range(0, 12, 3):
        group = responses[start : start + 3]
        assert len({r.prompt.text for r in group}) == 1
        assert len({tuple(r.prompt_ids) for r in group}) == 1
        assert len({tuple(r.ids) for r in group}) > 1  # chances of their own
    texts = [responses[start].prompt.text for start in range(0, 12, 3)]
    assert sorted(texts) == sorted(p.text for p in PROMPTS)


def test_nothing_stands_after_end_and_the_text_ends_before_it():
    responses = make_sampler(group=32).draw(SIX).kept
    ended = [r for r in responses if r.finished]
    assert 10 < len(ended) < len(responses) - 10
    for r in responses:
        assert len(r.ids) == len(r.logprobs) <= 6
        assert END not in r.ids[:-1]
        assert r.finished == (r.ids[-1] in (END, TOKENIZER.end_of_text))
        assert r.finished or len(r.ids) == 6
        assert r.text == TOKENIZER.decode(r.ids, special=False)


def test_rewards_are_of_the_text_before_end_and_its_own_prompt():
    seen = []

    def reward(prompts, texts, finished):
        seen.extend(zip([p.text for p in prompts], texts, finished, strict=True))
        return torch.arange(len(texts)).float()

    responses = make_sampler(reward=reward).draw(SIX).kept
    assert [r.reward for r in responses] == list(range(12))
    assert [(r.prompt.text, r.text, r.finished) for r in responses] == seen
    assert not any("<|end|>" in text for _, text, _ in seen)


def test_chances_belong_to_the_place_of_a_prompt_not_to_its_neighbors():
    whole = make_sampler(prompts=tiny_prompts(4)).draw(SIX).kept
    halves = make_sampler(prompts=tiny_prompts(2))
    parts = [*halves.draw(SIX).kept, *halves.draw(SIX).kept]
    assert said(parts) == said(whole)
    assert [r.logprobs for r in parts] == [r.logprobs for r in whole]
    again = make_sampler(max_batch=5).draw(SIX).kept
    assert said(again) == said(whole)


def test_other_seeds_and_later_prompts_have_other_chances():
    sampler = make_sampler()
    first = sampler.draw(SIX).kept
    assert said(first) == said(make_sampler().draw(SIX).kept)
    assert said(first) != said(make_sampler(seed=1).draw(SIX).kept)
    later = dict(said(sampler.draw(SIX).kept))
    assert any(later[prompt] != ids for prompt, ids in said(first))


def test_parts_of_a_mixed_reward_and_gold_are_kept_by_name():
    mixed = MixedReward([(2.0, VerifierReward(letter), "letter")])
    sampler = make_sampler(reward=mixed, gold=lambda p, t, f: len(t))
    for r in sampler.draw(SIX).kept:
        worth = letter(r.prompt, r.text, r.finished)
        assert r.measures == {"reward_letter": worth, "gold": len(r.text)}
        assert r.reward == 2 * worth


# ------------------------------------------------------------------ drawing again


class Scripted:
    """Rewards by round: each a list of the rewards of one group."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)

    def __call__(self, prompts, texts, finished):
        return torch.tensor(self.rounds.pop(0)).flatten().float()


DEAD, LIVE = [1, 1], [0, 1]


def drawn(rounds, redraw):
    reward = Scripted(*rounds)
    found = make_sampler(reward=reward, group=2).draw(SIX, redraw)
    kept = [[r.reward for r in found.kept[i : i + 2]] for i in range(0, 8, 2)]
    return found, kept, reward


def test_live_groups_of_a_new_round_take_the_places_of_dead_ones():
    found, kept, reward = drawn(
        [[DEAD, LIVE, DEAD, LIVE], [[3, 3], [4, 5], [6, 6], [7, 8]], [DEAD] * 4], 3
    )
    assert kept == [[4, 5], LIVE, [7, 8], LIVE]
    assert (found.rounds, len(reward.rounds)) == (1, 1)  # no more than needed
    assert len(found.everything) == 16
    for start in range(0, 8, 2):  # groups were moved whole
        pair = found.kept[start : start + 2]
        assert pair[0].prompt == pair[1].prompt
        place = found.everything.index(pair[0])
        assert place % 2 == 0
        assert found.everything[place + 1] is pair[1]


def test_what_no_round_fills_stays_dead_and_rounds_are_limited():
    found, kept, reward = drawn(
        [[DEAD, LIVE, DEAD, DEAD], [DEAD, [2, 3], DEAD, DEAD], [DEAD] * 4, [LIVE] * 4],
        2,
    )
    assert kept == [[2, 3], LIVE, DEAD, DEAD]
    assert (found.rounds, len(reward.rounds)) == (2, 1)


@pytest.mark.parametrize("redraw", [0, 2])
def test_without_need_or_leave_nothing_is_drawn_again(redraw):
    groups = [LIVE] * 4 if redraw else [DEAD] * 4
    found, kept, _ = drawn([groups], redraw)
    assert (kept, found.rounds) == (groups, 0)
    assert found.kept == found.everything


def test_more_live_groups_than_places_are_left_over():
    _, kept, _ = drawn([[LIVE, DEAD, LIVE, LIVE], [[2, 3], [4, 5], LIVE, LIVE]], 1)
    assert kept == [LIVE, [2, 3], LIVE, LIVE]


def test_a_difference_to_rows_that_do_not_count_is_no_life():
    def ended(prompts, texts, finished):
        return torch.tensor([1.0 if end else -9.0 for end in finished])

    shortened = RolloutLength(6, least=6, most=8, target=1.0)
    for length, rounds in ((shortened, 1), (SIX, 0)):
        sampler = make_sampler(reward=ended, group=16)
        found = sampler.draw(length, redraw=1)
        assert 0 < sum(r.finished for r in found.kept) < 64
        assert found.rounds == rounds
        assert list(found.kept) == list(found.everything[:64])


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "cut",
    [
        {"top_k": 50},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"temperature": 0.0},
    ],
)
def test_other_distributions_than_the_policys_are_refused(cut):
    [(name, value)] = cut.items()
    with pytest.raises(UserError, match=f"{name} = {value}"):
        make_sampler(sampling=Sampling(**cut))


def test_another_temperature_is_no_other_policy():
    make_sampler(sampling=Sampling(0.7))
    cool = make_sampler(sampling=Sampling(0.2)).draw(SIX).kept
    assert said(cool) != said(make_sampler().draw(SIX).kept)
