"""Does Folio keep what it promises when things go wrong? See docs/reliability.md.

One file per topic: what is tried, how often, and a build that is broken on purpose,
which must fail. `python -m reliability --help` runs them.
"""
