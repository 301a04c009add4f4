"""PPO and GRPO: the policy learns from what it says itself."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

from folio.config import UserError
from folio.data.embedded import tales_prompts
from folio.data.order import Source
from folio.data.prompts import PromptStream
from folio.data.records import Prompt, read_prompts
from folio.data.verifiers import Verifier
from folio.infer.sampling import Sampling
from folio.model.decoder import Decoder
from folio.model.scorer import ActorCritic, Scorer, ValueHead
from folio.model.store import load_scorer
from folio.rl.baseline import Baseline, CriticBaseline, GroupBaseline
from folio.rl.control import AdaptiveKL, FixedKL, RolloutLength, RunningScale
from folio.rl.rewards import MixedReward, ModelReward, Reward, VerifierReward
from folio.rl.stream import RolloutOptions, Rollouts
from folio.runtime import data_world, find_device, world_size
from folio.stages.assemble import Parts, Say, learner_of, make_model
from folio.stages.exam import VERIFIERS, answers_measure, exam_of
from folio.stages.stage import run_stage
from folio.stages.tuned import (
    check_same_tokenizer,
    dealt,
    frozen,
    prepare_tuned,
    read_parts,
)
from folio.stages.tuning import CriticRecipe, GRPORecipe, PPORecipe, RLRecipe
from folio.stages.watch import expert_hooks
from folio.text.tokenizer import Tokenizer
from folio.training.hooks import due, look
from folio.training.learner import TWIN, Learner, Objective
from folio.training.loop import Hook, Metrics
from folio.training.run import Run
from folio.training.twin import Twin


def ppo(
    recipe: PPORecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Improve the parent by PPO; see `run_stage`."""
    return _run(recipe, folder, partial(assemble_ppo, recipe), resume, say)


def grpo(
    recipe: GRPORecipe, folder: Path, *, resume: bool = False, say: Say = print
) -> Run:
    """Improve the parent by GRPO; see `run_stage`."""
    return _run(recipe, folder, partial(assemble_grpo, recipe), resume, say)


def _run(recipe: RLRecipe, folder: Path, assemble, resume: bool, say: Say) -> Run:
    in_parts = world_size() > 1 and recipe.parallel.kind == "fsdp"
    if recipe.train.precision == TWIN and in_parts:
        raise UserError(
            f"train.precision = {TWIN!r}: with parallel.kind = 'fsdp' rollouts are"
            " sampled by the weights in fp32, and the ratio to what was sampled would"
            " not begin at 1; use bf16, or parallel.kind = 'ddp'"
        )
    prepare = partial(prepare_tuned, recipe)
    return run_stage(recipe, folder, prepare, assemble, resume=resume, say=say)


# ---- the two -------------------------------------------------------------------------


def assemble_grpo(
    recipe: GRPORecipe, run: Run, tokenizer: Tokenizer, say: Say
) -> Parts:
    """A policy, and groups of its answers to the same prompts."""
    policy = make_model(recipe, tokenizer.vocab_size)
    learner = learner_of(recipe, policy)
    baseline = GroupBaseline(
        recipe.advantage.scale,
        recipe.advantage.aggregation,
        longest=recipe.rollout.max_new_tokens,
    )
    objective = replace(recipe.grpo, temperature=recipe.rollout.temperature)
    return _parts(recipe, run, tokenizer, learner, policy, baseline, objective, say)


def assemble_ppo(recipe: PPORecipe, run: Run, tokenizer: Tokenizer, say: Say) -> Parts:
    """A policy with a critic, which learns what to expect."""
    policy = make_model(recipe, tokenizer.vocab_size)
    options = recipe.critic
    critic = None if options.shared else make_critic(options, recipe, tokenizer)
    rates = None if options.shared else {"critic": options.lr}
    learner = learner_of(recipe, ActorCritic(policy, critic), rates)
    baseline = CriticBaseline(
        kl_price(options),
        options.gamma,
        options.lam,
        options.limit,
        options.whiten,
        RunningScale() if options.scale_rewards else None,
    )
    objective = replace(recipe.ppo, temperature=recipe.rollout.temperature)
    return _parts(recipe, run, tokenizer, learner, policy, baseline, objective, say)


def make_critic(
    options: CriticRecipe, recipe: PPORecipe, tokenizer: Tokenizer
) -> Scorer:
    """The trunk of a reward model or of the parent; its head knows nothing yet."""
    if options.start is None:
        return Scorer(copy.deepcopy(frozen(recipe.parent, "cpu")).requires_grad_(True))
    check_same_tokenizer(options.start, tokenizer, "critic.start")
    critic = load_scorer(Run(Path(options.start)).model)
    critic.value_head = ValueHead(critic.shape.d_model)
    return critic


def kl_price(options: CriticRecipe) -> FixedKL | AdaptiveKL:
    """What a nat between policy and parent costs: fixed, or steered to a target."""
    if options.kl_target is None:
        return FixedKL(options.kl)
    return AdaptiveKL(options.kl, options.kl_target, options.kl_horizon)


