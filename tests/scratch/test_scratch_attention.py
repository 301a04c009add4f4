"""One head by hand: the loops, the matrices and PyTorch agree; nobody looks ahead."""

import numpy as np
import torch
import torch.nn.functional as F

from folio.scratch.attention import Head, attend, attend_at_once, attention_weights


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_loops_equal_matrices_equal_pytorch():
    q, k, v = random(7, 4, seed=1), random(7, 4, seed=2), random(7, 3, seed=3)
    loops = attend(q.tolist(), k.tolist(), v.tolist())
    tensors = (torch.tensor(x)[None] for x in (q, k, v))
    theirs = F.scaled_dot_product_attention(*tensors, is_causal=True)[0]
    np.testing.assert_allclose(loops, theirs, rtol=1e-12)
    np.testing.assert_allclose(attend_at_once(q, k, v), theirs, rtol=1e-12)


def test_rows_are_chances_over_what_came_before():
    weights = attention_weights(random(5, 4).tolist(), random(5, 4, seed=9).tolist())
    assert [len(row) for row in weights] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([sum(row) for row in weights], 1)


def test_a_change_later_in_the_sentence_is_not_felt_before_it():
    head = Head(*(random(4, 4, seed=i).tolist() for i in range(3)))
    tokens = random(6, 4).tolist()
    changed = [*tokens[:4], [9.0, 9.0, 9.0, 9.0], tokens[5]]
    assert head(tokens)[:4] == head(changed)[:4]
    assert head(tokens)[4:] != head(changed)[4:]
