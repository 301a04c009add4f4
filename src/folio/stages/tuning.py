"""Recipes of what comes after pretraining: the tables of their TOML files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from folio.config import UserError
from folio.data.embedded import PAIR_CATEGORIES
from folio.data.tales import CORE
from folio.objectives.distill import Distill
from folio.objectives.dpo import DPO
from folio.objectives.grpo import GRPO
from folio.objectives.ppo import PPO
from folio.objectives.ranking import Ranking
from folio.stages.recipe import StageRecipe

# ---- data ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordsRecipe:
    """A file of records, split by their prompts; or none: the embedded world."""

    path: str | None = None  # .jsonl .json .parquet, hf:NAME; none: embedded world
    split: tuple[float, ...] = (0.85, 0.1, 0.05)  # of a file: training, held out, test
    tasks: tuple[str, ...] = CORE  # of the embedded world

    def __post_init__(self) -> None:
        *needed, test = self.split
        right = len(needed) == 2 and min(needed) > 0 and test >= 0
        if not right or abs(sum(self.split) - 1) > 1e-6:
            raise UserError(
                f"data.split = {list(self.split)}: three shares that sum to 1, such as "
                "[0.85, 0.1, 0.05]; only the last may be 0"
            )


@dataclass(frozen=True)
class ChatsRecipe(RecordsRecipe):
    """Conversations, of which the assistant's part is learned."""

    turns: int = 6  # questions in a conversation of the embedded world
    careless: bool = False  # its annotator errs, and always in the same way
    examples: int = 0  # of the embedded world; 0: new ones without end
    val_examples: int = 200  # held-out conversations that the loss is measured on
    packed: bool = True  # several conversations in a row, none of which sees another
    overlong: Literal["truncate", "drop"] = "truncate"
    loss_on_prompt: bool = False
    curriculum: float = 0.0  # share of the first epoch that goes from short to long
    rejection: int = 0  # prompts that the parent answers; its best answers are learned
    judge: str | None = None  # a reward model that says which; none: the known truth
    samples: int = 8  # answers to each of those prompts
    temperature: float = 1.0  # of the answers
    max_new_tokens: int = 40  # of each


@dataclass(frozen=True)
class PairsRecipe(RecordsRecipe):
    """Preferences: two answers to a prompt, one of them better."""

    examples: int = 0  # of the embedded world; 0: without end, if none are sampled
    val_examples: int = 300
    categories: tuple[str, ...] = PAIR_CATEGORIES  # in what its pairs may differ
    flip: float = 0.0  # share of its labels that are wrong
    mistakes: float = 0.5  # share of its wrong answers that are near misses
    sampled: int = 0  # its prompts that the parent answers; ranked by the truth
    samples: int = 4  # answers to each of those, the best and the worst of which count
    temperature: float = 1.0  # of the answers
    max_new_tokens: int = 40  # of each


@dataclass(frozen=True)
class PromptsRecipe(RecordsRecipe):
    """Prompts for rollouts; their answers are known, or a reward model judges."""

    length: int = 88  # the most tokens of a prompt
    overlong: Literal["truncate", "drop"] = "drop"


@dataclass(frozen=True)
class AnswersRecipe:
    """Held-out prompts that are answered as training goes on, greedy and sampled."""

    prompts: int = 200  # 0: none
    samples: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 40


# ---- what is wanted ------------------------------------------------------------------


@dataclass(frozen=True)
class RewardTerms:
    """What a rollout earns: a reward model's score, a verifier's word, or both."""

    model: str | None = None  # a run of `folio reward`
    model_weight: float = 1.0
    verifier: Literal["none", "tales", "exact", "number"] = "none"
    verifier_weight: float = 1.0
    unfinished: float = 1.0  # what an answer without end loses against the worst

    def __post_init__(self) -> None:
        if self.model is None and self.verifier == "none":
            raise UserError(
                "reward: set reward.model to a run of `folio reward`, or "
                "reward.verifier to tales, exact or number, or both"
            )


@dataclass(frozen=True)
class RolloutRecipe:
    """How much is sampled from the policy, and how often it is learned from."""

    prompts: int = 16  # in one rollout, over all ranks
    group: int = 8  # answers to each
    temperature: float = 1.0
    max_new_tokens: int = 40  # end of turn included
    epochs: int = 1  # times that a rollout is gone through
    minibatches: int = 1  # updates in each of them
    stop_kl: float | None = None  # nats per token from old to new that end a rollout
    redraw: int = 0  # rounds of new prompts for groups that teach nothing
    kl_target: float | None = None  # nats per answer; above, rollouts get shorter
    min_new_tokens: int = 8  # but no shorter than this


