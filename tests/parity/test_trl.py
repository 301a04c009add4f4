"""The losses of DPO and GRPO beside TRL's, and their gradients, on small tensors.

TRL's formulas are methods of its trainers. Here a stand-in is the trainer: it has the
settings that the method reads, and a model that says the log-probs it was made with.
bench/beside_trl.py trains with the real ones.
"""

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from folio.data.batch import Batch
from folio.objectives.dpo import DPO
from folio.objectives.grpo import GRPO, response_weights
from folio.rl.advantage import group_advantages

if importlib.util.find_spec("trl") is None:
    pytest.skip("TRL isn't installed: pip install trl", allow_module_level=True)

from accelerate import Accelerator
from trl import DPOTrainer, GRPOTrainer
from trl.trainer.utils import nanstd

PAIRS, ROWS, LENGTH = 3, 6, 9
FIRST = torch.tensor([4, 3, 4, 3, 4, 3])[:, None]  # of the answers, of 1 to 6 tokens
LAST = FIRST + torch.arange(ROWS)[:, None]
PLACES = torch.arange(LENGTH)
MASK = ((FIRST <= PLACES) & (PLACES <= LAST)).double()


def some_logprobs(seed: int) -> torch.Tensor:
    """(ROWS, LENGTH), about -2, in fp64: nothing is left to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return -4 * torch.rand(ROWS, LENGTH, generator=generator, dtype=torch.float64)


def our_loss(objective, logprobs, denominator, **tensors):
    """The objective's loss per unit of its denominator, and the gradient."""
    logprobs = logprobs.clone().requires_grad_()

    def model(inputs, **asked):
        return SimpleNamespace(logprobs=logprobs, router_loss=None)

    tokens = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    batch = Batch(denominator, inputs=tokens, targets=tokens, **tensors)
    loss = objective(model, batch)[0] / denominator
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


def trainer(**settings):
    """What both of TRL's methods read of a trainer, and the settings of one."""
    return SimpleNamespace(
        model=torch.nn.Identity(),
        accelerator=Accelerator(cpu=True),
        aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **settings,
    )


# ---- DPO -----------------------------------------------------------------------------


def their_dpo(logprobs, references, loss, beta, label_smoothing):
    """TRL's batches have the chosen answers first, then the rejected ones."""
    stand_in = trainer(
        loss_types=[loss],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        _total_train_tokens=0,
        _tp_size=1,
    )
    logprobs = logprobs.clone().requires_grad_()
    order = torch.cat([torch.arange(0, ROWS, 2), torch.arange(1, ROWS, 2)])
    mask = MASK[order]
    said = SimpleNamespace(
        log_probs=logprobs[order] * mask,  # 0 outside the answer
        entropy=torch.zeros_like(mask),
        mean_logits=torch.zeros_like(mask),
        is_top1=mask.bool(),
    )
    ids = torch.zeros(ROWS, LENGTH + 1, dtype=torch.long)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "completion_mask": torch.cat([torch.zeros(ROWS, 1), mask], dim=1),
        "ref_chosen_logps": references[0::2],
        "ref_rejected_logps": references[1::2],
    }

    def model(**asked):
        return said

    loss = DPOTrainer._compute_loss(stand_in, model, inputs, return_outputs=False)
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (DPO(0.3), "sigmoid"),
        (DPO(0.3, "hinge"), "hinge"),
        (DPO(0.3, "ipo"), "ipo"),
        (DPO(0.3, "robust", label_smoothing=0.2), "robust"),
        (DPO(0.3, "simpo"), "sigmoid_norm"),  # where the reference says 0
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dpo(ours, theirs):
    logprobs, references = some_logprobs(0), (some_logprobs(1) * MASK).sum(1)
    if ours.loss == "simpo":
        references = torch.zeros_like(references)
    loss, gradient = our_loss(
        ours, logprobs, PAIRS, weights=MASK, references=references
    )
    their_loss, their_gradient = their_dpo(
        logprobs, references, theirs, ours.beta, ours.label_smoothing
    )
    torch.testing.assert_close(loss, their_loss)
    torch.testing.assert_close(gradient, their_gradient)


# ---- GRPO ----------------------------------------------------------------------------


def their_grpo(logprobs, old, reference, advantages, loss_type, beta):
    settings = {
        "use_bias_correction_kl": False,
        "delta": None,
        "steps_per_generation": 1,
    }
    logprobs = logprobs.clone().requires_grad_()
    stand_in = trainer(
        _get_per_token_logps_and_entropies=lambda *asked, **more: (
            logprobs,
            torch.zeros_like(logprobs),
            None,
        ),
        args=SimpleNamespace(**settings),
        loss_type=loss_type,
        beta=beta,
        epsilon_low=0.2,
        epsilon_high=0.28,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        use_vllm=False,
        max_completion_length=LENGTH,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
    )
    prompt = torch.zeros(ROWS, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": torch.zeros(ROWS, LENGTH, dtype=torch.long),
        "completion_mask": MASK,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": MASK.sum(),
    }
    loss = GRPOTrainer._compute_loss(stand_in, None, inputs)
    return loss.detach(), torch.autograd.grad(loss, logprobs)[0]


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(
    ("aggregation", "loss_type"),
    [
        ("sequence", "grpo"),
        ("token", "bnpo"),
        ("token", "dapo"),
        ("constant", "dr_grpo"),
    ],
)
def test_grpo(aggregation, loss_type, beta):
    new, reference = some_logprobs(0), some_logprobs(1)
    old = new + 0.3 * torch.randn(new.shape, generator=torch.Generator().manual_seed(2))
    advantages = torch.tensor([1.0, -2.0, 0.5, -0.5, 2.0, -1.0], dtype=torch.float64)
    weights, denominator = response_weights(MASK, aggregation, longest=LENGTH)
    loss, gradient = our_loss(
        GRPO(clip_low=0.2, clip_high=0.28, beta=beta),
        new,
        denominator,
        weights=weights.double(),
        old_logprobs=old,
        reference_logprobs=reference,
        advantages=advantages[:, None] * MASK,
    )
    clipped = (gradient == 0) & MASK.bool()
    assert clipped.any() == (beta == 0)  # the clip is at work: the KL term hides it
    theirs = their_grpo(new, old, reference, advantages, loss_type, beta)
    # a third is no double after response_weights, which works in fp32
    torch.testing.assert_close(loss, theirs[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, theirs[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_advantages_but_for_the_kind_of_deviation(scale):
    """TRL divides by the deviation of a sample (n - 1), we by that of the group (n)."""
    rewards, group = torch.tensor([1.0, 0.0, 0.0, 0.5, 0.2, 0.9]), 3
    rows = rewards.view(-1, group)
    theirs = rows - rows.mean(1, keepdim=True)
    if scale == "group":
        theirs = theirs / nanstd(rows, dim=1, keepdim=True)
        theirs = theirs * (group / (group - 1)) ** 0.5
    ours = group_advantages(rewards, group, scale)
    torch.testing.assert_close(ours, theirs.flatten(), rtol=1e-3, atol=0)
