"""The fast decoder computes what the readable one does, for every option."""

import pytest
import torch
from torch import nn

from folio.config import UserError
from folio.infer import fast, fused
from folio.infer.fast import fast_decoder
from folio.infer.fused import attend_one, fuse
from folio.infer.generate import generate
from folio.infer.products import (
    PACKED,
    ChosenExperts,
    Int4Product,
    Product,
    make_product,
)
from folio.infer.sampling import GREEDY, Sampling
from folio.model.attend import attend_reference
from folio.model.config import Experts, Latent, RopeScaling
from folio.model.lora import LoRA, add_lora
from folio.model.mask import Mask
from folio.model.moe import MixtureOfExperts, mix_reference
from folio.model.quantize import Int4Linear, Int8Linear, quantize
from helpers import tiny_model

OPTIONS = {
    "llama": {"n_kv_heads": 1, "tie_embeddings": False},
    "gpt2": {"positions": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True},
    "qwen": {"qk_norm": True, "qkv_bias": True, "head_dim": 12},
    "mistral": {"window": 5},
    "sinks": {"window": 4, "sinks": 2, "attention_pattern": "wf"},
    "gemma": {
        "mlp": "geglu",
        "post_norm": True,
        "attention_softcap": 5.0,
        "logit_softcap": 7.0,
        "scale_embeddings": True,
        "attention_scale": 0.3,
    },
    "yarn": {"rope_scaling": RopeScaling("yarn", 4.0, original_len=8)},
    "partial": {"rope_fraction": 0.5, "mlp": "relu2"},
    "none": {"positions": "none"},
    "sinusoidal": {"positions": "sinusoidal"},
    "latent": {"latent": Latent(rank=8, rope_width=4, query_rank=6)},
    "experts": {"experts": Experts(count=4, active=2, shared=1), "mlp_pattern": "eb"},
    "sigmoid": {"experts": Experts(count=3, router="sigmoid"), "mlp": "gelu"},
}
WIDE = {"d_model": 64, "n_heads": 4, "d_ff": 96}


