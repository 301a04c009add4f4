"""Speculative decoding: the model's own distribution, however bad the guesses."""

import itertools

import pytest
import torch

from folio.config import UserError
from folio.infer.generate import generate, generate_text
from folio.infer.sampling import GREEDY, Sampling, adjust
from folio.infer.speculative import (
    Chooser,
    DraftModel,
    LookUp,
    RewindReader,
    Tally,
    acceptance,
    generate_speculative,
    residual,
    speculative_text,
    verify,
)
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.text.byte import ByteTokenizer

VOCABULARY = 29


def model_of(seed: int = 0, scale: float = 0.7, **changes) -> Decoder:
    """Random weights, large enough that the text doesn't settle into one token."""
    fields = {
        "vocab_size": VOCABULARY,
        "max_seq_len": 36,
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
            parameter.normal_(std=scale, generator=generator)
    return model.eval()


def nearly(model: Decoder, noise: float, seed: int = 9) -> Decoder:
    """The same model a little off: a draft that is often, but not always, right."""
    other = Decoder(model.config).to(model.embedding.weight.dtype)
    other.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return other.eval()


# ---- the rule ------------------------------------------------------------------------


def random_distribution(seed: int, size: int, zeros: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(size, generator=generator, dtype=torch.float64) ** 3
    p *= torch.rand(size, generator=generator) >= zeros
    p[seed % size] += 0.01
    return p / p.sum()


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_kept_or_replaced_gives_exactly_p(zeros):
    """Summed over all that can happen to a guess, by the functions that decide."""
    for seed in range(200):
        p = random_distribution(seed, 7, zeros)
        q = random_distribution(seed + 1000, 7, zeros)
        kept = torch.where(q > 0, acceptance(p, q), torch.zeros(()))
        kept = q * kept
        found = kept + (1 - kept.sum()) * residual(p, q)
        assert torch.allclose(found, p, atol=1e-12), seed


def test_equal_distributions_keep_every_guess():
    p = random_distribution(1, 5)
    assert torch.equal(acceptance(p, p), torch.ones(5, dtype=p.dtype))
    assert torch.equal(residual(p, p), p)  # nothing left: never asked for, but no NaN


def chi_square(counts: torch.Tensor, p: torch.Tensor) -> float:
    """Sum of (seen - expected)² / expected; what has p = 0 must not be seen."""
    assert counts[p == 0].sum() == 0
    expected = p[p > 0] * counts.sum()
    return float(((counts[p > 0] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("guesses", [1, 2, 3])
def test_the_tokens_of_verify_are_distributed_as_p(guesses):
    """Tokens drawn from q, checked: the first is one of p[0], the next of p[1], ..."""
    size, trials = 5, 3000
    generator = torch.Generator().manual_seed(guesses)
    p = torch.stack([random_distribution(i, size) for i in range(guesses + 1)])
    q = torch.stack([random_distribution(50 + i, size) for i in range(guesses)])
    counts = torch.zeros(guesses + 1, size, dtype=torch.float64)
    draws = torch.multinomial(q, trials, True, generator=generator).T.tolist()
    for guess in draws:
        for place, token in enumerate(verify(guess, p, q, generator)):
            counts[place, token] += 1
    for place in range(guesses + 1):  # 4 degrees of freedom: 18.5 once in a thousand
        assert chi_square(counts[place], p[place]) < 18.5
    assert counts[0].sum() == trials > counts[1].sum() > 0


# ---- the whole of it -----------------------------------------------------------------

EVERYTHING = Sampling(0.9, top_k=3, top_p=0.95, min_p=0.1, repetition_penalty=1.5)


def exact(model: Decoder, prompt: list[int], count: int, sampling: Sampling):
    """{tokens: probability} of all continuations, by reading each from the start."""
    found = {(): 1.0}
    for _ in range(count):
        longer = {}
        for tokens, probability in found.items():
            text = [*prompt, *tokens]
            seen = torch.zeros(1, model.config.vocab_size, dtype=torch.bool)
            seen[0, text] = True
            with torch.no_grad():
                logits = model(torch.tensor([text])).logits[:, -1]
            after = adjust(logits, sampling, seen).softmax(-1)[0].tolist()
            for token, share in enumerate(after):
                if share:
                    longer[(*tokens, token)] = probability * share
        found = longer
    return found


@pytest.mark.parametrize(
    ("sampling", "kind"),
    [(Sampling(), "model"), (EVERYTHING, "model"), (EVERYTHING, "look-up")],
)
def test_texts_come_as_often_as_the_model_alone_makes_them(sampling, kind):
    """All texts of three tokens over a vocabulary of three, over many seeds."""
    shape = {"vocab_size": 3, "scale": 0.4, "n_layers": 1, "d_model": 8}
    model, prompt, tally = model_of(3, **shape), [0, 1, 2, 0, 1], Tally()
    wanted = exact(model, prompt, 3, sampling)
    drafts = {"model": DraftModel(model_of(4, **shape)), "look-up": LookUp()}
    counts = dict.fromkeys(itertools.product(range(3), repeat=3), 0)
    for seed in range(300):
        options = {"sampling": sampling, "seed": seed, "tally": tally, "ahead": 2}
        tokens = generate_speculative(model, drafts[kind], prompt, 3, **options)
        counts[tuple(tokens)] += 1
    p = torch.tensor([wanted.get(t, 0.0) for t in counts], dtype=torch.float64)
    seen = torch.tensor([float(n) for n in counts.values()], dtype=torch.float64)
    freedom = int((p > 0).sum()) - 1
    assert chi_square(seen, p) < freedom + 3.1 * (2 * freedom) ** 0.5 + 4
    assert 0 < tally.kept < tally.guessed


def cases(count: int):
    """Random models, drafts and prompts of every kind."""
    kinds = ("rotary", "learned", "sinusoidal", "none")
    windows = ({}, {"window": 5}, {"window": 4, "sinks": 2, "attention_pattern": "wf"})
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        length = int(torch.randint(1, 16, (1,), generator=generator))
        prompt = torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()
        changes = {"positions": kinds[number % 4], **windows[number % 3]}
        yield number, model_of(number, **changes).double(), prompt


def test_greedy_tokens_are_those_of_generate():
    """Models of all kinds: drafts that are bad, near and perfect, and look-up."""
    tallies = {"bad": Tally(), "near": Tally(), "perfect": Tally(), "look-up": Tally()}
    for number, model, prompt in cases(48):
        sampling = Sampling(0.0, repetition_penalty=(1.0, 1.7)[number % 2])
        options = {"sampling": sampling, "vocab_size": (None, 23)[number % 5 == 0]}
        prompt = [token % 23 for token in prompt]
        wanted = list(generate(model, prompt, 9, **options))
        name = list(tallies)[number // 4 % 4]  # each with each kind of positions
        draft = {
            "bad": lambda m=model: DraftModel(model_of(77).double()),
            "near": lambda m=model: DraftModel(nearly(m, 0.03)),
            "perfect": lambda m=model: DraftModel(m),
            "look-up": lambda m=model: LookUp(),
        }[name]()
        found = generate_speculative(
            model,
            draft,
            prompt,
            9,
            ahead=1 + number // 3 % 6,
            tally=tallies[name],
            **options,
        )
        assert list(found) == wanted, number
    shares = {name: tally.acceptance for name, tally in tallies.items()}
    assert shares["perfect"] > 0.99
    assert 0.3 < shares["near"] < 0.99
    assert shares["bad"] < 0.2
    assert tallies["look-up"].kept > 0


def test_past_the_context_too():
    """A window goes on guessing; without one each token is read afresh, unguessed."""
    for changes, limit in (({}, 24), ({"window": 6, "sinks": 2}, None)):
        model, tally = model_of(max_seq_len=24, **changes).double(), Tally()
        ids = [1, 2, 3]
        while len(ids) < 53:  # the naive way
            seen = ids if limit is None else ids[-limit:]
            with torch.no_grad():
                ids.append(int(model(torch.tensor([seen])).logits[0, -1].argmax()))
        draft = DraftModel(model)  # silent past its own 24 tokens
        found = generate_speculative(
            model, draft, [1, 2, 3], 50, sampling=GREEDY, tally=tally
        )
        assert list(found) == ids[3:]
        assert 10 < tally.kept < 24
        if limit is None:
            tally = Tally()
            options = {"sampling": GREEDY, "tally": tally}
            found = generate_speculative(model, LookUp(), [1, 2, 3], 50, **options)
            assert list(found) == ids[3:]
            assert tally.kept > 10


def test_a_seed_decides_and_drafts_can_be_used_again():
    model = model_of()
    drafts = {"model": DraftModel(model_of(1)), "look-up": LookUp()}
    for draft in drafts.values():
        runs = [
            list(generate_speculative(model, draft, prompt, 12, seed=seed))
            for prompt, seed in (([1, 2], 5), ([3], 5), ([1, 2], 6), ([1, 2], 5))
        ]
        assert runs[0] == runs[3] != runs[2]


def test_stop_ends_it_unseen_even_amid_guesses():
    model = model_of().double()
    whole = list(generate(model, [1], 20, sampling=GREEDY))
    for stop in whole[1:9]:
        found = generate_speculative(
            model,
            DraftModel(model),
            [1],
            20,
            ahead=6,
            sampling=GREEDY,
            stop=frozenset([stop]),
        )
        assert list(found) == whole[: whole.index(stop)]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_as_many_as_asked_for(count):
    model = model_of()
    found = generate_speculative(model, DraftModel(model), [1], count, ahead=5)
    assert len(list(found)) == count


def test_the_model_reads_once_for_several_tokens():
    model, lengths = model_of().double(), []
    draft = DraftModel(nearly(model, 0.0))
    model.embedding.register_forward_pre_hook(lambda _, x: lengths.append(len(x[0][0])))
    tally = Tally()
    tokens = generate_speculative(
        model, draft, [1, 2, 3], 16, ahead=3, sampling=GREEDY, tally=tally
    )
    assert len(list(tokens)) == 16
    assert lengths == [3 + 3, 4, 4, 4]
    assert (tally.reads, tally.guessed, tally.kept) == (4, 12, 12)
    assert (tally.acceptance, tally.tokens_per_read) == (1.0, 4.0)


def test_training_mode_is_restored():
    model = model_of(dropout=0.5).train()
    tokens = generate_speculative(model, LookUp(), [1], 9)
    next(tokens)
    assert not model.training
    tokens.close()
    assert model.training


# ---- the parts -----------------------------------------------------------------------


def test_refused_tokens_leave_no_trace_in_the_reader():
    """Texts that branch off again and again, each as if it were read from the start."""
    for number, model, _ in cases(24):
        reader = RewindReader(model, 24)
        generator = torch.Generator().manual_seed(number)
        text = [1]
        for _ in range(12):
            keep = int(torch.randint(1, len(text) + 1, (1,), generator=generator))
            add = int(torch.randint(1, 6, (1,), generator=generator))
            new = torch.randint(0, VOCABULARY, (add,), generator=generator).tolist()
            text = (text[:keep] + new)[:24]
            rows = min(3, len(text))
            with torch.no_grad():
                wanted = model(torch.tensor([text])).logits[0, -rows:]
            assert torch.allclose(reader.read(text, rows), wanted, atol=1e-9)


def test_what_followed_before_is_guessed():
    text = [5, 6, 7, 8, 9, 1, 6, 7]
    assert LookUp().propose(text, 3, None) == ([8, 9, 1], None)
    assert LookUp().propose(text[:5], 3, None) == ([], None)  # 9 is new
    # the longest match wins over the newest: [2, 3] stood before 4, [3] before 9
    assert LookUp().propose([2, 3, 4, 3, 9, 2, 3], 1, None) == ([4], None)
    assert LookUp().propose([3, 4, 3, 9, 3], 1, None) == ([9], None)  # the newest
    growing = LookUp()
    for length in range(1, len(text)):
        growing.propose(text[:length], 3, None)
    assert growing.propose(text, 3, None) == ([8, 9, 1], None)
    assert growing.propose([1, 6, 2, 1], 2, None) == ([6, 2], None)  # another text


def test_draft_distributions_are_what_guesses_were_drawn_from():
    model = model_of()
    chooser = Chooser(Sampling(top_k=3), None, torch.Generator().manual_seed(0))
    guesses, q = DraftModel(model).propose([1, 2], 4, chooser)
    assert q.shape == (4, VOCABULARY)
    assert torch.allclose(q.sum(-1), torch.ones(4))
    assert ((q > 0).sum(-1) == 3).all()
    assert all(q[i, token] > 0 for i, token in enumerate(guesses))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [VOCABULARY]}, "the model knows"),
        ({"max_new_tokens": -1}, "max_new_tokens = -1"),
        ({"ahead": 0}, "ahead = 0: must be at least 1"),
        ({"draft": DraftModel(model_of(vocab_size=31))}, "31, the model one of 29"),
        (
            {"draft": DraftModel(model_of(vocab_size=11))},
            "both need the same tokenizer",
        ),
    ],
)
def test_bad_requests_are_named(changes, words):
    options = {"draft": LookUp(), "prompt": [1], "max_new_tokens": 5} | changes
    with pytest.raises(UserError, match=words):
        list(generate_speculative(model_of(), **options))


def test_text_is_that_of_generate_text():
    tokenizer = ByteTokenizer()
    model = model_of(vocab_size=tokenizer.vocab_size + 7, max_seq_len=60).double()
    wanted = "".join(generate_text(model, tokenizer, "né", 40, sampling=GREEDY))
    for draft in (LookUp(), DraftModel(nearly(model, 0.03))):
        pieces = speculative_text(model, tokenizer, "né", 40, draft, sampling=GREEDY)
        assert "".join(pieces) == wanted
