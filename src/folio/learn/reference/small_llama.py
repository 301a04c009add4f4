"""The same with Llama's parts: RMSNorm, rotary positions, SwiGLU, grouped queries."""

from __future__ import annotations

from torch import Tensor, nn

from folio.model import norm
from folio.model.config import llama_like
from folio.model.decoder import Decoder


class Norm(norm.RMSNorm):
    """RMSNorm by the package's readable function."""

    def forward(self, x: Tensor) -> Tensor:
        return norm.rms_norm(x, self.gain, self.eps)


class SmallLlama(nn.Module):
    """A `Decoder` that takes the readable way where the package has a faster one.

    tokens (B, T) -> logits (B, T, V). Two query heads share one of keys and values.
    """

    def __init__(
        self,
        vocab_size: int,
        max_seq_len: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
    ):
        super().__init__()
        sizes = {"d_model": d_model, "n_layers": n_layers, "max_seq_len": max_seq_len}
        heads = {"n_heads": n_heads, "n_kv_heads": n_heads // 2}
        self.decoder = Decoder(llama_like(vocab_size=vocab_size, **sizes, **heads))
        for block in self.decoder.blocks:
            block.attention.path = "reference"
        for module in self.decoder.modules():
            if isinstance(module, norm.RMSNorm):
                module.__class__ = Norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(tokens).logits
