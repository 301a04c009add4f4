"""Inflection against a table from a dictionary, templates against enumeration."""

import doctest
import random

import pytest

from folio.data.tales import grammar, skills, slots, splits, world
from folio.data.tales.grammar import (
    GERUND,
    INFINITIVE,
    PARTICIPLE,
    PAST,
    Choice,
    Verb,
    article,
    between,
    capitalize,
    choose,
    compiled,
    draw,
    expansions,
    verb,
)
from folio.data.tales.lexicon import KINDS, PLURALS, TRAITS
from folio.data.tales.phrases import DEEDS, GAPS, SENTENCES

# base past participle gerund, as in any dictionary
FORMS = """
be was been being | bring brought brought bringing
build built built building | carry carried carried carrying
catch caught caught catching | chop chopped chopped chopping
clean cleaned cleaned cleaning | come came come coming
do did done doing | draw drew drawn drawing
drink drank drunk drinking | drop dropped dropped dropping
eat ate eaten eating | feed fed fed feeding
feel felt felt feeling | fetch fetched fetched fetching
find found found finding | fly flew flown flying
forget forgot forgotten forgetting | fry fried fried frying
get got gotten getting | give gave given giving
go went gone going | have had had having
hide hid hidden hiding | hurry hurried hurried hurrying
keep kept kept keeping | leave left left leaving
lend lent lent lending | light lit lit lighting
lose lost lost losing | make made made making
pay paid paid paying | play played played playing
put put put putting | read read read reading
ride rode ridden riding | run ran run running
see saw seen seeing | sell sold sold selling
send sent sent sending | sew sewed sewn sewing
show showed shown showing | sing sang sung singing
sit sat sat sitting | stir stirred stirred stirring
stop stopped stopped stopping | sweep swept swept sweeping
take took taken taking | tell told told telling
wear wore worn wearing | win won won winning
write wrote written writing | use used used using
agree agreed agreed agreeing | plan planned planned planning
open opened opened opening
"""


@pytest.mark.parametrize("row", FORMS.replace("\n", "|").split("|"))
def test_verb_forms(row):
    if row.strip():
        base, past, participle, gerund = row.split()
        forms = [verb(base, form) for form in (INFINITIVE, PAST, PARTICIPLE, GERUND)]
        assert forms == [base, past, participle, gerund]


def _verbs(parts):
    for part in parts:
        if isinstance(part, Verb):
            yield part
        elif isinstance(part, Choice):
            for option in part:
                yield from _verbs(option)


def test_every_verb_of_the_phrases_is_spelled_by_rule_or_listed():
    """A consonant after one vowel doubles, or the verb is known not to."""
    templates = [*DEEDS.values(), *SENTENCES.values()]
    templates += [use.phrase for kind in KINDS.values() for use in kind.uses]
    used = {v[INFINITIVE] for t in templates for v in _verbs(compiled(t))}
    assert len(used) > 50
    single = {
        base
        for base in used
        if len(base) > 2
        and base[-1] not in "aeiouwxy"
        and base[-2] in "aeiou"
        and base[-3] not in "aeiou"
        and verb(base, GERUND) == base + "ing"
    }
    # stressed on the first syllable, or two vowels sounds: no doubling
    assert single <= {"gather", "offer", "follow", "borrow", "open", "listen", "return"}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("apple", "an apple"),
        ("red apple", "a red apple"),
        ("honest girl", "an honest girl"),
        ("horse", "a horse"),
        ("umbrella", "an umbrella"),
        ("orange kite", "an orange kite"),
    ],
)
def test_article(phrase, expected):
    assert article(phrase) == expected


def test_no_word_of_the_lexicon_misleads_the_article():
    looks = {look for kind in KINDS.values() for look in kind.looks}
    traits = {trait for family in TRAITS.values() for trait in family}
    misleading = ("uni", "use", "eu", "one", "hour", "heir")
    for word in looks | traits | set(KINDS):
        assert not word.startswith(misleading), word


def test_plurals():
    assert PLURALS["cherry"] == "cherries"
    assert PLURALS["potato"] == "potatoes"
    assert PLURALS["radish"] == "radishes"
    assert PLURALS["apple"] == "apples"


def test_capitalize():
    assert capitalize('"may I?" asked Tom.') == '"May I?" asked Tom.'
    assert capitalize("the end.") == "The end."


def test_templates_are_balanced_and_end_as_sentences_do():
    for template in DEEDS.values():
        for text in expansions_without_verbs(template):
            assert text == text.strip()
            assert text[-1] not in ".,", text
    for template in SENTENCES.values():
        for text in expansions_without_verbs(template):
            assert text == text.strip()
            assert text[-1] in '."', text
            assert "  " not in text
            assert text.count('"') % 2 == 0
    for template in GAPS.values():
        assert all(text.endswith(", ") for text in expansions(template))


def expansions_without_verbs(template):
    return expansions(template.replace("*", ""))


def test_expansions():
    assert expansions("[a|b [c|d]]{x}") == ["a{x}", "b c{x}", "b d{x}"]
    assert expansions("[|very ]good") == ["good", "very good"]


def test_chance_helpers_stay_in_range_and_use_random_only():
    rng = random.Random(0)
    assert {choose(rng, "abc") for _ in range(100)} == set("abc")
    assert {between(rng, 2, 4) for _ in range(100)} == {2, 3, 4}
    drawn = draw(rng, range(10), 4)
    assert len(set(drawn)) == 4

    class OnlyRandom:
        def random(self):
            return 0.999999

    assert choose(OnlyRandom(), "abc") == "c"
    assert between(OnlyRandom(), 1, 6) == 6
    assert draw(OnlyRandom(), "abc", 3) == ["c", "a", "b"]


@pytest.mark.parametrize("module", [grammar, skills, slots, splits, world])
def test_worked_examples(module):
    assert doctest.testmod(module).failed == 0
