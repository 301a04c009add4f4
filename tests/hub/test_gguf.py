"""A GGUF holds the model, bit for bit, and says all that llama.cpp has to know."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from folio.config import UserError
from folio.hub.chat_template import jinja_of
from folio.hub.gguf import ARCHITECTURES, ROPE_FACTORS, architecture_of
from folio.hub.gguf_file import write_gguf
from folio.hub.gguf_tokenizer import tokenizer_metadata
from folio.hub.names import tensor_shapes, to_ours
from folio.model.config import ModelConfig, gpt2_like, llama_like
from folio.model.decoder import Decoder
from folio.model.options import Experts, Latent, RopeScaling
from folio.model.positions import rotary_frequencies
from folio.text import BPETokenizer, ByteTokenizer, ChatTemplate, Tokenizer
from folio.text.sentencepiece_bpe import BYTE_NAMES, SentencePieceTokenizer
from text.foreign import FAMILIES

gguf = pytest.importorskip("gguf")

TEXT = "be it so, one two three 123 - and so on; isn't it?\n" * 4
TOKENIZER = BPETokenizer.train([TEXT], vocab_size=300)
SIZES = {
    "vocab_size": 305,  # five more than the tokenizer has
    "max_seq_len": 48,
    "d_model": 32,
    "n_layers": 3,
    "n_heads": 4,
}
GEMMA = {"mlp": "geglu", "scale_embeddings": True, "tie_embeddings": True}
GEMMA2 = GEMMA | {
    "post_norm": True,
    "window": 8,
    "attention_pattern": "wf",
    "attention_softcap": 20.0,
    "logit_softcap": 10.0,
}
EXPERTS = Experts(count=4, active=2, width=24)
# name -> architecture that it becomes, options of a llama
MODELS = {
    "gpt2": ("gpt2", None),
    "llama": ("llama", {}),
    "llama, tied, grouped": ("llama", {"tie_embeddings": True, "n_kv_heads": 2}),
    "llama, wide heads": ("llama", {"head_dim": 12, "n_kv_heads": 1}),
    "mistral": ("llama", {"window": 48}),
    "qwen2": ("qwen2", {"qkv_bias": True, "n_kv_heads": 2}),
    "qwen3": ("qwen3", {"qk_norm": True, "head_dim": 12}),
    "mixtral": ("llama", {"experts": EXPERTS}),
    "qwen3moe": ("qwen3moe", {"qk_norm": True, "experts": EXPERTS}),
    "gemma": ("gemma", GEMMA),
    "gemma2": ("gemma2", GEMMA2),
}
# Of some metadata transformers takes no notice; these are what it takes instead
THEIRS = {
    "gpt2": {"max_seq_len": 1024},
    "llama": {},
    "llama, tied, grouped": {},
    "llama, wide heads": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "qwen3moe": {"experts": replace(EXPERTS, width=768)},
    "gemma2": {"head_dim": 256, "attention_softcap": 50.0, "logit_softcap": 30.0},
}


def config_of(name: str, **changes) -> ModelConfig:
    options = MODELS[name][1]
    if options is None:
        return gpt2_like(**(SIZES | changes))
    return llama_like(**(SIZES | {"norm_eps": 1e-6} | options | changes))


def random_model(config: ModelConfig) -> Decoder:
    """Every weight of it random, gains and biases, too."""
    torch.manual_seed(1)
    model = Decoder(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def quiet(_: str) -> None: ...


def write(model, path, tokenizer=TOKENIZER, **options):
    return write_gguf(model, tokenizer, path, **({"name": "a", "say": quiet} | options))


class Tensors:
    """The tensors of a GGUF as a `Source`."""

    def __init__(self, reader):
        self.found = {t.name: torch.from_numpy(t.data.copy()) for t in reader.tensors}

    def keys(self):
        return self.found.keys()

    def get(self, name):
        return self.found[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_comes_back(name, tmp_path):
    config = config_of(name)
    model = random_model(config)
    architecture = write(model, tmp_path / "a.gguf")
    assert architecture.name == MODELS[name][0]
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F32"}
    found = dict(to_ours(architecture.table(config), config, Tensors(reader)))
    ours = model.state_dict()
    assert found.keys() == tensor_shapes(config).keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, ours[key]), key


@pytest.mark.parametrize("name", THEIRS)
def test_transformers_reads_the_same_model(name, tmp_path):
    """All but Mixtral and Gemma 1, of which it reads no GGUF."""
    model = random_model(config_of(name, **THEIRS[name]))
    write(model, tmp_path / "a.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="a.gguf").eval()
    ids = torch.arange(2 * 20).view(2, 20)
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model(ids).logits, atol=2e-4)


def test_transformers_reads_the_same_tokenizer(tmp_path):
    write(random_model(config_of("llama")), tmp_path / "a.gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    text = "so it isn't 12 - be"
    ids = theirs(text, add_special_tokens=False).input_ids
    assert ids == TOKENIZER.encode(text)
    assert theirs.decode(ids) == text
    messages = [{"role": "user", "content": "so?"}]
    found = theirs.apply_chat_template(messages, add_generation_prompt=True)
    rendered, _ = ChatTemplate().render(messages, TOKENIZER, True)
    assert found["input_ids"] == rendered


def test_metadata_is_complete(tmp_path):
    write(
        random_model(config_of("llama, tied, grouped")), tmp_path / "a.gguf", name="b"
    )
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    found = {key: field.contents() for key, field in fields.items()}
    expected = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "b",
        "general.file_type": 0,
        "llama.vocab_size": 305,
        "llama.context_length": 48,
        "llama.embedding_length": 32,
        "llama.block_count": 3,
        "llama.feed_forward_length": 88,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10_000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "dbrx",
        "tokenizer.ggml.eos_token_id": TOKENIZER.end_of_text,
        "tokenizer.ggml.bos_token_id": TOKENIZER.end_of_text,
        "tokenizer.ggml.padding_token_id": TOKENIZER.special_id("<|pad|>"),
        "tokenizer.ggml.eot_token_id": TOKENIZER.special_id("<|end|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": jinja_of(ChatTemplate()),
    }
    assert {key: found[key] for key in expected} == expected
    eps = found["llama.attention.layer_norm_rms_epsilon"]
    assert eps == pytest.approx(1e-6)
    tokens, kinds = (found[f"tokenizer.ggml.{n}"] for n in ("tokens", "token_type"))
    assert len(tokens) == len(kinds) == 305
    assert tokens[ord("a")] == "a"
    assert tokens[ord(" ")] == "Ġ"
    assert kinds[ord("a")] == gguf.TokenType.NORMAL
    assert tokens[TOKENIZER.end_of_text] == "<|endoftext|>"
    assert kinds[TOKENIZER.end_of_text] == gguf.TokenType.CONTROL
    assert set(kinds[300:]) == {gguf.TokenType.UNUSED}
    assert len(set(tokens)) == len(tokens)
    first = found["tokenizer.ggml.merges"][0].split(" ")
    assert "".join(first) == tokens[256]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
def test_rounded_matrices_and_exact_vectors(dtype, tmp_path):
    model = random_model(llama_like(**(SIZES | {"d_ff": 64})))
    write(model, tmp_path / "a.gguf", dtype=dtype)
    step = {"float16": 2**-11, "bfloat16": 2**-8}.get(dtype)
    table = architecture_of(model.config).table(model.config)
    exact = {t.name: t for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    weights = architecture_of(model.config).tensors(model)
    assert table.rows
    assert exact.keys() == weights.keys()
    for name, tensor in weights.items():
        kind = exact[name].tensor_type
        found = gguf.quants.dequantize(exact[name].data, kind)
        if tensor.ndim == 1:
            assert kind.name == "F32"
            assert np.array_equal(found, tensor.numpy())
            continue
        assert kind.name == {"float16": "F16", "bfloat16": "BF16"}.get(dtype, "Q8_0")
        if step is None:  # half a step of 127 to the largest of 32, and its scale's
            largest = tensor.view(-1, 32).abs().amax(-1, keepdim=True)
            allowed = (largest / 127 * 0.51 + largest * 2**-10).expand(-1, 32)
            allowed = allowed.reshape(tensor.shape)
        else:
            allowed = tensor.abs() * step + 1e-7
        assert bool((torch.from_numpy(found) - tensor).abs().le(allowed).all()), name
        assert not np.array_equal(found, tensor.numpy())


def test_rope_that_reaches_further(tmp_path):
    scaling = RopeScaling("llama3", 8.0, 16)
    config = replace(config_of("llama"), rope_scaling=scaling)
    tensors = architecture_of(config).tensors(random_model(config))
    slowed = rotary_frequencies(replace(config, rope_scaling=None))
    slowed = slowed / tensors[ROPE_FACTORS]
    assert torch.allclose(slowed, rotary_frequencies(config))
    assert tensors[ROPE_FACTORS].max() == 8.0
    linear = replace(config, rope_scaling=RopeScaling("linear", 4.0))
    values = architecture_of(linear).metadata(linear)
    assert values["llama.rope.scaling.type"] == "linear"
    assert values["llama.rope.scaling.factor"] == 4.0
    ntk = replace(config, rope_scaling=RopeScaling("ntk", 2.0))
    values = architecture_of(ntk).metadata(ntk)
    assert values["llama.rope.freq_base"] > 10_000
    assert "llama.rope.scaling.type" not in values
    yarn = replace(config, rope_scaling=RopeScaling("yarn", 4.0, 16, magnitude=1.5))
    values = architecture_of(yarn).metadata(yarn)
    usual = 0.1 * math.log(4) + 1
    assert values["llama.rope.scaling.attn_factor"] == pytest.approx(1.5 / usual)
    assert values["llama.rope.scaling.original_context_length"] == 16
    with pytest.raises(UserError, match="GGUF architecture"):  # only Llama has factors
        architecture_of(replace(config_of("qwen3"), rope_scaling=scaling))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp": "relu2"}, "mlp = 'relu2'"),
        ({"window": 8}, "window = 8"),
        ({"window": 8, "sinks": 2}, "window = 8|sinks = 2"),
        ({"rope_fraction": 0.5}, "rope_fraction = 0.5"),
        ({"positions": "sinusoidal"}, "positions = 'sinusoidal'"),
        ({"positions": "none"}, "positions = 'none'"),
        ({"attention_scale": 0.3}, "attention_scale = 0.3"),
        ({"logit_softcap": 30.0}, "logit_softcap = 30.0"),
        ({"latent": Latent(8, 4)}, "latent = "),
        ({"experts": Experts(4, 2, shared=1)}, "experts.shared = 1"),
        ({"experts": Experts(4, 2, renormalize=False)}, "experts.renormalize = False"),
        ({"experts": Experts(4, 2, router="sigmoid")}, "experts.router = 'sigmoid'"),
        ({"experts": Experts(4, 2), "mlp_pattern": "de"}, "mlp_pattern = 'de'"),
        ({"qk_norm": True, "bias": True}, "bias = True|qk_norm = True"),
        ({"scale_embeddings": True}, "scale_embeddings = True"),
    ],
)
def test_options_that_no_architecture_has(changes, message, tmp_path):
    model = Decoder(llama_like(**(SIZES | changes)))
    with pytest.raises(UserError, match=message) as caught:
        write(model, tmp_path / "a.gguf")
    assert "GGUF architecture" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_an_architecture_assumes_is_not_overlooked():
    """Leaving out any one assumption would let a wrong model through."""
    for architecture in ARCHITECTURES:
        name = next(n for n, (kind, _) in MODELS.items() if kind == architecture.name)
        assert architecture_of(config_of(name)) is architecture
        for option in architecture.assumed:
            blind = replace(
                architecture,
                assumed={k: v for k, v in architecture.assumed.items() if k != option},
            )
            if option in ("bias", "tie_embeddings"):
                continue  # the tensors tell, where an architecture allows both
            assert blind.implied(config_of(name)) != architecture.implied(
                config_of(name)
            )


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (ByteTokenizer(), "kind 'byte' can't be written to a GGUF"),
        (BPETokenizer([]), "without merges"),
        (BPETokenizer(TOKENIZER.merges, "qwen2", whole_words=True), "'qwen2' with"),
    ],
)
def test_tokenizers_that_llama_cpp_lacks(tokenizer, message, tmp_path):
    model = random_model(config_of("llama"))
    with pytest.raises(UserError, match=message) as caught:
        write_gguf(model, tokenizer, tmp_path / "a.gguf", name="a", say=quiet)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_blocks_do_not_divide(tmp_path):
    model = random_model(llama_like(**(SIZES | {"d_ff": 40})))
    with pytest.raises(UserError, match=r"blk\.0\.ffn_down\.weight has rows of 40"):
        write(model, tmp_path / "a.gguf", dtype="q8_0")
    with pytest.raises(UserError, match="did you mean 'float16'"):
        write(model, tmp_path / "a.gguf", dtype="floot16")
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[0, 0] = 1e6
    with pytest.raises(UserError, match=r"blk\.1\.ffn_up\.weight has numbers beyond"):
        write(model, tmp_path / "a.gguf", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(UserError, match=r"could not write .*a\.gguf: No space left"):
        write(random_model(config_of("llama")), tmp_path / "a.gguf")
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'folio-llm\[hub\]'$"):
        write(random_model(config_of("llama")), tmp_path / "a.gguf")


# ---- sentencepiece -------------------------------------------------------------------

ROLES = {"bos_token": "<s>", "eos_token": "</s>"}


def sentencepiece(family: str = "llama2", **changes):
    """A tokenizer of others, with its roles; some of it changed."""
    theirs = Tokenizer.parse(json.loads(FAMILIES[family]().to_str()), family)
    made = SentencePieceTokenizer(
        theirs.pieces,
        changes.get("merges", theirs.merges),
        theirs.special_tokens,
        prefix=theirs.prefix,
        extras=theirs.extras,
    )
    return made.with_extras(replace(theirs.extras, roles=ROLES, **changes["extras"]))


def metadata_of(tokenizer, say=quiet) -> dict:
    found = tokenizer_metadata(tokenizer, tokenizer.vocab_size + 3, say)
    return {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}


def test_scores_say_what_merges_first():
    tokenizer = sentencepiece(extras={})
    found = metadata_of(tokenizer)
    sizes = {len(found[name]) for name in ("tokens", "scores", "token_type")}
    assert sizes == {tokenizer.vocab_size + 3}  # a padded model has a score for each
    assert found["add_bos_token"] is True
    assert found["bos_token_id"] == tokenizer.special_id("<s>")
    score = dict(zip(found["tokens"], found["scores"], strict=True))
    order = [left + right for left, right in tokenizer.merges]
    merged = [score[whole] for whole in dict.fromkeys(order)]
    assert merged == sorted(merged, reverse=True)
    assert min(merged) > score["<s>"]
    kinds = dict(zip(found["tokens"], found["token_type"], strict=True))
    assert kinds["<0x41>"] == gguf.TokenType.BYTE
    assert kinds["<s>"] == gguf.TokenType.CONTROL


def test_merges_that_scores_can_not_order():
    """Two ways to make one token, with another token between them."""
    names = [*BYTE_NAMES, "a", "b", "c", "ab", "bc", "abc"]
    pieces = {name: index for index, name in enumerate(names)}
    control = {"</s>": len(pieces)}
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    good = SentencePieceTokenizer(pieces, merges, control)
    assert metadata_of(good)["scores"][pieces["abc"]] == -2
    merges = [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]
    with pytest.raises(UserError, match="here the ways to make one are apart"):
        metadata_of(SentencePieceTokenizer(pieces, merges, control))


def test_what_llama_cpp_does_otherwise_is_said():
    said = []
    metadata_of(sentencepiece("mistral", extras={}), said.append)
    assert any("a space before every stretch" in line for line in said)
    fewer = sentencepiece(extras={}).merges[:-1]
    said.clear()
    metadata_of(sentencepiece(merges=fewer, extras={}), said.append)
    assert any("may join" in line for line in said)
    said.clear()
    metadata_of(BPETokenizer(TOKENIZER.merges, "qwen2", nfc=True), said.append)
    assert said == ["(llama.cpp composes no characters (NFC), as this model does)"]
    said.clear()
    words = {"whole_words": True, "pattern": "mistral"}
    metadata_of(BPETokenizer(TOKENIZER.merges, **words), said.append)
    assert any("beyond ASCII" in line for line in said)


def test_a_start_that_a_gguf_can_not_say():
    with pytest.raises(UserError, match=r"a text begins with \['</s>'\]"):
        metadata_of(sentencepiece(extras={"start": ("</s>",)}))
