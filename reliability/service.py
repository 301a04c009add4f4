"""The engine and the server that the tests have, for rows that try them harder."""

import sys

from reliability.runner import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from engines import (
    VARIED,
    BoundedEngine,
    check_empty,
    check_pages,
    engine_of,
    model_of,
    outcome,
    random_request,
)
from serving import running, served

__all__ = [
    "VARIED",
    "BoundedEngine",
    "check_empty",
    "check_pages",
    "engine_of",
    "model_of",
    "outcome",
    "random_request",
    "running",
    "served",
]
