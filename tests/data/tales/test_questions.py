"""Answers follow from the events, by another way of reading them."""

from collections import defaultdict

from folio.data.tales.grammar import article
from folio.data.tales.lexicon import NUMBERS
from folio.data.tales.questions import STORY_TASKS


def expected(story, problem, replay):
    """The answer, from the event log alone."""
    events = story.world.events
    holder, holders, lying, place, counts, wants, gave = replay(events)
    values = problem.values
    match problem.task:
        case "weather":
            return story.world.weather
        case "day":
            return story.world.day
        case "want":
            (noun,) = wants[values["person"]]
            return article(noun)
        case "who_has":
            return holder[values["thing"]]
        case "first_owner":
            return holders[values["thing"]][0]
        case "where":
            what = values["what"].removeprefix("the ")
            return lying.get(what) or place[what]
        case "count":
            return NUMBERS[counts[values["person"]]]
        case "gave":
            (giver,) = gave[values["thing"], values["person"]]
            return giver
    raise AssertionError(problem.task)


def test_answers_follow_from_the_events(stories, replay):
    asked = defaultdict(int)
    for story in stories:
        for problem in story.questions:
            assert problem.answer == expected(story, problem, replay), (
                problem,
                story.text,
            )
            asked[problem.task] += 1
    assert set(asked) == set(STORY_TASKS)
    assert min(asked.values()) > 50


def test_a_question_has_one_answer_and_the_wrong_one_differs(stories):
    for story in stories:
        answers = {}
        for problem in story.questions:
            key = (problem.task, *sorted(problem.values.items()))
            assert key not in answers, key
            answers[key] = problem.answer
            assert problem.wrong != problem.answer


def test_what_is_asked_about_has_been_told(stories):
    """Every word of a question's operands and of its answer is in the story."""
    for story in stories:
        for problem in story.questions:
            if problem.task in ("weather", "count"):
                continue
            if problem.task == "want":
                assert problem.answer.split()[-1] in story.text
            else:
                assert problem.answer.removeprefix("the ") in story.text, problem
            for value in problem.values.values():
                assert value.removeprefix("the ") in story.text, problem


def test_brief_stories_answer_the_core_tasks(brief_stories):
    for story in brief_stories:
        tasks = {problem.task for problem in story.questions}
        assert {"weather", "want"} <= tasks
        assert len(story.questions) >= 3
