"""`python -m folio` is `folio`; torchrun starts it so."""

from folio.cli import main

main()
