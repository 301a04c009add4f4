"""What all tests share: the folder of `helpers` on the path, one thread of torch."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums over threads round differently, and CI machines have few cores."""
    torch.set_num_threads(1)
