"""A run that answers, one with experts, and a studio over both: made once."""

from pathlib import Path

import pytest

from folio.model.config import Experts
from folio.studio.state import Studio
from studio.made_runs import make_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """A root with runs: base, chat, experts (random weights)."""
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "base", "pretrain")
    make_run(root / "chat", "sft", seed=1)
    experts = Experts(count=4, active=2, width=8)
    make_run(root / "experts", "pretrain", 2, experts=experts, mlp_pattern="de")
    return root


@pytest.fixture
def studio(runs, tmp_path):
    """A studio of those runs whose preferences are this test's own."""
    made = Studio([], runs, device="cpu", preferences=tmp_path / "preferences.jsonl")
    yield made
    made.close()
