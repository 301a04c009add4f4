"""The fit finds laws that are known, says how sure it is, and isn't led astray."""

from dataclasses import astuple

import numpy as np
import pytest

from folio.config import UserError
from folio.planning.scaling import Law, fit_law

KNOWN = Law(1.69, 406.4, 0.34, 410.7, 0.28)  # Hoffmann et al. 2022, eq. 10
SIZES, TOKENS = np.meshgrid([1e7, 4e7, 2e8, 1e9], [1e8, 5e8, 3e9, 2e10])
N, D = SIZES.ravel(), TOKENS.ravel()


def noisy(noise, seed):
    drawn = np.random.default_rng(seed).standard_normal(N.size)
    return KNOWN.loss(N, D) * np.exp(noise * drawn)


def test_without_noise_the_law_itself_is_found():
    found = fit_law(N, D, KNOWN.loss(N, D), resamples=2).law
    assert astuple(found) == pytest.approx(astuple(KNOWN), rel=1e-6)


@pytest.mark.parametrize(
    "law", [Law(0.3, 9.0, 0.9, 60.0, 0.6), Law(2, 50, 0.2, 5, 0.1)]
)
def test_other_laws_are_found_too(law):
    found = fit_law(N / 1e4, D / 1e4, law.loss(N / 1e4, D / 1e4), resamples=2).law
    assert astuple(found) == pytest.approx(astuple(law), rel=1e-4)


def test_intervals_hold_the_truth():
    """Of 95 % intervals at least 80 % must, in 12 worlds; and they aren't all wide."""
    held, widths = [], []
    for seed in range(12):
        fit = fit_law(N, D, noisy(0.003, seed), resamples=60, seed=seed)
        for name in ("E", "a", "b"):
            low, high = fit.interval(name)
            held.append(low <= getattr(KNOWN, name) <= high)
            widths.append((high - low) / getattr(KNOWN, name))
    assert np.mean(held) >= 0.8
    assert np.median(widths) < 0.25


def test_a_prediction_says_how_wrong_it_may_be():
    held, errors = [], []
    for seed in range(12):
        fit = fit_law(N, D, noisy(0.003, seed), resamples=60, seed=seed)
        noise = np.random.default_rng(100 + seed).standard_normal()
        truth = KNOWN.loss(4e9, 8e10) * np.exp(0.003 * noise)
        value, low, high = fit.predict(4e9, 8e10)
        held.append(low <= truth <= high)
        errors.append(abs(value / truth - 1))
    assert np.mean(held) >= 0.75
    assert np.median(errors) < 0.02


def test_one_odd_run_does_not_bend_the_law():
    losses = noisy(0.0005, 1)
    straight = fit_law(N, D, losses, resamples=2).law
    losses[5] *= 1.3
    bent = fit_law(N, D, losses, resamples=2).law
    assert bent.loss(1e9, 2e10) == pytest.approx(straight.loss(1e9, 2e10), rel=2e-3)


def test_the_optimum_is_the_lowest_point_of_its_budget():
    flops = 1e21
    parameters, tokens = KNOWN.optimum(flops)
    assert 6 * parameters * tokens == pytest.approx(flops)
    for factor in (0.8, 1.25):
        other = KNOWN.loss(factor * parameters, tokens / factor)
        assert other > KNOWN.loss(parameters, tokens)
    fit = fit_law(N, D, noisy(0.001, 3), resamples=60)
    best, low, high = fit.optimum(flops)
    assert low <= best <= high
    assert low < parameters < high


def test_noise_is_measured():
    assert fit_law(N, D, noisy(0.01, 4), resamples=2).noise == pytest.approx(
        0.01, rel=0.5
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (slice(0, 5), "5 runs of 4 sizes and 2 token counts"),
        (slice(0, 8), "three sizes and three token counts"),
    ],
)
def test_too_few_runs_are_refused(rows, words):
    with pytest.raises(UserError, match=words):
        fit_law(N[rows], D[rows], KNOWN.loss(N, D)[rows])


def test_a_run_that_broke_is_refused():
    losses = noisy(0.01, 1)
    losses[3] = float("nan")
    with pytest.raises(UserError, match="no finite loss"):
        fit_law(N, D, losses)
