"""Folio: build a large language model from scratch."""

import importlib

__version__ = "0.1.0"

# name -> module. Loaded on first use (PEP 562), so that `folio --help` needs no torch.
_EXPORTS: dict[str, str] = {}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'folio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
