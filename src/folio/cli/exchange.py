"""Verbs that make another model of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from folio.cli.parser import Parser, Verbs, add_run, add_verb, given


def add_exchange(verbs: Verbs) -> None:
    """import, export, quantize, lora."""
    bring = add_verb(verbs, "import", "make a run of a Hugging Face folder", _import)
    bring.add_argument("source", type=Path, help="config.json, *.safetensors, ...")
    bring.add_argument("run", type=Path)
    bring.add_argument("--dtype", default="float32", help="that weights are kept in")
    text = "write a run for transformers, for llama.cpp, or as a Space"
    send = add_verb(verbs, "export", text, _export)
    add_run(send)
    send.add_argument("target", type=Path, help="a folder; of gguf, a file")
    send.add_argument("--format", default="hf", help="hf, gguf or space")
    send.add_argument("--dtype", help="(as it was imported, else float32)")
    text = "round a run's weights to 8 or 4 bits"
    shrink = add_verb(verbs, "quantize", text, _quantize)
    add_run(shrink)
    shrink.add_argument("out", type=Path)
    shrink.add_argument("--bits", type=int, default=8)
    shrink.add_argument("--group", type=int, default=32, help="weights per scale (4)")
    shrink.add_argument("--path", help="judge on another text than the run's own")
    shrink.add_argument("--device", default="auto")
    lora = verbs.add_parser("lora", help="what one does with low-rank updates")
    kinds = lora.add_subparsers(dest="action", required=True, parser_class=Parser)
    text = "a plain run with the updates merged in"
    merge = add_verb(kinds, "merge", text, _merge)
    add_run(merge)
    merge.add_argument("out", type=Path)
    text = "write the updates alone, for PEFT"
    hand_on = add_verb(kinds, "export", text, _export_adapter)
    add_run(hand_on)
    hand_on.add_argument("out", type=Path)
    hand_on.add_argument(
        "--base", required=True, help="where the parent was exported to"
    )


def _import(options: argparse.Namespace) -> None:
    from folio.stages.exchange import import_model

    import_model(options.source, options.run, dtype=options.dtype)


def _export(options: argparse.Namespace) -> None:
    from folio.stages.exchange import export_run

    names = ("format", "dtype")
    export_run(options.run, options.target, **given(options, names))


def _quantize(options: argparse.Namespace) -> None:
    from folio.stages.quantize import quantize_run

    names = ("bits", "group", "path", "device")
    quantize_run(options.run, options.out, **given(options, names))


def _merge(options: argparse.Namespace) -> None:
    from folio.stages.lora import merge_run

    merge_run(options.run, options.out)
    print(f"wrote {options.out}")


def _export_adapter(options: argparse.Namespace) -> None:
    from folio.stages.lora import export_adapter

    export_adapter(options.run, options.out, options.base)
    print(f"wrote {options.out}")
