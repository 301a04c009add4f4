"""Writing a GGUF: metadata, tokenizer and tensors in one file, by the package gguf."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from folio.config import UserError, nearest
from folio.hub.gguf import Architecture, architecture_of
from folio.hub.gguf_tokenizer import tokenizer_metadata
from folio.hub.written import staged_file
from folio.model.decoder import Decoder
from folio.text.tokenizer import Tokenizer

Say = Callable[[str], None]
# dtype -> name of the type of tensors, name of the type of file
DTYPES = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
# Small, and what llama.cpp computes with them is in fp32
EXACT = ("position_embd.weight", "ffn_gate_inp.weight")


def load_gguf() -> Any:
    """The package gguf, which is optional."""
    try:
        import gguf
    except ImportError:
        raise UserError(
            "a GGUF needs the package gguf: pip install 'folio-llm[hub]'"
        ) from None
    return gguf


def write_gguf(
    model: Decoder,
    tokenizer: Tokenizer,
    path: Path,
    *,
    name: str,
    dtype: str = "float32",
    say: Say = print,
) -> Architecture:
    """Write `path` whole, or not at all; returns the architecture that reads it.

    Matrices are written in `dtype`, vectors in float32. q8_0 has 32 numbers of a row
    share a scale (8.5 bits each). UserError for a model that no architecture has, and
    for a tokenizer that llama.cpp doesn't.
    """
    gguf = load_gguf()
    if dtype not in DTYPES:
        raise UserError(f"dtype = {dtype!r}{nearest(dtype, list(DTYPES))}")
    kind, file_type = DTYPES[dtype]
    architecture = architecture_of(model.config)
    values = {
        "general.type": "model",
        "general.name": name,
        "general.file_type": int(gguf.LlamaFileType[file_type]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **architecture.metadata(model.config),
        **tokenizer_metadata(tokenizer, model.config.vocab_size, say),
    }
    tensors = architecture.tensors(model)
    if kind == "Q8_0":
        _check_blocks(tensors)
    with staged_file(path) as staging:
        writer = gguf.GGUFWriter(staging, architecture.name)
        for key, value in values.items():
            _add_value(writer, key, value)
        for key, tensor in tensors.items():
            data, stored = _encode(gguf, key, tensor, kind)
            writer.add_tensor(key, data, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return architecture


def _add_value(writer: Any, key: str, value: Any) -> None:
    """Counts are unsigned, as llama.cpp wants them."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)


def _encode(gguf: Any, name: str, tensor: Tensor, kind: str) -> tuple[np.ndarray, Any]:
    """The bytes of a tensor, and their type."""
    if tensor.ndim < 2 or name.endswith(EXACT):
        kind = "F32"
    if kind == "F16" and tensor.abs().max() > torch.finfo(torch.float16).max:
        raise UserError(
            f"{name} has numbers beyond what float16 holds; write it as bfloat16"
        )
    stored = gguf.GGMLQuantizationType[kind]
    data = tensor.to(torch.float32).numpy()
    return data if kind == "F32" else gguf.quants.quantize(data, stored), stored


def _check_blocks(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim > 1 and not name.endswith(EXACT) and tensor.shape[-1] % 32:
            raise UserError(
                f"q8_0 rounds 32 numbers together, but {name} has rows of "
                f"{tensor.shape[-1]}; choose another dtype"
            )
