"""What all tests share: one thread of torch."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums over threads round differently, and CI machines have few cores."""
    torch.set_num_threads(1)
