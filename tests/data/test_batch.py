"""Batches: named tensors with one denominator."""

import pytest
import torch

from folio.data import Batch


def test_a_tensor_is_an_item_and_an_attribute():
    inputs = torch.arange(6).view(2, 3)
    batch = Batch(6, inputs=inputs, weights=torch.ones(2, 3))
    assert batch.inputs is inputs
    assert batch["inputs"] is inputs
    assert list(batch) == ["inputs", "weights"]
    assert isinstance(batch.denominator, float)


def test_repr_shows_shapes_types_and_the_denominator():
    batch = Batch(2.5, inputs=torch.zeros(2, 3, dtype=torch.long))
    assert repr(batch) == "Batch(inputs (2, 3) int64, denominator 2.5)"


def test_to_moves_every_tensor_and_keeps_the_denominator():
    moved = Batch(4, inputs=torch.zeros(2), weights=torch.ones(2)).to("meta")
    assert {t.device.type for t in moved.values()} == {"meta"}
    assert moved.denominator == 4.0
    assert type(moved) is Batch


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known():
    batch = Batch(1, inputs=torch.zeros(1))
    with pytest.raises(AttributeError, match=r"no tensor 'targets'.*it has inputs"):
        _ = batch.targets
    assert not hasattr(batch, "targets")


@pytest.mark.parametrize("name", ["values", "items", "denominator", "to"])
def test_a_name_that_an_attribute_would_hide_is_refused(name):
    with pytest.raises((ValueError, TypeError), match=name):
        Batch(1, **{name: torch.zeros(1)})
