"""Run the rows and write down what came of them: `python -m reliability --help`."""

from __future__ import annotations

import argparse
import sys

import torch

from reliability.record import report
from reliability.rows import ROWS
from reliability.runner import run_row


def main() -> int:
    """0 if every row kept its promise and every broken build was noticed, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m reliability", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the trials")
    parser.add_argument("--only", action="append", choices=list(ROWS), metavar="NAME")
    parser.add_argument(
        "--broken", action="store_true", help="only the builds that must fail"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat what has been done already"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    good = True
    for name in options.only or ROWS:
        row = ROWS[name]
        result = run_row(row, options.quick, options.again, broken_only=options.broken)
        good &= report(row, result)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
