"""Answers by way of the engine: those of the model, and of nobody's neighbors."""

import pytest
import torch

from folio.config import UserError
from folio.data.records import Prompt
from folio.evals.answers import Answer, AnswerEvaluator
from folio.evals.respond import UNANSWERABLE, respond_with
from folio.infer.engine import Engine
from folio.infer.generate import generate
from folio.infer.sampling import GREEDY, Sampling
from folio.text.byte import ByteTokenizer
from folio.text.chat import ChatTemplate
from helpers import tiny_model

TOKENIZER = ByteTokenizer()
END = TOKENIZER.special_id("<|end|>")


def model(limit: int = 64):
    return tiny_model(vocab_size=TOKENIZER.vocab_size, max_seq_len=limit).eval()


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(({"role": "user", "content": t},), "no", "no") for t in texts]


def test_a_greedy_answer_is_what_the_model_writes_after_the_prompt():
    writer = model()
    [[answer]] = respond_with(writer, TOKENIZER, 12)(prompts("Who?"), GREEDY, 1)
    ids, _ = ChatTemplate().render(prompts("Who?")[0].messages, TOKENIZER, True)
    written = [int(i) for i in generate(writer, ids, 12, sampling=GREEDY)]
    assert answer.text == TOKENIZER.decode([i for i in written if i < 256])
    assert answer.finished == (written[-1] == END)


def test_a_model_that_ends_at_once_has_finished_and_said_nothing():
    writer = model()
    only_end = torch.zeros(TOKENIZER.vocab_size).index_fill(0, torch.tensor(END), 9.0)
    writer.read = lambda hidden: only_end.expand(*hidden.shape[:-1], -1)
    answers = respond_with(writer, TOKENIZER, 5)(prompts("a", "b"), GREEDY, 1)
    assert answers == [[Answer("", True)]] * 2


def test_answers_do_not_depend_on_what_else_is_asked():
    texts = ["red", "hen", "sat on eggs", "and then"]
    respond = respond_with(model(), TOKENIZER, 10, seed=3)
    together = respond(prompts(*texts), Sampling(1.0), 3)
    alone = respond_with(model(), TOKENIZER, 10, seed=3, max_batch=2)
    for text, answers in zip(texts, together, strict=True):
        assert alone(prompts(text), Sampling(1.0), 3) == [answers]
    assert respond(prompts(*texts[::-1]), Sampling(1.0), 3) == together[::-1]
    assert len({answer.text for answers in together for answer in answers}) == 12


def test_a_seed_repeats_and_another_one_does_not():
    def drawn(seed):
        return respond_with(model(), TOKENIZER, 10, seed)(
            prompts("red"), Sampling(1.0), 4
        )

    assert drawn(0) == drawn(0) != drawn(1)


def test_prompts_that_do_not_fit_are_told_and_count_as_wrong():
    said = []
    writer = model(limit=32)
    respond = respond_with(writer, TOKENIZER, 20, say=said.append)
    asked = prompts("x" * 40, "y" * 15, "z")  # and three control tokens each
    long, narrow, short = respond(asked, Sampling(1.0), 2)
    assert long == [UNANSWERABLE] * 2
    assert not UNANSWERABLE.finished
    ids, _ = ChatTemplate().render(asked[1].messages, TOKENIZER, True)
    engine = Engine(writer, TOKENIZER)
    with pytest.raises(UserError, match="ask for fewer"):
        engine.generate([ids], max_new_tokens=16)  # one more than was given
    assert len(ids) + 15 == 32 + 1
    assert all(len(answer.text.encode()) >= 1 for answer in (*narrow, *short))
    assert len(said) == 2
    assert said[0].startswith("1 of 3 prompts are longer than the context of 32")
    assert said[1].startswith("1 of 3 prompts leave room in the context for fewer")
    respond(asked, GREEDY, 1)
    assert len(said) == 2  # once is enough


def test_a_prompt_as_long_as_the_context_gets_one_token():
    respond = respond_with(model(limit=16), TOKENIZER, 20, say=lambda text: None)
    [[answer], [none]] = respond(prompts("x" * 13, "x" * 14), GREEDY, 1)
    assert answer.text != ""
    assert none == UNANSWERABLE


def test_an_evaluator_takes_it():
    results = AnswerEvaluator(prompts("a", "b"), samples=2)(
        respond_with(model(), TOKENIZER, 6)
    )
    assert results["sampled"]["all"]["exact"].count == 2


def test_what_cannot_be_encoded_names_its_place():
    asked = [Prompt(({"role": "nobody", "content": "a"},), "", "", where="f, line 3")]
    with pytest.raises(UserError, match="f, line 3: "):
        respond_with(model(), TOKENIZER, 6)(asked, GREEDY, 1)
