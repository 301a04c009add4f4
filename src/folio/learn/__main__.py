"""`python -m folio.learn` is `folio learn`."""

import argparse
import sys

from folio.config import UserError
from folio.learn.cli import add_arguments, run

parser = argparse.ArgumentParser(prog="folio learn")
add_arguments(parser)
try:
    run(parser.parse_args())
except UserError as error:
    print(f"folio: {error}", file=sys.stderr)
    sys.exit(2)
