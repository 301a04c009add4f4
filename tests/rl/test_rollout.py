"""Responses as rows: what has weight, what doesn't, and what the check tells."""

import pytest
import torch

from folio.data.records import Prompt
from folio.rl.rollout import Response, Rollout, as_rows

PROMPT = Prompt(({"role": "user", "content": "?"},), "", "")
END, PAD = 9, 0


def response(prompt_ids, ids) -> Response:
    logprobs = [-0.1 * i for i in ids]
    return Response(PROMPT, prompt_ids, ids, logprobs, "", ids[-1] == END, 0.0, {})


SAID = [
    response([5, 6, 7], [1, 2, END]),
    response([5], [END]),
    response([5, 6], [PAD, 3, PAD]),  # cut; and it said the padding token itself
]


def test_the_first_weight_is_on_the_first_token_and_the_last_on_end():
    rows = as_rows(SAID, PAD)
    assert rows.inputs.tolist() == [[5, 6, 7, 1, 2], [5, 0, 0, 0, 0], [5, 6, 0, 3, 0]]
    assert rows.targets.tolist() == [[6, 7, 1, 2, 9], [9, 0, 0, 0, 0], [6, 0, 3, 0, 0]]
    assert rows.weights.tolist() == [[0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 1, 1, 0]]
    for row, said in enumerate(SAID):
        here = rows.weights[row] != 0
        assert rows.targets[row][here].tolist() == said.ids
        assert rows.logprobs[row][here].tolist() == pytest.approx(said.logprobs)
    assert rows.logprobs[rows.weights == 0].abs().max() == 0


@pytest.mark.parametrize("pad", [END, 3, 5])
def test_padding_that_means_something_else_too_takes_no_weight_away(pad):
    """`ids != pad` would drop every END where the two are one."""
    rows = as_rows(SAID, pad)
    assert torch.equal(rows.weights, as_rows(SAID, PAD).weights)
    said = [rows.targets[row][rows.weights[row] != 0].tolist() for row in range(3)]
    assert said == [r.ids for r in SAID]


def make_rollout(**changes) -> Rollout:
    rows = as_rows(SAID, PAD)
    numbers = {
        "prompts": [PROMPT] * 3,
        "texts": [""] * 3,
        "group": 1,
        "inputs": rows.inputs,
        "targets": rows.targets,
        "weights": rows.weights,
        "finished": torch.tensor([True, True, False]),
        "counts": torch.tensor([True, True, False]),
        "rewards": torch.zeros(3),
        "sampler_logprobs": rows.logprobs,
        "old_logprobs": rows.logprobs,
    }
    return Rollout(**(numbers | changes))


def test_rows_that_do_not_count_are_not_learned_from_but_are_measured():
    rollout = make_rollout(reference_logprobs=torch.zeros(3, 5))
    assert rollout.learned.sum(1).tolist() == [3, 1, 0]
    totals = [sum(r.logprobs) for r in SAID]
    assert rollout.kl[0] == pytest.approx(sum(totals) / 3)
    assert make_rollout().kl is None


def test_the_difference_to_the_sampler_is_of_response_tokens_only():
    old = as_rows(SAID, PAD).logprobs.clone()
    old[0, 3] += 0.25
    old[1, 4] += 9.0  # padding
    assert make_rollout(old_logprobs=old).sampler_difference == pytest.approx(0.25)
    assert make_rollout().sampler_difference == 0
