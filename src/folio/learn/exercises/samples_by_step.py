"""Exercise: samples against training steps."""

from folio.learn.exercise import Exercise, Wrong
from folio.learn.expect import equal


class Learning:
    """A model that only counts how often it was trained."""

    def __init__(self, steps: int):
        self.steps, self.done, self.asked = steps, 0, []

    def losses(self):
        for _ in range(self.steps):
            self.done += 1
            yield 10.0 - self.done

    def write(self) -> str:
        self.asked.append(self.done)
        return f"after {self.done}"


def taken(samples, steps: int, every: int):
    model = Learning(steps)
    return model, list(samples(model.losses(), model.write, every))


def steps_are_the_first_and_each_so_many(samples):
    _, got = taken(samples, 9, 3)
    equal([row[0] for row in got], [1, 3, 6, 9], "the first step, then every third")


def the_loss_is_that_of_the_step(samples):
    _, got = taken(samples, 4, 2)
    equal([row[1] for row in got], [9.0, 8.0, 6.0], "the losses of steps 1, 2 and 4")


def the_sample_is_of_the_model_at_that_step(samples):
    _, got = taken(samples, 4, 2)
    wanted = ["after 1", "after 2", "after 4"]
    equal([row[2] for row in got], wanted, "samples of the model as it was then")


def it_samples_no_more_than_it_shows(samples):
    model, _ = taken(samples, 9, 3)
    equal(model.asked, [1, 3, 6, 9], "writing takes time: ask only where it is shown")


def it_shows_while_it_learns(samples):
    model = Learning(100)
    first = next(iter(samples(model.losses(), model.write, 10)))
    equal(first[0], 1, "the first row")
    equal(model.done, 1, "the first row must come after one step, not after all")


EXERCISE = Exercise(
    title="Quality against steps",
    chapter=17,
    week=3,
    symbol="folio.learn.reference.training:samples_by_step",
    task="""
    Watch a model learn. `losses` trains it a step at a time as you read it; `write()`
    asks for a sample. Yield (steps done, loss, sample) at the first step, and whenever
    the number of steps is a multiple of `every`.
    """,
    hints=(
        "A for loop over `losses` trains; enumerate(losses, 1) counts from 1.",
        "Yield inside of the loop, so that each row is shown when it is true.",
        "if step == 1 or step % every == 0: yield step, loss, write()",
    ),
    checks=(
        steps_are_the_first_and_each_so_many,
        the_loss_is_that_of_the_step,
        the_sample_is_of_the_model_at_that_step,
        it_samples_no_more_than_it_shows,
        it_shows_while_it_learns,
    ),
    wrong=(
        Wrong(
            "trained to the end first",
            "enumerate(losses, 1)",
            "enumerate(list(losses), 1)",
            "as it was then",
        ),
        Wrong(
            "counted from 0", "enumerate(losses, 1)", "enumerate(losses)", "the first"
        ),
        Wrong("without the first", "step == 1 or ", "", "the first step"),
        Wrong(
            "a sample at each step",
            "        if step",
            "        text = write()\n        if step",
            "ask only where it is shown",
        ),
    ),
)