@pytest.fixture
def as_compiled(monkeypatch):
    """Take, eagerly, the branches that a compiled step takes."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


def model_of(**changes):
    """Larger weights than at the start, gains and biases too: so parts matter."""
    model = tiny_model(**changes).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("name", OPTIONS)
def test_scores_equal_the_readable_ones(name, as_compiled):
    model = model_of(**OPTIONS[name])
    decoder = fast_decoder(model, capacity=16, compile=False)
    ids = torch.randint(0, 17, (1, 13), generator=torch.Generator().manual_seed(2))
    expected = model(ids).logits[0].detach()
    logits = [decoder.prefill([ids[0, :4].tolist()])]
    logits += [decoder.step(ids[:, i]) for i in range(4, 13)]
    assert torch.allclose(torch.cat(logits), expected[3:], atol=2e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_scores_of_a_text_are_its_own_beside_others(name, as_compiled):
    """Prompts of 1, 9 and 6 tokens: padding takes no place in any cache."""
    model = model_of(**OPTIONS[name])
    ids = torch.randint(0, 17, (3, 13), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([1, 9, 6])
    decoder = fast_decoder(model, batch=3, capacity=14, compile=False)
    rows = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
    logits = [decoder.prefill(rows)]
    logits += [decoder.step(ids[range(3), lengths + i]) for i in range(4)]
    expected = model(ids).logits.detach()
    for i, found in enumerate(logits):
        assert torch.allclose(found, expected[range(3), lengths + i - 1], atol=2e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_texts_of_many_lengths_side_by_side(name, as_compiled):
    model = model_of(**OPTIONS[name])
    prompts = [[3], [1, 2, 3, 4, 5, 6, 7, 8], [7, 7]]  # beyond some windows
    decoder = fast_decoder(model, batch=3, capacity=14, compile=False)
    together = decoder.generate(prompts, 6)
    for prompt, tokens in zip(prompts, together, strict=True):
        assert tokens == list(generate(model, prompt, 6, sampling=GREEDY))
    assert decoder.generate(prompts, 6) == together  # nothing is left of the first


def test_sampled_tokens_are_those_of_generate():
    model = model_of()
    sampling = Sampling(0.9, top_k=8, repetition_penalty=1.3)
    decoder = fast_decoder(model, batch=2, compile=False)
    rows = decoder.generate([[1], [2, 3]], 12, sampling=sampling, seed=5, vocab_size=15)
    for number, prompt in enumerate([[1], [2, 3]]):
        options = {"sampling": sampling, "seed": 5 + number, "vocab_size": 15}
        assert rows[number] == list(generate(model, prompt, 12, **options))


def test_each_text_ends_at_its_own_stop():
    model = model_of()
    decoder = fast_decoder(model, batch=2, compile=False)
    whole = decoder.generate([[1], [2]], 14)
    stop = frozenset([whole[0][3]])
    for row, prompt in zip(
        decoder.generate([[1], [2]], 14, stop=stop), [[1], [2]], strict=True
    ):
        assert row == list(generate(model, prompt, 14, sampling=GREEDY, stop=stop))
    assert decoder.generate([[1], [2]], 0) == [[], []]


def test_the_model_is_not_changed_and_unfused_weights_are_shared():
    model = model_of()
    before = dict(model.named_modules())
    joined = fuse(model, 1)
    assert dict(model.named_modules()) == before
    assert joined.embedding.weight is model.embedding.weight
    assert joined.norm.gain is model.norm.gain


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_of_one_query(sinks, softcap):
    q, sink_q = torch.randn(2, 2, 6, 1, 8)
    k, v = torch.randn(2, 2, 3, 9, 8)
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, -1, -1], [*range(8, 0, -1), -1]])
    mask = Mask(torch.tensor([[6], [8]]), positions, 4, 2)
    options = {"scale": 0.3, "softcap": softcap, "sink_q": sink_q if sinks else None}
    expected = attend_reference(q, k, v, mask, **options)
    assert torch.allclose(attend_one(q, k, v, mask, **options), expected, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_products_of_stacked_layers(rows, bias):
    layers = [nn.Linear(64, n, bias=bias) for n in (7, 5)]
    x = torch.randn(rows, 1, 64)
    expected = torch.cat([layer(x) for layer in layers], -1)
    product = make_product(layers, rows)
    assert torch.allclose(product(x), expected, atol=1e-5)
    if rows == 1:
        assert torch.allclose(product.one_row(x), product.many_rows(x), atol=1e-5)
    bf16 = make_product(layers, rows, torch.bfloat16)(x)
    assert bf16.dtype == torch.float32
    assert 1e-4 < (bf16 - expected).norm() / expected.norm() < 1e-2


@pytest.mark.parametrize("rows", [1, 3])
def test_quantized_products_equal_restoring_first(rows, as_compiled):
    x = torch.randn(rows, 1, 64)
    plain = [nn.Linear(64, n) for n in (7, 5)]
    for kind, arguments, most in ((Int8Linear, (), 3e-3), (Int4Linear, (32,), 1e-2)):
        layers = [kind(64, p.out_features, True, *arguments).fill(p) for p in plain]
        expected = torch.cat([layer(x) for layer in layers], -1)
        error = (make_product(layers, rows)(x) - expected).norm() / expected.norm()
        # one row by int8 is exact; else activations are rounded to bf16
        assert error < (1e-6 if (kind, rows) == (Int8Linear, 1) else most)


def test_which_form_for_what():
    linear, eight = nn.Linear(64, 8), Int8Linear(64, 8)
    assert type(make_product([linear], 1)) is Product
    assert make_product([eight], 1).weight.dtype == torch.int8
    assert type(make_product([Int4Linear(64, 8, False, 32)], 1)) is Int4Product
    if torch.backends.mkldnn.is_available():
        assert make_product([linear], 8).packed.is_mkldnn
        assert make_product([eight], 8).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_packed_weights_go_with_their_layer():
    product = make_product([nn.Linear(64, 8)], 4)
    number = product.number
    assert PACKED[number] is product
    del product
    assert number not in PACKED


def test_experts_by_index(as_compiled):
    for name in ("experts", "sigmoid"):
        moe = model_of(**OPTIONS[name]).blocks[0].moe
        assert isinstance(moe, MixtureOfExperts)
        x = torch.randn(5, 16)
        choice = moe.router(x)
        expected = mix_reference(moe.experts, x, choice)
        assert torch.allclose(
            ChosenExperts(moe.experts)(x, choice), expected, atol=1e-5
        )


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("batch", [1, 2])
def test_low_precision_is_close(precision, batch, as_compiled):
    model = tiny_model(**WIDE).eval()
    ids = torch.randint(0, 17, (batch, 6))
    decoder = fast_decoder(model, batch=batch, precision=precision, compile=False)
    decoder.prefill(ids[:, :5].tolist())
    expected = model(ids).logits[:, -1]
    error = (decoder.step(ids[:, 5]) - expected).norm() / expected.norm()
    assert 0 < error < {"bf16": 0.01, "int8": 0.02, "int4": 0.3}[precision]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_bf16_is_close_for_every_option(name, batch, as_compiled):
    """Keys and values are kept in bf16 too, whoever meets them afterwards."""
    model = tiny_model(**OPTIONS[name]).eval()
    ids = torch.randint(0, 17, (batch, 9), generator=torch.Generator().manual_seed(2))
    decoder = fast_decoder(
        model, batch=batch, capacity=10, precision="bf16", compile=False
    )
    kept = torch.float32 if name == "latent" else torch.bfloat16
    assert {cache.k.dtype for cache in decoder.caches} == {kept}
    scores = [decoder.prefill(ids[:, :5].tolist())]
    scores += [decoder.step(ids[:, i]) for i in range(5, 9)]
    expected = model(ids).logits[:, 4:].transpose(0, 1)
    error = (torch.stack(scores) - expected).norm() / expected.norm()
    assert scores[0].dtype == torch.float32
    assert 0 < error < 0.015


@pytest.mark.parametrize("special", [{}, {"softcap": 2.0}, {"sink_q": True}])
@pytest.mark.parametrize("rows", [1, 2])
def test_attention_of_a_step(rows, special, monkeypatch):
    """Several plain rows take PyTorch's kernel; the others take loops, with sums in
    fp32 however the keys are kept."""
    loops = []
    monkeypatch.setattr(
        fused, "attend_one", lambda *a, **o: loops.append(1) or attend_one(*a, **o)
    )
    q, sink_q = torch.randn(2, rows, 6, 1, 8).bfloat16()
    k, v = torch.randn(2, rows, 3, 9, 8).bfloat16()
    mask = Mask(torch.full((rows, 1), 6), torch.arange(9)[None].expand(rows, -1), 4, 2)
    options = {"scale": 0.3} | special
    if "sink_q" in special:
        options["sink_q"] = sink_q
    exact = {n: o.float() if n == "sink_q" else o for n, o in options.items()}
    expected = attend_reference(q.float(), k.float(), v.float(), mask, **exact)
    found = fused.attend_step(q, k, v, mask, **options)
    assert bool(loops) == (rows == 1 or bool(special))
    assert torch.allclose(found.float(), expected, atol=1e-5 if loops else 2e-2)


def test_a_quantized_model_decodes_as_it_is():
    small = quantize(tiny_model(**WIDE), 8)
    decoder = fast_decoder(small, compile=False)
    assert decoder.precision == "int8"
    assert decoder.generate([[1, 2]], 9)[0] == list(
        generate(small, [1, 2], 9, sampling=GREEDY)
    )


def test_bad_input():
    model = tiny_model(**WIDE)
    decoder = fast_decoder(model, capacity=8, compile=False)
    for words, ask in {
        "batch = 0": lambda: fast_decoder(model, batch=0),
        "precision = 'int2': choose": lambda: fast_decoder(model, precision="int2"),
        "weights are int8": lambda: fast_decoder(quantize(model), precision="bf16"),
        "2 prompts": lambda: decoder.generate([[1], [2]], 3),
        "a prompt is empty": lambda: decoder.prefill([[]]),
        "ids from 1 to 99": lambda: decoder.prefill([[1, 99]]),
        "make 9 tokens": lambda: decoder.generate([[1, 2]], 7),
        "has 9 tokens": lambda: decoder.prefill([[1] * 9]),
    }.items():
        with pytest.raises(UserError, match=words):
            ask()
    decoder.generate([[1]], 7)
    decoder.step(torch.tensor([1]))
    with pytest.raises(ValueError, match="capacity"):
        decoder.step(torch.tensor([1]))
    with pytest.raises(ValueError, match="expected"):
        decoder.step(torch.tensor([1, 2]))
    add_lora(model, LoRA())
    with pytest.raises(UserError, match="LoRA"):
        fast_decoder(model)


def test_without_a_compiler_it_says_so_and_works(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        decoder = fast_decoder(tiny_model())
    assert decoder.how.startswith("eager: no C++ compiler (looked for 'no-such")
    assert len(decoder.generate([[1]], 5)[0]) == 5


@pytest.mark.slow
@pytest.mark.skipif(
    fast.missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler"
)
@pytest.mark.parametrize("name", ["llama", "sinks", "experts"])
def test_compiled_steps_give_the_same_tokens(name):
    model = model_of(**OPTIONS[name])
    for prompts in ([[1, 2, 3]], [[1], [4, 5]]):  # two decoders: two graphs
        decoder = fast_decoder(model, batch=len(prompts), capacity=16)
        assert decoder.how == "compiled"
        for prompt, tokens in zip(prompts, decoder.generate(prompts, 10), strict=True):
            assert tokens == list(generate(model, prompt, 10, sampling=GREEDY))
    model = tiny_model(**OPTIONS[name]).eval()
    for batch in (1, 2):
        decoder = fast_decoder(model, batch=batch, capacity=16, precision="bf16")
        ids = torch.randint(0, 17, (batch, 6))
        decoder.prefill(ids[:, :5].tolist())
        expected = model(ids).logits[:, -1]
        error = (decoder.step(ids[:, 5]) - expected).norm() / expected.norm()
        assert 0 < error < 0.015
