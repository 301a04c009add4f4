"""A conversation with several answers to a message, of which people choose."""

import pytest

from folio.config import UserError
from folio.data.records import read_pairs
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling
from folio.studio.compare import compare, usual
from folio.studio.preferences import Preferences
from folio.studio.talk import DOWN, MOST_ANSWERS, UP, Answer, Talk, begin_answer, follow
from folio.viz.markup import escape


def talk_of(*answers: str, **more) -> Talk:
    said = [{"role": "user", "content": "Who?"}]
    return Talk(turns=said, answers=[Answer(text) for text in answers], **more)


def test_saying_something_settles_the_turn_before():
    talk = talk_of("Mara", "Tom")
    talk.say("Why?")
    contents = [turn["content"] for turn in talk.turns]
    assert contents == ["Who?", "Tom", "Why?"]  # nobody judged: the newest counts
    assert talk.answers == []


def test_the_conversation_goes_on_with_what_was_liked(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    talk = talk_of("Mara", "Tom", "Zoë")
    talk.mark(2, DOWN, kept)
    assert talk.best.text == "Tom"
    talk.mark(0, UP, kept)
    assert talk.messages[-1] == {"role": "assistant", "content": "Mara"}


def test_each_better_and_worse_pair_is_kept(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    talk = talk_of("a", "b", "c", system="Be kind.")
    assert talk.mark(0, UP, kept) == 0
    assert talk.mark(1, DOWN, kept) == 1
    assert talk.mark(2, DOWN, kept) == 1
    pairs = {(p.chosen, p.rejected) for p in read_pairs(kept.path)}
    assert pairs == {("a", "b"), ("a", "c")}
    assert read_pairs(kept.path)[0].prompt[0]["content"] == "Be kind."


def test_a_mark_can_be_taken_away_and_turned(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    talk = talk_of("a", "b")
    talk.mark(0, UP, kept)
    talk.mark(0, UP, kept)
    assert talk.answers[0].mark == 0
    talk.mark(0, DOWN, kept)
    assert talk.mark(1, UP, kept) == 1
    [pair] = read_pairs(kept.path)
    assert (pair.chosen, pair.rejected) == ("b", "a")


def test_equal_answers_make_no_pair_and_answers_that_are_gone_no_mark(tmp_path):
    kept = Preferences(tmp_path / "p.jsonl")
    talk = talk_of("a", "a")
    talk.mark(0, UP, kept)
    assert talk.mark(1, DOWN, kept) == 0
    with pytest.raises(UserError, match="that answer is gone"):
        talk.mark(2, UP, kept)


def test_a_message_that_failed_can_be_taken_back():
    talk = talk_of("Mara")
    talk.say("Why?")
    talk.take_back()
    assert talk.messages == [*talk_of().turns, {"role": "assistant", "content": "Mara"}]


def test_an_answer_is_what_the_engine_writes(studio):
    loaded = studio.load("chat")
    talk = talk_of()
    answer = Answer()
    handle = begin_answer(loaded, talk, GREEDY, 12)
    grown = [answer.text for _ in follow(handle, answer)]
    request = Request(talk.prompt, max_new_tokens=12, sampling=GREEDY)
    [expected] = loaded.worker.submit(request).result()
    assert answer.text == expected.text
    assert grown == sorted(grown, key=len)
    assert answer.note.startswith("12 tokens, cut off")


def test_answers_to_one_message_differ(studio):
    loaded, texts = studio.load("chat"), set()
    for _ in range(3):
        answer = Answer()
        list(follow(begin_answer(loaded, talk_of(), Sampling(), 12), answer))
        texts.add(answer.text)
    assert len(texts) > 1


def test_a_stopped_answer_keeps_what_was_said(studio):
    loaded, answer = studio.load("chat"), Answer()
    handle = begin_answer(loaded, talk_of(), Sampling(), 150)
    for _ in follow(handle, answer):
        handle.cancel()
    assert answer.note.endswith("stopped")
    assert loaded.engine.status()["running"] == 0


@pytest.mark.parametrize(
    ("name", "talk", "words"),
    [
        ("base", talk_of(), "never taught to answer"),
        ("chat", Talk(), "write a message first"),
        ("chat", talk_of(*"abcd"), f"{MOST_ANSWERS} answers are there"),
        ("chat", talk_of(system="x" * 200), "start a new one"),
    ],
)
def test_what_cant_be_answered_is_said(studio, name, talk, words):
    with pytest.raises(UserError, match=words):
        begin_answer(studio.load(name), talk, GREEDY, 8)


# ---- compare -------------------------------------------------------------------------


def columns(studio, names, prompt="Who?", **more):
    runs = {name: studio.runs.path(name) for name in names}
    options = {"sampling": GREEDY, "max_new_tokens": 8, "seed": 0} | more
    return list(compare(runs, studio.models.of, prompt, **options))


def test_each_run_answers_as_it_would_alone(studio):
    last = columns(studio, ["base", "chat"])[-1]
    base, chat = studio.load("base"), studio.load("chat")
    asked = [{"role": "user", "content": "Who?"}]
    for loaded, prompt in ((base, "Who?"), (chat, asked)):
        request = Request(prompt, max_new_tokens=8, sampling=GREEDY)
        [said] = loaded.worker.submit(request).result()
        assert escape(said.text) in last
    assert last.count("answer-column") == 2


def test_what_one_run_cant_do_stands_in_its_place(studio):
    last = columns(studio, ["base", "chat"], "x" * 190)[-1]  # the chat adds its marks
    assert last.count("notice") > 0
    assert last.count("answer-column") == 2


def test_no_runs_or_too_many_are_refused(studio):
    with pytest.raises(UserError, match="choose the runs"):
        columns(studio, [])
    runs = {str(i): studio.runs.path("base") for i in range(7)}
    with pytest.raises(UserError, match="at most 6"):
        list(compare(runs, studio.models.of, "x", GREEDY, 8, 0))


def test_leaving_early_frees_the_engines(studio):
    runs = {name: studio.runs.path(name) for name in ("base", "chat")}
    views = compare(runs, studio.models.of, "Who?", Sampling(), 100, 0)
    next(views)
    views.close()
    for name in runs:
        assert studio.load(name).engine.status()["running"] == 0


def test_stages_are_compared_in_their_order():
    assert usual(["x/grpo", "x/reward", "x/pretrain"]) == ["x/pretrain", "x/grpo"]
    assert usual([str(i) for i in range(9)]) == list("012345")
