"""DPO and its relatives, against a longhand in Python's own numbers."""

import math

import pytest
import torch

from folio.config import UserError
from folio.data.batch import Batch
from folio.model.config import ModelConfig
from folio.model.decoder import Decoder
from folio.objectives.dpo import DPO, robust_loss, sigmoid_loss
from folio.training.learner import Learner
from tabular import Table, check_gradient

VARIANTS = [
    DPO(),
    DPO(beta=0.5, label_smoothing=0.1),
    DPO(nll=0.5),
    DPO(loss="ipo", beta=0.3),
    DPO(loss="hinge", beta=0.4),
    DPO(loss="robust", label_smoothing=0.2, nll=0.1),
    DPO(loss="simpo", beta=2.0, gamma=0.5),
    DPO(loss="simpo", beta=2.0, label_smoothing=0.1),
]
WEIGHTS = [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def make_batch(seed=1, vocab=6) -> Batch:
    make = torch.Generator().manual_seed(seed)
    return Batch(
        2,
        inputs=torch.randint(vocab, (4, 5), generator=make),
        targets=torch.randint(vocab, (4, 5), generator=make),
        weights=torch.tensor(WEIGHTS, dtype=torch.float64),
        references=-9 * torch.rand(4, generator=make, dtype=torch.float64),
    )


def longhand(options: DPO, logprobs: list, reference: list) -> tuple[float, list]:
    """The loss, and the margins h, by loops."""

    def total(table, row):
        return sum(x for x, w in zip(table[row], WEIGHTS[row], strict=True) if w)

    def log_sigmoid(x):
        return -math.log(1 + math.exp(-x))

    loss, margins = 0.0, []
    beta, share = options.beta, options.label_smoothing
    for chosen, rejected in ((0, 1), (2, 3)):
        long, short = sum(WEIGHTS[chosen]), sum(WEIGHTS[rejected])
        up = total(logprobs, chosen) - reference[chosen]
        down = total(logprobs, rejected) - reference[rejected]
        h = up - down
        right, wrong = -log_sigmoid(beta * h), -log_sigmoid(-beta * h)
        if options.loss == "sigmoid":
            loss += (1 - share) * right + share * wrong
        elif options.loss == "robust":
            loss += ((1 - share) * right - share * wrong) / (1 - 2 * share)
        elif options.loss == "hinge":
            loss += max(0.0, 1 - beta * h)
        elif options.loss == "ipo":
            h = up / long - down / short
            loss += (h - 1 / (2 * beta)) ** 2
        else:
            pair = total(logprobs, chosen) / long - total(logprobs, rejected) / short
            margin = beta * pair - options.gamma
            loss -= (1 - share) * log_sigmoid(margin) + share * log_sigmoid(-margin)
            h = margin / beta
        loss -= options.nll * total(logprobs, chosen) / long
        margins.append(beta * h)
    return loss, margins


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: f"{o.loss}-{o.nll}")
def test_loss_and_gradient_are_the_longhand(options):
    model, batch = Table(), make_batch()
    loss, metrics = options(model, batch)
    said = model(batch.inputs, batch.targets).logprobs.tolist()
    wanted, margins = longhand(options, said, batch.references.tolist())
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    assert metrics["margin"].item() == pytest.approx(sum(margins))
    assert metrics["accuracy"].item() == sum(margin > 0 for margin in margins)
    check_gradient(options, model, batch, ["logits"])


def test_chosen_and_rejected_are_reported_apart():
    model, batch = Table(), make_batch()
    _, metrics = DPO()(model, batch)
    said = model(batch.inputs, batch.targets).logprobs
    change = (said * batch.weights).sum(1) - batch.references
    assert metrics["chosen_change"].item() == pytest.approx(
        (change[0] + change[2]).item()
    )
    assert metrics["rejected_change"].item() == pytest.approx(
        (change[1] + change[3]).item()
    )
    assert len(model.calls) == 2  # one of them ours


def at_the_reference(model, batch) -> Batch:
    with torch.no_grad():
        said = model(batch.inputs, targets=batch.targets).logprobs
    sums = (said * batch.weights).sum(1)
    return Batch(2, **dict(batch) | {"references": sums})


def test_at_the_reference_the_loss_is_ln_2_a_pair():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=6, d_model=16, n_heads=2, max_seq_len=8))
    loss, metrics = DPO()(model, at_the_reference(model, make_batch()))
    assert loss.item() / 2 == pytest.approx(math.log(2), abs=1e-7)
    assert metrics["accuracy"].item() / 2 == 0.5
    assert metrics["chosen_change"].item() == metrics["rejected_change"].item() == 0


