"""Runs under names: what can be served, and what LoRA runs share."""

import pytest
import torch

from folio.config import UserError
from folio.infer.generate import generate_text
from folio.infer.request import Request
from folio.infer.sampling import GREEDY
from folio.serve.models import Catalog, named
from folio.serve.settings import Settings
from folio.stages.use import load_run
from serving import running, served
from tuned import make_parent, run_of, silent

LORA = {"rank": 2, "alpha": 64.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A parent, two LoRA runs of it, a LoRA run's child, and a reward model."""
    folder = tmp_path_factory.mktemp("served")
    make_parent(folder)
    for name, seed in (("one", 1), ("two", 2)):
        optim = {"lr": 0.05, "warmup": 1}
        run_of(
            "sft", folder / "parent", folder / name, lora=LORA, seed=seed, optim=optim
        )
    run_of("reward", folder / "parent", folder / "judge")
    return folder


def load(place, *runs, **options):
    runs = [
        run.replace("=", f"={place}/", 1) if "=" in run else str(place / run)
        for run in runs
    ]
    return Catalog.load(runs, device="cpu", say=silent, **options)


def test_adapters_share_the_weights_of_their_base(place):
    catalog = load(place, "parent", "one", "B=two")
    assert list(catalog.models) == ["parent", "one", "B"]
    base, one, two = (served.model for served in catalog)
    places = {p.data_ptr() for p in base.parameters()}
    for model in (one, two):
        own = [p for p in model.parameters() if p.data_ptr() not in places]
        shared = [p for p in model.parameters() if p.data_ptr() in places]
        assert len(shared) == len(list(base.parameters()))
        assert own
        assert sum(p.numel() for p in own) < sum(p.numel() for p in shared) / 2


@pytest.mark.parametrize("together", [True, False])
def test_each_answers_like_folio_generate(place, together):
    names = ("parent", "one", "two")
    catalog = load(place, *names) if together else None
    texts = set()
    for name in names:
        served = (catalog or load(place, name)).find(name)
        model, tokenizer = load_run(place / name, "cpu")
        wanted = "".join(
            generate_text(model, tokenizer, "Sort 7 3 9", 30, sampling=GREEDY)
        )
        [found] = served.engine.submit(Request("Sort 7 3 9", 30, GREEDY)).result()
        assert found.text == wanted
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode("Sort 7 3 9")])
            mine, theirs = served.model(ids).logits, model(ids).logits
        assert torch.allclose(mine, theirs, atol=1e-5)
        texts.add(mine[0, -1].sum().item())
    assert len(texts) == 3  # or the adapters change nothing


def test_who_was_taught_to_chat(place):
    catalog = load(place, "parent", "one")
    assert [served.chats for served in catalog] == [False, True]


def test_memory_is_shared_out(place):
    catalog = load(place, "parent", "one", memory=1 << 20)
    sizes = [s.engine.status()["pages"] * s.engine.page_bytes for s in catalog]
    assert max(sizes) <= 1 << 19


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (["absent"], "no such run.*did you mean|no such run"),
        (["pare"], "did you mean 'parent'"),
        (["parent", "parent"], "same name"),
        (["x=parent", "x=one"], "same name"),
        (["a b=parent"], "can't be named 'a b'"),
        (["=parent"], "can't be named ''"),
        (["../x=parent"], "can't be named"),
        (["x" * 65 + "=parent"], "at most 64"),
        (["judge"], "reward|scorer|judge"),
    ],
)
def test_what_cannot_be_served_is_one_line(place, runs, told):
    with pytest.raises(UserError, match=told) as error:
        load(place, *runs)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_run_is_one_line(place, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Catalog.load([str(tmp_path)], device="cpu", say=silent)


def test_names_of_folders_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    with pytest.raises(UserError, match="NAME=RUN"):
        named("a=b")
    assert named("c=a=b")[0] == "c"
    assert str(named("c=a=b")[1]) == "a=b"


def test_models_are_found_by_name_and_alone_without():
    one, two = served("one"), served("two", seed=1)
    assert Catalog([one]).find(None) is one
    assert Catalog([one, two]).find(None) is None
    assert Catalog([one, two]).find("two") is two
    assert Catalog([one]).find("") is None


def test_a_model_is_told_by_its_name_only():
    with running(served("one"), served("two", seed=1)) as server:
        ask = {"prompt": "Once", "temperature": 0}
        texts = []
        for name in ("one", "two"):
            _, answer = server.ask("/v1/completions", ask | {"model": name})
            texts.append(answer["choices"][0]["text"])
            assert answer["model"] == name
        assert texts[0] != texts[1]
        status, answer = server.ask("/v1/completions", ask)
        assert status == 404
        assert answer["error"]["message"] == "model: say which of one, two"


def test_texts_that_may_fit_are_not_refused_for_their_length():
    """Of many, each counts for itself."""
    with running() as server:
        body = {"prompt": ["x" * 200] * 30, "max_tokens": 1}
        assert server.ask("/v1/completions", body)[0] == 200
        body = {"prompt": "x" * 5000, "max_tokens": 1}
        status, answer = server.ask("/v1/completions", body)
        assert status == 400
        assert answer["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_body", 0),
        ("max_waiting", 0),
        ("max_connections", -1),
        ("read_timeout", 0.0),
        ("request_timeout", -1.0),
        ("request_timeout", float("nan")),
        ("drain_timeout", -0.1),
    ],
)
def test_settings_that_make_no_sense_name_the_field(name, value):
    with pytest.raises(UserError, match=f"{name} = "):
        Settings(**{name: value})
