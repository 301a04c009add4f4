"""A decoder of GPT-2's parts computes what transformers' GPT-2 computes."""

import pytest
import torch
import transformers

from folio.infer.generate import generate
from folio.infer.sampling import GREEDY
from folio.model.config import gpt2_like
from folio.model.decoder import Decoder

# theirs -> ours, for layer {i}
LAYER = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention.out",
    "ln_2": "mlp_norm",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


def their_model(layers: int, heads: int, width: int, inner: int | None, eps: float):
    config = transformers.GPT2Config(
        vocab_size=41,
        n_positions=24,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_inner=inner,
        layer_norm_epsilon=eps,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases too
            parameter.normal_(std=0.6, generator=generator)
    return model


def our_model(theirs) -> Decoder:
    """The same weights under our names; GPT-2 stores its matrices transposed."""
    config = theirs.config
    model = Decoder(
        gpt2_like(
            vocab_size=config.vocab_size,
            max_seq_len=config.n_positions,
            d_model=config.n_embd,
            n_layers=config.n_layer,
            n_heads=config.n_head,
            d_ff=config.n_inner,
            norm_eps=config.layer_norm_epsilon,
        )
    )
    source = theirs.transformer.state_dict()
    table = {
        "embedding.weight": source["wte.weight"],
        "head.weight": source["wte.weight"],
        "positions.table.weight": source["wpe.weight"],
        "norm.gain": source["ln_f.weight"],
        "norm.bias": source["ln_f.bias"],
    }
    for i in range(config.n_layer):
        fused = source[f"h.{i}.attn.c_attn.weight"].T, source[f"h.{i}.attn.c_attn.bias"]
        for part, tensor in zip(("weight", "bias"), fused, strict=True):
            for name, rows in zip(
                ("query", "key", "value"), tensor.chunk(3), strict=True
            ):
                table[f"blocks.{i}.attention.{name}.{part}"] = rows
        for their, our in LAYER.items():
            weight, bias = (source[f"h.{i}.{their}.{p}"] for p in ("weight", "bias"))
            if "norm" in our:
                table[f"blocks.{i}.{our}.gain"] = weight
            else:
                table[f"blocks.{i}.{our}.weight"] = weight.T
            table[f"blocks.{i}.{our}.bias"] = bias
    model.load_state_dict(table)
    return model.eval()


SHAPES = [
    (1, 1, 8, None, 1e-5),
    (2, 4, 16, None, 1e-5),
    (3, 2, 24, 40, 1e-5),
    (2, 8, 32, None, 1e-2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_logits(shape):
    theirs = their_model(*shape)
    ours = our_model(theirs)
    tokens = torch.randint(41, (3, 24), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(24).expand(3, 24)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-6)):
        wanted = theirs.to(dtype)(tokens).logits
        assert wanted.std() > 0.4
        for found in (ours.to(dtype)(tokens), ours(tokens, positions)):
            assert (found.logits - wanted).abs().max() < tolerance


@torch.no_grad()
def test_greedy_text():
    theirs = their_model(2, 4, 16, None, 1e-5)
    tokens = theirs.generate(
        torch.tensor([[1, 2, 3]]), do_sample=False, max_new_tokens=20
    )
    ours = generate(our_model(theirs), [1, 2, 3], 20, sampling=GREEDY)
    assert list(ours) == tokens[0, 3:].tolist()


def test_gradients():
    theirs = their_model(2, 4, 16, None, 1e-5).double()
    ours = our_model(theirs).double()
    tokens = torch.randint(41, (3, 24), generator=torch.Generator().manual_seed(1))
    loss = theirs(tokens, labels=tokens).loss
    loss.backward()
    logprobs = ours(tokens[:, :-1], targets=tokens[:, 1:]).logprobs
    (-logprobs.mean()).backward()
    assert -logprobs.mean().item() == pytest.approx(loss.item(), rel=1e-5)
    for found, wanted in (
        (ours.embedding.weight, theirs.transformer.wte.weight),
        (ours.positions.table.weight, theirs.transformer.wpe.weight),
        (ours.norm.gain, theirs.transformer.ln_f.weight),
    ):
        assert torch.allclose(found.grad, wanted.grad, atol=1e-6)
