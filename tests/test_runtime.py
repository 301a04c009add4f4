"""The machine: what it lacks is told, or gone around."""

import re
from pathlib import Path

import pytest
import torch

from folio.config import UserError
from folio.runtime import doubles, find_device

SOURCE = Path(__file__).resolve().parent.parent / "src" / "folio"


def test_a_device_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UserError, match=r"'tpu' is not available here; found: .*cpu"):
        find_device("tpu")


class OnApple:
    """Stands for a tensor on a device without doubles."""

    device = torch.device("mps")

    def __init__(self, x: torch.Tensor):
        self.x = x

    def cpu(self) -> torch.Tensor:
        return self.x

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


def test_doubles_are_made_on_the_host_where_the_device_has_none():
    x = torch.tensor([0.5, 0.25])
    assert doubles(OnApple(x)).equal(x.double())
    assert doubles(x).dtype == torch.float64


def test_nobody_makes_doubles_where_a_device_may_have_none():
    careless = re.compile(r"(?<!cpu\(\))\.double\(\)")
    for layer in ("infer", "rl", "evals", "objectives", "training", "model"):
        for path in (SOURCE / layer).rglob("*.py"):
            assert not careless.search(path.read_text(encoding="utf-8")), path.name
    assert careless.search("x.sum().double()")
