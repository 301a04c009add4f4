"""The small program that the exercises add up to, held to the package."""

import torch
import torch.nn.functional as F

from folio.learn.lesson import SIZES
from folio.learn.reference.char_tokenizer import CharTokenizer
from folio.learn.reference.small_gpt import SmallGPT
from folio.learn.reference.small_llama import Norm, SmallLlama
from folio.learn.reference.training import AdamW, train_gpt, write_on
from folio.model.config import gpt2_like
from folio.model.decoder import Decoder
from folio.text.char import CharTokenizer as PackageTokenizer

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def test_the_tokenizer_gives_the_packages_ids():
    text = "the quick brown fox — né ☃"
    mine, theirs = CharTokenizer(text), PackageTokenizer.train([text])
    assert mine.encode(text) == theirs.encode(text)
    assert mine.decode(mine.encode(text)) == text


def same_weights(gpt: SmallGPT) -> Decoder:
    """The package's decoder with the weights of a small GPT."""
    config = gpt2_like(
        vocab_size=10, max_seq_len=6, d_model=16, n_layers=2, n_heads=2, mlp="gelu"
    )
    decoder, state = Decoder(config), {}
    for name, weight in gpt.state_dict().items():
        if name.endswith("attention.bias"):
            continue
        for ours, theirs in (
            ("tokens.", "embedding."),
            ("positions.", "positions.table."),
            ("c_proj", "out"),
            ("mlp.0", "mlp.up"),
            ("mlp.2", "mlp.down"),
        ):
            name = name.replace(ours, theirs)
        if "c_attn" in name:
            parts = zip(("query", "key", "value"), weight.split(16), strict=True)
            state |= {name.replace("c_attn", part): w for part, w in parts}
        else:
            state[name] = weight
    decoder.load_state_dict(state)
    return decoder


def test_the_gpt_is_the_decoder():
    torch.manual_seed(0)
    gpt = SmallGPT(10, 6, 16, 2, 2)
    for weight in gpt.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    torch.testing.assert_close(gpt(TOKENS), same_weights(gpt)(TOKENS).logits)


def test_the_llama_takes_the_readable_way():
    torch.manual_seed(0)
    llama = SmallLlama(10, 6, 16, 2, 2)
    logits = llama(TOKENS)
    norms = [m for m in llama.modules() if isinstance(m, Norm)]
    assert len(norms) == 5
    for block in llama.decoder.blocks:
        assert block.attention.path == "reference"
        block.attention.path = None
    for norm in norms:
        norm.__class__ = Norm.__mro__[1]
    torch.testing.assert_close(logits, llama(TOKENS))


def test_the_optimizer_is_torchs():
    torch.manual_seed(0)
    mine, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(mine.state_dict())
    optimizer = AdamW(mine)
    groups = [
        {"params": [theirs.weight], "weight_decay": 0.1},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    other = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95))
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(5, 4)
        for model in (mine, theirs):
            model.zero_grad()
            F.mse_loss(model(x), torch.ones(5, 3)).backward()
        optimizer.step(0.01)
        other.step()
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict())


def test_it_learns_a_text_and_writes_on():
    text = "abcd" * 30
    tokenizer = CharTokenizer(text)
    torch.manual_seed(0)
    gpt = SmallGPT(4, 8, 16, 1, 2)
    losses = list(
        train_gpt(gpt, tokenizer.encode(text), 40, batch=8, length=8, lr=1e-2)
    )
    assert losses[-1] < 0.3
    written = write_on(gpt, tokenizer.encode("ab"), 6, length=8, temperature=0.0)
    assert tokenizer.decode(written) == "abcdabcd"


def test_sizes_fit_both_models():
    assert SIZES["n_heads"] % 2 == 0
