"""Writing on: equal to reading everything afresh, ended by stop tokens, repeatable."""

from itertools import islice

import pytest
import torch

from folio.config import UserError
from folio.infer.cache import make_caches
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


def lengths_read(model) -> list[int]:
    """A list that tells how many tokens each later call of the model reads."""
    lengths, hidden = [], model.hidden

    def counted(tokens, *more):
        lengths.append(tokens.shape[1])
        return hidden(tokens, *more)

    model.hidden = counted
    return lengths


@pytest.mark.parametrize(
    ("kind", "prompt_length"),
    [(kind, length) for kind in KINDS for length in (1, 5, 11, 12)]
    + [(kind, length) for kind in ("rotary", "none") for length in (13, 30)],
)
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
    model = model_of(max_seq_len=64)
    lengths = lengths_read(model)
    list(generate(model, [1, 2, 3, 4], 10, sampling=GREEDY))
    assert lengths == [4] + [1] * 9  # and the last one is not read in vain


def test_only_the_last_place_of_a_prompt_is_asked_for_scores():
    model, shapes = model_of(), []
    model.head.register_forward_pre_hook(
        lambda _, inputs: shapes.append(inputs[0].shape)
    )
    list(generate(model, [1, 2, 3, 4], 3, sampling=GREEDY))
    assert {shape.numel() for shape in shapes} == {16}