def gradient(options, model, batch) -> torch.Tensor:
    model.zero_grad()
    options(model, batch)[0].backward()
    return model.logits.grad.clone()


def test_labels_that_say_nothing_teach_nothing():
    model = Table()
    batch = at_the_reference(model, make_batch())
    assert gradient(DPO(label_smoothing=0.5), model, batch).abs().max() < 1e-15
    assert gradient(DPO(), model, batch).abs().max() > 1e-3


def test_swapping_the_pair_turns_the_gradient_round():
    model = Table()
    batch = at_the_reference(model, make_batch())
    swap = [1, 0, 3, 2]
    swapped = Batch(2, **{name: x[swap] for name, x in batch.items()})
    other = Table()
    other.logits.data = model.logits.data[swap]
    there, back = gradient(DPO(), model, batch), gradient(DPO(), other, swapped)
    torch.testing.assert_close(back[swap], -there)


@pytest.mark.parametrize("options", VARIANTS[:3], ids=lambda o: f"{o.loss}-{o.nll}")
def test_the_reference_cancels_if_it_says_the_same_of_both(options):
    """A prompt's own probability, equal for both, changes nothing."""
    model, batch = Table(), make_batch()
    moved = batch.references + torch.tensor([-7.0, -7.0, 3.0, 3.0])
    other = Batch(2, **dict(batch) | {"references": moved})
    loss = options(model, batch)[0].item()
    assert options(model, other)[0].item() == pytest.approx(loss)
    moved = batch.references + torch.tensor([-7.0, 3.0, -7.0, 3.0])
    other = Batch(2, **dict(batch) | {"references": moved})
    assert options(model, other)[0].item() != pytest.approx(loss)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: f"{o.loss}-{o.nll}")
def test_what_has_no_weight_is_never_read(options):
    model, batch = Table(), make_batch()
    clean, outside = options(model, batch)[0].item(), batch.weights == 0
    assert gradient(options, model, batch)[outside].abs().max() == 0
    model.logits.data[outside] = math.nan
    assert options(model, batch)[0].item() == clean


def test_simpo_needs_no_reference_and_the_others_do():
    model, batch = Table(), make_batch()
    del batch["references"]
    loss, metrics = DPO(loss="simpo", beta=2.0)(model, batch)
    assert loss.isfinite()
    assert "chosen_change" not in metrics
    with pytest.raises(AttributeError, match="references"):
        DPO()(model, batch)


def test_the_robust_loss_of_flipped_labels_is_the_loss_of_clean_ones():
    h = torch.linspace(-4, 4, 9, dtype=torch.float64)
    mixed = 0.7 * robust_loss(h, 0.3) + 0.3 * robust_loss(-h, 0.3)
    torch.testing.assert_close(mixed, sigmoid_loss(h))


def test_routers_are_paid_once_a_pair():
    asked = torch.tensor([1.0, 3.0, 5.0, 7.0], dtype=torch.float64)
    batch = make_batch()
    loss, metrics = DPO()(Table(router_loss=asked), batch)
    plain, _ = DPO()(Table(), batch)
    assert metrics["router_loss"].item() == 8.0  # mean of two rows, two pairs
    assert (loss - plain).item() == pytest.approx(8.0)


def test_micro_batches_of_whole_pairs_are_one_batch():
    batch = make_batch()

    def after(cuts):
        torch.manual_seed(0)
        model = Decoder(ModelConfig(vocab_size=6, d_model=16, n_heads=2, max_seq_len=8))
        learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1))
        parts = [
            Batch((stop - start) / 2, **{n: x[start:stop] for n, x in batch.items()})
            for start, stop in cuts
        ]
        metrics = learner.update(parts, DPO(nll=0.5))
        return metrics, model.embedding.weight.detach()

    whole, weights = after([(0, 4)])
    parts, same = after([(0, 2), (2, 4)])
    torch.testing.assert_close(weights, same, atol=1e-6, rtol=1e-5)
    assert whole == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "dpo"}, "loss = 'dpo'"),
        ({"beta": 0.0}, "beta = 0.0"),
        ({"nll": -0.1}, "nll = -0.1"),
        ({"gamma": 0.5}, "gamma = 0.5"),
        ({"label_smoothing": 0.7}, "label_smoothing = 0.7"),
        ({"loss": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "the loss ipo has none"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DPO(**options)
