"""Views of the inside of a model: grids, lens, routes, candidates, talk, progress."""

import re

import pytest

from folio.viz.candidates import Option, options_view
from folio.viz.dialog import answer_view, answers_view, conversation_view, notice
from folio.viz.grid import Cell, cell_grid
from folio.viz.lens import Reading, lens_view
from folio.viz.markup import Markup
from folio.viz.progress import progress_view
from folio.viz.routes import Routing, routes_view
from viz.checker import EVIL, Checker
from viz.conftest import metric_rows, sample_rows


def reading(text="a", probability=0.5, final="b", here=0.25, rank=1):
    return Reading(text, probability, final, here, rank)


VIEWS = {
    "lens": lambda text: lens_view([text], [[reading(text, final=text)]]),
    "routes": lambda text: routes_view([text], [Routing(0, [{0: 1.0}], [[0.5, 0.5]])]),
    "candidates": lambda text: options_view([Option(text, 0.5, 0.0, text)], 0.5),
    "conversation": lambda text: conversation_view([{"role": text, "content": text}]),
    "answers": lambda text: answers_view([(text, answer_view(text, text))]),
    "notice": lambda text: notice(text),
    "grid": lambda text: cell_grid(
        [text], [(text, [Cell(1, text, text)])], description=text
    ),
    "progress": lambda text: progress_view([], [{"step": 0, "text": text}], 4),
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_a_model_writes_never_acts(name):
    checker = Checker(VIEWS[name](EVIL))
    assert checker.loads == checker.handlers == []
    assert None not in checker.scripts


def test_the_last_layer_is_on_top_and_framed_where_it_agrees():
    rows = [[reading(rank=1)], [reading(rank=0)], [reading(rank=0)]]
    view = lens_view(["x"], rows)
    names = re.findall(r'scope="row">(.*?)<', view)
    assert names == ["layer 2", "layer 1", "embedding"]
    assert view.count("marked") == 2
    assert "here number 2 with 0.25" in view


def test_color_grows_with_the_share_and_letters_stay_readable():
    cells = [Cell(share) for share in (0, 0.01, 0.25, 1)]
    view = cell_grid("abcd", [("row", cells)], description="d")
    levels = [int(n) for n in re.findall(r"attention-(\d+)", view)]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 15)
    assert view.count('class="deep"') == 2


def test_a_route_shows_weights_of_the_chosen_and_shares_of_the_others():
    view = routes_view(
        ["a", "b"], [Routing(2, [{0: 0.7, 2: 0.3}, {1: 1.0}], [[0.2] * 3] * 2)]
    )
    assert "Layer 3" in view
    assert re.findall(r">(\.\d\d|1\.00)<", view) == [".70", "1.00", ".30"]
    assert view.count("not chosen") == 3


def test_candidates_have_a_bar_before_and_after():
    view = options_view([Option("a", 0.6, 1.0), Option(" b", 0.4, 0.0, "cut by top-k")])
    widths = [float(w) for w in re.findall(r"width:([\d.]+)%", view)]
    assert widths == [60, 100, 40, 0]
    assert "·b" in view
    assert view.count("<b>") == 1  # what was cut has its reason instead of a chance


def test_an_answer_that_grows_has_a_caret_and_an_empty_one_says_so():
    assert "caret" in answer_view("", going_on=True)
    assert "(nothing)" in answer_view("")
    assert "caret" not in answer_view("done", "9 tokens")


def test_progress_shows_what_there_is():
    rows = metric_rows(1, 100, 1.2)
    view = progress_view(rows, sample_rows(100), 400)
    assert view.count('class="chart small"') == 3
    assert "What it writes at step 100" in view
    assert 'data-x="0 400' in view  # the axis has room for what is to come
    assert "svg" not in progress_view([], [], 10)
    assert isinstance(view, Markup)
