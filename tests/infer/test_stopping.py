"""Stop strings, however the text is cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from folio.infer.stopping import StopStrings

MANY = settings(derandomize=True, deadline=None, database=None, max_examples=400)
few = st.text("abé", max_size=14)


def shown(pieces, strings) -> tuple[list[str], bool]:
    stop = StopStrings(strings)
    out = [stop.push(piece) for piece in pieces]
    return [*out, stop.flush()], stop.found


@MANY
@given(st.lists(few, max_size=6), st.lists(st.text("abé", min_size=1), max_size=3))
def test_what_comes_out_is_the_text_before_the_earliest(pieces, strings):
    text = "".join(pieces)
    places = [text.find(s) for s in strings if s in text]
    out, found = shown(pieces, strings)
    assert "".join(out) == text[: min(places, default=len(text))]
    assert found == bool(places)


@MANY
@given(few, st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_is_shown_that_may_yet_be_part_of_one_and_nothing_else_is_held(
    text, strings
):
    stop, out = StopStrings(strings), ""
    for i, character in enumerate(text):
        out += stop.push(character)
        if stop.found:
            break
        held = text[len(out) : i + 1]
        assert not held or any(s.startswith(held) for s in strings)
        for start in range(len(out)):  # no shown end begins a stop string
            assert not any(s.startswith(text[start : i + 1]) for s in strings)


def test_without_stop_strings_all_passes():
    assert shown(["a", "", "b"], []) == (["a", "", "b", ""], False)


def test_nothing_comes_after_one():
    stop = StopStrings(["b"])
    assert [stop.push("ab"), stop.push("c"), stop.flush()] == ["a", "", ""]
