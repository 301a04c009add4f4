"""How a model is run, as far as memory and time depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from folio.config import UserError


@dataclass(frozen=True)
class Numbers:
    """Bytes of each kind of number."""

    weight: int  # of a parameter
    gradient: int
    optimizer: int  # per parameter: AdamW's two averages, and a master copy if any
    stream: int  # of the residual stream and the norms
    product: int  # of what enters and leaves a matrix product
    handed: int = 0  # of a gradient that is handed over to fp32 after each backward

    @property
    def cast(self) -> bool:
        """Are weights and inputs rounded for each product, as autocast does?"""
        return self.product < self.stream


# Of the recipes: autocast rounds for each product; bf16-weights computes with a twin in
# bf16 of the fp32 weights (`folio.training.twin`). `zero` is no precision of a recipe
# but that of the published figures which the tests hold the planner to: weights and
# gradients of 2 bytes, and 12 for an optimizer that keeps the weights in fp32 beside
# its averages (Rajbhandari et al. 2020, section 3.1).
NUMBERS = {
    "fp32": Numbers(4, 4, 8, stream=4, product=4),
    "bf16": Numbers(4, 4, 8, stream=4, product=2),
    "fp16": Numbers(4, 4, 8, stream=4, product=2),
    "bf16-weights": Numbers(6, 2, 8, stream=2, product=2, handed=4),
    "zero": Numbers(2, 2, 12, stream=2, product=2),
}


@dataclass(frozen=True)
class Work:
    """One device's part of a step: `accumulate` micro-batches of batch x length."""

    batch: int  # B, sequences of one micro-batch on one device
    length: int  # T, tokens of a sequence
    precision: str = "fp32"  # a key of NUMBERS
    accumulate: int = 1
    checkpoint_layers: bool = False
    cuda: bool = True  # its kernels keep less than those of a CPU
    tensor: int = 1  # devices that share every matrix
    muon: bool = False  # keeps one average of the matrices inside of blocks, not two

    def __post_init__(self) -> None:
        if self.precision not in NUMBERS:
            known = ", ".join(NUMBERS)
            raise UserError(f"precision = {self.precision!r}: choose one of {known}")
        for name in ("batch", "length", "accumulate", "tensor"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")

    @property
    def numbers(self) -> Numbers:
        return NUMBERS[self.precision]

    @property
    def tokens(self) -> int:
        """N: tokens of one micro-batch."""
        return self.batch * self.length
