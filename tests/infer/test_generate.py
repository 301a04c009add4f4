"""Writing on: equal to reading everything afresh, ended by stop tokens, repeatable."""

import pytest
import torch

from folio.config import UserError
from folio.infer.generate import generate, generate_text
from folio.infer.sampling import GREEDY, Sampling, choose
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.byte import ByteTokenizer

KINDS = ("learned", "sinusoidal", "rotary", "none")


def model_of(seed: int = 0, **changes) -> Decoder:
    """Random weights, large enough that the text doesn't settle into one token."""
    fields = {
        "vocab_size": 29,
        "max_seq_len": 12,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "tie_embeddings": False,
    }
    model = Decoder(ModelConfig(**(fields | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7, generator=generator)
    return model.eval()


def recomputed(model, prompt, count, sampling=GREEDY, seed=0) -> list[int]:
    """The naive way: read the newest max_seq_len tokens anew for each next one."""
    ids, limit = list(prompt), model.config.max_seq_len
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids[-limit:]])).logits[:, -1]
        seen = torch.zeros(1, logits.shape[-1], dtype=torch.bool)
        seen[0, ids] = True
        ids.append(choose(logits, sampling, generator, seen).item())
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompt_length", [1, 5, 11, 12, 13, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_is_recomputed_within_and_past_the_context(kind, prompt_length):
    model = model_of(positions=kind).double()
    prompt = [(7 * i) % 29 for i in range(prompt_length)]
    assert list(generate(model, prompt, 25, sampling=GREEDY)) == recomputed(
        model, prompt, 25
    )
    varied = Sampling(0.0, repetition_penalty=3.0)
    found = list(generate(model, prompt, 25, sampling=varied))
    assert found == recomputed(model, prompt, 25, varied)
    assert len(set(found)) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_samples_too_are_those_of_recomputation(kind):
    model = model_of(positions=kind).double()
    sampling = Sampling(0.9, top_k=9, top_p=0.95, repetition_penalty=1.2)
    found = list(generate(model, [1, 2, 3], 20, sampling=sampling, seed=5))
    assert found == recomputed(model, [1, 2, 3], 20, sampling, seed=5)


def test_each_token_is_read_once():
    model, lengths = model_of(max_seq_len=64), []
    model.register_forward_pre_hook(lambda _, inputs: lengths.append(len(inputs[0][0])))
    list(generate(model, [1, 2, 3, 4], 10, sampling=GREEDY))
    assert lengths == [4] + [1] * 9  # and the last one is not read in vain


def test_a_seed_decides_the_text():
    model = model_of()

    def text(seed: int) -> list[int]:
        return list(generate(model, [1], 20, seed=seed))

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert len(text(1)) == 20


def test_the_global_generator_is_left_alone():
    model = model_of()
    before = torch.get_rng_state()
    list(generate(model, [1], 15, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_whichever_way_it_ends(training):
    model = model_of(dropout=0.5).train(training)
    plain = list(generate(model, [1], 5, sampling=GREEDY))
    assert model.training == training
    assert plain == list(generate(model.eval(), [1], 5, sampling=GREEDY))
    model.train(training)
    unfinished = generate(model, [1], 5)
    next(unfinished)
    unfinished.close()
    assert model.training == training
    stop = frozenset(range(29))
    assert list(generate(model, [1], 5, stop=stop)) == []
    assert model.training == training


def test_no_gradient_is_tracked_in_it_but_outside_it_is():
    model = model_of()
    for _ in generate(model, [1], 3):
        assert torch.is_grad_enabled()
        assert model(torch.tensor([[1]])).logits.requires_grad


def test_a_stop_token_ends_the_text_and_is_not_part_of_it():
    model = model_of()
    whole = list(generate(model, [1], 20, sampling=GREEDY))
    stop = whole[7]
    cut = whole.index(stop)
    found = list(generate(model, [1], 20, sampling=GREEDY, stop=frozenset([stop])))
    assert found == whole[:cut]


def test_a_stop_token_in_the_prompt_does_not_end_it():
    model = model_of()
    stop = frozenset([1])
    assert list(generate(model, [1], 3, sampling=GREEDY, stop=stop))


def test_only_what_the_tokenizer_knows_is_chosen():
    model = model_of()
    assert max(generate(model, [1], 40, seed=3)) > 9
    for sampling in (GREEDY, Sampling(5.0)):
        assert max(generate(model, [1], 40, sampling=sampling, vocab_size=10)) < 10


def test_nothing_asked_nothing_made():
    assert list(generate(model_of(), [1], 0)) == []


@pytest.mark.parametrize(
    ("prompt", "count", "words"),
    [
        ([], 5, "the prompt is empty"),
        ([1, 29], 5, "ids from 1 to 29, the model knows 0 to 28"),
        ([-1, 3], 5, "ids from -1 to 3"),
        ([1], -1, "max_new_tokens = -1: must be 0 or more"),
    ],
)
def test_bad_requests_are_named(prompt, count, words):
    model = model_of().train()
    with pytest.raises(UserError, match=words):
        list(generate(model, prompt, count))
    assert model.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_generates(kind, dtype):
    model = model_of(positions=kind).to(dtype)
    assert len(list(generate(model, [1, 2], 20))) == 20


def test_generating_under_autocast():
    model = model_of()
    with torch.autocast("cpu", torch.bfloat16):
        assert len(list(generate(model, [1, 2], 20))) == 20


# Text


@pytest.fixture
def byte_model():
    tokenizer = ByteTokenizer()
    return model_of(vocab_size=tokenizer.vocab_size + 7, max_seq_len=40), tokenizer


def test_the_pieces_are_the_decoded_ids(byte_model):
    model, tokenizer = byte_model
    for seed in range(10):
        options = {"sampling": Sampling(2.0), "seed": seed}
        stop = frozenset([tokenizer.end_of_text])
        ids = list(
            generate(
                model, tokenizer.encode("né"), 60, stop=stop, vocab_size=263, **options
            )
        )
        pieces = list(generate_text(model, tokenizer, "né", 60, **options))
        assert "".join(pieces) == tokenizer.decode(ids)
        assert all(pieces)


def test_an_empty_prompt_starts_a_document(byte_model):
    model, tokenizer = byte_model
    found = "".join(generate_text(model, tokenizer, "", 20, sampling=GREEDY))
    ids = generate(model, [tokenizer.end_of_text], 20, sampling=GREEDY, vocab_size=263)
    assert found == tokenizer.decode(ids)


def test_text_of_the_user_is_never_a_control_token(byte_model):
    model, tokenizer = byte_model
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    list(generate_text(model, tokenizer, "<|endoftext|>", 1))
    assert seen[0].shape[1] == 13
    assert seen[0].max() < 256


def test_end_of_text_ends_it_silently(byte_model):
    model, tokenizer = byte_model
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[tokenizer.end_of_text].copy_(model.norm.gain)
        model.norm.gain.copy_(model.norm.gain.abs())
    ids = torch.tensor([tokenizer.encode("ab")])
    if model(ids).logits[0, -1, tokenizer.end_of_text] < 0:
        with torch.no_grad():
            model.head.weight.neg_()
    pieces = list(generate_text(model, tokenizer, "ab", 20, sampling=GREEDY))
    assert pieces == []
