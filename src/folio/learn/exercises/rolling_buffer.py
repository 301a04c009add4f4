"""Exercise: a ring of slots for a window and its sinks."""

import torch

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import same


def ring(window: int = 3, sinks: int = 1):
    from folio.infer.cache import Ring

    return Ring(batch=1, window=window, sinks=sinks)


def at(*positions: int) -> torch.Tensor:
    return torch.tensor([positions])


def the_first_tokens_get_a_slot_each(slots):
    same(
        slots(ring(), at(0, 1, 2, 3)),
        at(0, 1, 2, 3),
        "1 sink and 3 others: a slot each",
    )


def a_token_replaces_the_one_that_left_the_window(slots):
    got = slots(ring(), at(4, 5, 6, 7))
    same(got, at(1, 2, 3, 1), "4 takes the slot of 1, which a window of 3 has left")


def sinks_are_never_replaced(slots):
    got = slots(ring(4, 2), torch.arange(2, 40)[None])
    same((got < 2).sum(), torch.tensor(0), "slots 0 and 1 belong to the two sinks")


def without_sinks_it_is_a_plain_ring(slots):
    same(slots(ring(3, 0), at(0, 1, 2, 3, 4)), at(0, 1, 2, 0, 1), "no sinks, window 3")


def padding_has_the_last_slot(slots):
    same(slots(ring(), at(-1)), at(-1), "position -1 is padding: slot -1, the last")


EXERCISE = Exercise(
    title="A rolling buffer with sinks",
    chapter=22,
    place=2,
    week=4,
    symbol="folio.infer.cache:Ring.slots",
    task="""
    Memory for a window of `self.window` tokens and the first `self.sinks`, however long
    the text. Give each position (B, T) its slot: the sinks keep the first slots for
    ever; behind them, a token takes the slot of the one that has just left the window.
    Position -1, padding, has slot -1.
    """,
    hints=(
        "Without sinks it is position % window.",
        "Behind the sinks, count from the sinks: their number is an offset, twice.",
        "torch.where(positions < self.sinks, positions, ...) covers -1 as well.",
    ),
    checks=(
        the_first_tokens_get_a_slot_each,
        a_token_replaces_the_one_that_left_the_window,
        sinks_are_never_replaced,
        without_sinks_it_is_a_plain_ring,
        padding_has_the_last_slot,
    ),
    wrong=(
        Wrong(
            "a ring over all slots, sinks and all",
            "self.sinks + (positions - self.sinks) % self.window",
            "positions % (self.window + self.sinks)",
            "4 takes the slot of 1",
        ),
        Wrong(
            "counted from the start of the text",
            "(positions - self.sinks) % self.window",
            "positions % self.window",
            "a slot each",
        ),
        Wrong(
            "the offset is forgotten",
            "rolled = self.sinks + (positions",
            "rolled = (positions",
            "a slot each",
        ),
        Wrong(
            "one sink too many",
            "positions < self.sinks",
            "positions <= self.sinks + self.window",
            "4 takes the slot of 1",
        ),
    ),
)