# ---- whole recipes -------------------------------------------------------------------


@dataclass(frozen=True)
class TunedRecipe(StageRecipe):
    """What all stages after pretraining share: they begin with a parent."""

    answers: AnswersRecipe = field(default_factory=AnswersRecipe)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parent is None:
            raise UserError(
                f"parent: {self.name} begins with a run that has learned; name its "
                "folder with --parent"
            )


@dataclass(frozen=True)
class SFTRecipe(TunedRecipe):
    """Supervised fine-tuning: answer as the assistant of these conversations does."""

    name: str = "sft"
    data: ChatsRecipe = field(default_factory=ChatsRecipe)


@dataclass(frozen=True)
class RewardRecipe(TunedRecipe):
    """A reward model: score the better answer higher."""

    name: str = "reward"
    kind: Literal["decoder", "encoder"] = "decoder"  # which way its tokens look
    fresh: bool = False  # random weights instead of the parent's
    data: PairsRecipe = field(default_factory=PairsRecipe)
    ranking: Ranking = field(default_factory=Ranking)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora is not None:
            raise UserError("lora: a reward model is trained whole; leave [lora] out")


@dataclass(frozen=True)
class DPORecipe(TunedRecipe):
    """Learn from preferences without a reward model."""

    name: str = "dpo"
    data: PairsRecipe = field(default_factory=PairsRecipe)
    dpo: DPO = field(default_factory=DPO)


@dataclass(frozen=True)
class RLRecipe(TunedRecipe):
    """What PPO and GRPO share: prompts, rollouts, rewards."""

    samples_itself: ClassVar[bool] = True

    data: PromptsRecipe = field(default_factory=PromptsRecipe)
    rollout: RolloutRecipe = field(default_factory=RolloutRecipe)
    reward: RewardTerms = field(default_factory=lambda: RewardTerms(verifier="tales"))


@dataclass(frozen=True)
class CriticRecipe:
    """Who expects what; its returns, and the price of leaving the parent."""

    shared: bool = False  # a head on the policy instead of a model of its own
    start: str | None = None  # a reward model to begin with; none: the parent
    lr: float = 5e-4  # of a critic of its own
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True  # advantages, over the whole rollout
    scale_rewards: bool = False  # by their running deviation
    limit: float = 5.0  # scores are clipped to it
    kl: float = 0.02  # price of a nat between policy and parent, per token
    kl_target: float | None = None  # nats per answer that the price is steered to
    kl_horizon: int = 10_000  # answers; how slowly it is steered


@dataclass(frozen=True)
class PPORecipe(RLRecipe):
    """Proximal policy optimization with a critic."""

    name: str = "ppo"
    rollout: RolloutRecipe = field(
        default_factory=lambda: RolloutRecipe(prompts=128, group=1, epochs=2)
    )
    ppo: PPO = field(default_factory=lambda: PPO(entropy=True))
    critic: CriticRecipe = field(default_factory=CriticRecipe)


@dataclass(frozen=True)
class AdvantageRecipe:
    """What an answer is worth beside the others of its group, and how tokens weigh."""

    scale: Literal["none", "group", "batch"] = "group"  # what the lead is divided by
    aggregation: Literal["token", "sequence", "constant"] = "token"


@dataclass(frozen=True)
class GRPORecipe(RLRecipe):
    """Group relative policy optimization: the baseline is the group."""

    name: str = "grpo"
    grpo: GRPO = field(default_factory=lambda: GRPO(entropy=True))
    advantage: AdvantageRecipe = field(default_factory=AdvantageRecipe)


@dataclass(frozen=True)
class DistillRecipe(TunedRecipe):
    """Learn a larger run's whole distribution, on conversations."""

    name: str = "distill"
    teacher: str = ""  # a run with the same tokenizer
    top: int = 0  # of the teacher's likeliest tokens are kept; 0: all
    data: ChatsRecipe = field(default_factory=ChatsRecipe)
    distill: Distill = field(default_factory=Distill)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teacher:
            raise UserError("teacher: name the run to learn from with --teacher")