@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 11, 12])
@pytest.mark.parametrize("pattern", [None, "wf", "w"])
def test_a_prompt_read_in_pieces_gives_the_same_text(chunk, pattern):
    window = None if pattern is None else 4
    model = model_of(window=window, attention_pattern=pattern).double()
    prompt = [(7 * i) % 29 for i in range(11)]
    whole = list(generate(model, prompt, 10, sampling=GREEDY, chunk=100))
    lengths = lengths_read(model)
    assert list(generate(model, prompt, 1, sampling=GREEDY, chunk=chunk)) == whole[:1]
    assert lengths == [chunk] * (11 // chunk) + [11 % chunk] * (11 % chunk > 0)
    assert list(generate(model, prompt, 10, sampling=GREEDY, chunk=chunk)) == whole


@pytest.mark.parametrize("prompt_length", [1, 9, 30])
@pytest.mark.parametrize("pattern", ["wf", "wwf", "fw"])
def test_a_mixture_of_layers_is_recomputed(pattern, prompt_length):
    model = model_of(
        n_layers=3, window=3, sinks=2, attention_pattern=pattern, max_seq_len=16
    ).double()
    prompt = [(7 * i) % 29 for i in range(prompt_length)]
    found = list(generate(model, prompt, 25, sampling=GREEDY))
    assert found == recomputed(model, prompt, 25)


@pytest.mark.parametrize("prompt_length", [1, 9, 50])
@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("kind", ["rotary", "none"])
def test_windows_in_all_layers_go_on_as_if_the_whole_text_were_read(
    kind, sinks, prompt_length
):
    model = model_of(positions=kind, window=4, sinks=sinks).double()
    ids = [(7 * i) % 29 for i in range(prompt_length)]
    found = list(generate(model, ids, 60, sampling=GREEDY))
    with torch.no_grad():
        guesses = model(torch.tensor([ids + found])).logits[0].argmax(-1)
    assert guesses[prompt_length - 1 : -1].tolist() == found
    lengths = lengths_read(model)
    list(generate(model, [1], 60))
    assert lengths == [1] * 60


def test_without_a_number_it_goes_on_for_ever():
    for changes in ({}, {"window": 4}):
        model = model_of(**changes)
        endless = list(islice(generate(model, [1], None, seed=3), 40))
        assert endless == list(generate(model, [1], 40, seed=3))


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


def test_pieces_without_tokens_are_refused():
    with pytest.raises(UserError, match="chunk = 0: must be at least 1"):
        list(generate(model_of(), [1], 2, chunk=0))


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_a_prompt_past_the_end_of_absolute_positions_is_refused(kind):
    model = model_of(positions=kind)
    words = f"13 tokens, but {kind} positions end at max_seq_len = 12; shorten"
    with pytest.raises(UserError, match=words):
        list(generate(model, [1] * 13, 5))
    assert len(list(generate(model, [1] * 12, 5))) == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_generates(kind, dtype):
    model = model_of(positions=kind).to(dtype)
    assert len(list(generate(model, [1, 2], 20))) == 20


def test_generating_under_autocast():
    model = model_of()
    with torch.autocast("cpu", torch.bfloat16):
        assert len(list(generate(model, [1, 2], 20))) == 20


# Defects of other projects


def test_a_window_in_training_neither_leaks_nor_crops_for_all():
    """Keys cropped to the last window for all queries, and a mask aligned top left."""
    model = model_of(window=4, n_layers=1, max_seq_len=16).double()
    ids = torch.tensor([[(7 * i) % 29 for i in range(10)]])
    changed = ids.clone()
    changed[0, 9] += 1
    with torch.no_grad():
        whole, other = model(ids).logits[0], model(changed).logits[0]
        assert torch.equal(whole[:9], other[:9])
        for end in range(1, 11):  # each query has a window of its own
            alone = model(ids[:, max(0, end - 4) : end]).logits[0, -1]
            assert torch.allclose(whole[end - 1], alone, atol=1e-6)


def test_many_tokens_with_a_cache_are_causal():
    model = model_of().double()
    ids, positions = torch.tensor([[5, 3, 8, 1, 9, 2]]), torch.arange(6)[None]
    caches = make_caches(model.config, 1, 12, dtype=torch.float64)
    with torch.no_grad():
        model(ids[:, :2], positions[:, :2], caches)
        found = model(ids[:, 2:], positions[:, 2:], caches).logits
        assert torch.allclose(found, model(ids).logits[:, 2:], atol=1e-12)


def test_a_window_saves_memory_and_stays_at_its_length():
    """Window 8 and 2 sinks once held 66 keys after 66 tokens, or were full length."""
    config = ModelConfig(window=8, sinks=2, max_seq_len=1000)
    caches = make_caches(config, 1, 1000)
    width, k = config.head_width, torch.zeros(1, config.kv_heads, 1, config.head_width)
    for place in range(66):
        kept = caches[0].update(k, k, torch.tensor([[place]]))[0]
        assert kept.shape[2] == 8 + 2 + 1
    assert sum(c.k.numel() for c in caches) == 4 * config.kv_heads * 11 * width


def test_a_window_cached_or_not_writes_the_same_text():
    """Once they parted at the twentieth token."""
    model = model_of(window=4, sinks=1, max_seq_len=80).double()
    assert list(generate(model, [1, 2], 70, sampling=GREEDY)) == recomputed(
        model, [1, 2], 70
    )


def test_a_prompt_longer_than_the_window():
    model = model_of(window=4, sinks=1, max_seq_len=80).double()
    prompt = [(7 * i) % 29 for i in range(40)]
    for chunk in (3, 100):
        found = list(generate(model, prompt, 5, sampling=GREEDY, chunk=chunk))
        assert found == recomputed(model, prompt, 5)


def test_texts_of_one_model_do_not_meet():
    """Caches that live in modules can't be two at a time."""
    model = model_of()
    alone = [list(generate(model, [n], 20, seed=n)) for n in (1, 2)]
    pairs = zip(*(generate(model, [n], 20, seed=n) for n in (1, 2)), strict=True)
    assert [list(text) for text in zip(*pairs, strict=True)] == alone


def test_a_single_token_is_a_prompt():
    for kind in KINDS:
        model = model_of(positions=kind).double()
        assert list(generate(model, [3], 6, sampling=GREEDY)) == recomputed(
            model, [3], 6
        )


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
    model.embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
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