# ---- what they share -----------------------------------------------------------------


def _parts(
    recipe: RLRecipe,
    run: Run,
    tokenizer: Tokenizer,
    learner: Learner,
    policy: Decoder,
    baseline: Baseline,
    objective: Objective,
    say: Say,
) -> Parts:
    train, val = prompts_of(recipe, say)
    reference = frozen(recipe.parent, recipe.train.device)
    rollouts = Rollouts(
        learner.computing,
        prompt_stream(train, tokenizer, recipe, say),
        reward_of(recipe, tokenizer),
        baseline,
        rollout_options(recipe),
        max_new_tokens=rollout_length(recipe),
        sampling=Sampling(recipe.rollout.temperature),
        reference=Twin(reference).model if learner.twin else reference,
        gold=gold_of(recipe),
        autocast=learner.autocast,
        refresh=learner.refresh,
    )
    verifier = recipe.reward.verifier
    verifier = "exact" if verifier == "none" else verifier
    exam = exam_of(val, recipe.data.tasks, recipe.answers.prompts, verifier)
    return Parts(
        recipe,
        run,
        tokenizer,
        learner,
        rollouts,
        objective,
        kept=policy,
        measure=answers_measure(exam, recipe.answers, policy, tokenizer, say),
        best=None,  # held-out answers are looked at, not chosen by
        facts={"data": {"name": recipe.data.path or "tales"}},
        first=[
            *expert_hooks(recipe, policy, run),
            look(lambda step: True),  # what samples must be what learns
            tell_rollouts(rollouts, recipe.log.every, recipe.train.steps),
        ],
        may_save=lambda: rollouts.at_boundary,
    )


def tell_rollouts(rollouts: Rollouts, every: int, last: int) -> Hook:
    """What the update found goes to the rollouts, what they found into the log."""

    def hook(learner: Learner, metrics: Metrics) -> None:
        rollouts.after_update(metrics)
        metrics.update(rollouts.metrics)
        if due(learner.step, every, last):
            metrics["ratio_max"] = rollouts.largest_ratio()

    return hook


def prompts_of(
    recipe: RLRecipe, say: Say
) -> tuple[Source[Prompt], list[Prompt] | None]:
    """Prompts to answer, and held-out ones; none: those of the embedded world."""
    if recipe.data.path is not None:
        return read_parts(recipe.data, read_prompts, say)
    return tales_prompts(recipe.seed, "train", recipe.data.tasks), None


def prompt_stream(
    prompts: Source[Prompt], tokenizer: Tokenizer, recipe: RLRecipe, say: Say
) -> PromptStream:
    """The rollout's prompts, shared out among the ranks."""
    count, world = recipe.rollout.prompts, data_world()
    if count % world:
        raise UserError(
            f"rollout.prompts = {count}: must be a multiple of the {world} processes"
        )
    return PromptStream(
        prompts,
        tokenizer,
        batch=count // world,
        length=recipe.data.length,
        overlong=recipe.data.overlong,
        **dealt(recipe, say),
    )


def reward_of(recipe: RLRecipe, tokenizer: Tokenizer) -> Reward:
    """The reward model's score, the verifier's word, or both by their weights."""
    options, terms = recipe.reward, []
    if options.verifier != "none":
        reward = VerifierReward(VERIFIERS[options.verifier])
        terms.append((options.verifier_weight, reward, "verifier"))
    if options.model is not None:
        check_same_tokenizer(options.model, tokenizer, "reward.model")
        device = find_device(recipe.train.device)
        scorer = load_scorer(Run(Path(options.model)).model, device)
        scorer.requires_grad_(False)
        reward = ModelReward(scorer, tokenizer, options.unfinished)
        terms.append((options.model_weight, reward, "model"))
    return MixedReward(terms)


def gold_of(recipe: RLRecipe) -> Verifier | None:
    """What is really wanted, where that is known: logged beside a learned reward."""
    if recipe.data.path is None:
        return VERIFIERS["tales"]
    return VERIFIERS.get(recipe.reward.verifier)


def rollout_options(recipe: RLRecipe) -> RolloutOptions:
    """The recipe's table, and what it takes from others."""
    options = recipe.rollout
    return RolloutOptions(
        group=options.group,
        epochs=options.epochs,
        minibatches=options.minibatches,
        accumulate=recipe.train.accumulate,
        redraw=options.redraw,
        stop_kl=options.stop_kl,
        seed=recipe.seed,
    )


def rollout_length(recipe: RLRecipe) -> int | RolloutLength:
    """The most new tokens: fixed, or fewer while the policy is far from its parent."""
    options = recipe.rollout
    if options.kl_target is None:
        return options.max_new_tokens
    most = options.max_new_tokens
    least = min(options.min_new_tokens, most)
    return RolloutLength(most, least, most, options.kl_target)
