"""What the harness asks of a run: against longhand here, against HFLM with lm_eval."""

import importlib
import json
import sys

import pytest
import torch

from engines import model_of, recomputed
from folio.config import UserError
from folio.evals.harness import (
    HarnessRun,
    as_harness_model,
    rolling_windows,
    sampling_of,
)
from folio.evals.likelihood import Asked, naive_likelihood
from folio.evals.questions import tales_questions
from folio.infer.sampling import GREEDY, Sampling
from folio.text.added_tokens import Extras
from folio.text.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()
SHAPE = {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 64}
WHY = "lm-evaluation-harness is large: pip install 'folio-llm[eval]' to compare with it"


@pytest.fixture(scope="module")
def run():
    return HarnessRun(model_of(**SHAPE).double(), TOKENIZER, most_new=8)


def test_log_likelihoods_are_longhands(run):
    asked = [
        Asked(run.encode(a), run.encode(b)) for a, b in (("ab", " c"), ("x", "yz"))
    ]
    found = run.loglikelihood(asked)
    for one, pair in zip(found, asked, strict=True):
        wanted = naive_likelihood(run.model, pair)
        assert one.logprob == pytest.approx(wanted.logprob, abs=1e-5)
        assert one.is_greedy == wanted.is_greedy


def test_no_context_is_the_start_of_a_document(run):
    [found] = run.loglikelihood([Asked([], [65, 66])])
    start = Asked([TOKENIZER.end_of_text], [65, 66])
    assert found.logprob == pytest.approx(naive_likelihood(run.model, start).logprob)


def test_a_continuation_of_nothing_is_refused(run):
    with pytest.raises(UserError, match=r"'abc'.*begin with a space"):
        run.loglikelihood([Asked(run.encode("abc"), [])])


@pytest.mark.parametrize("length", [0, 1, 64, 65, 150])
def test_a_whole_text_has_each_token_once_after_all_that_fits(run, length):
    ids = [(i * i + 3) % 256 for i in range(length)]
    wanted, whole = 0.0, [TOKENIZER.end_of_text, *ids]
    for window in rolling_windows(ids, TOKENIZER.end_of_text, 64):
        assert len(window.context) + len(window.continuation) <= 65
    for end in range(1, len(whole)):  # its block decides what a token sees
        block = (end - 1) // 64
        stop = min(64 * (block + 1), length)
        first = 0 if block == 0 else stop - 64
        given = Asked(whole[first:end], [whole[end]])
        wanted += naive_likelihood(run.model, given).logprob
    assert run.loglikelihood_rolling([ids]) == [pytest.approx(wanted, abs=1e-4)]


def test_texts_are_written_greedily_up_to_a_stop(run):
    ids = recomputed(run.model, run.encode("The hen"), 8)
    text = TOKENIZER.decode(ids, special=False)
    [found] = run.generate_until([("The hen", {})])
    ends = [i for i, id in enumerate(ids) if id in TOKENIZER.special_tokens.values()]
    assert found == TOKENIZER.decode(ids[: ends[0]] if ends else ids)
    stop = text[2]
    [cut] = run.generate_until([("The hen", {"until": [stop, ""], "max_gen_toks": 8})])
    assert cut == text[: text.index(stop)]


def test_a_long_prompt_loses_its_beginning_so_that_the_answer_fits(run):
    long = "x" * 100 + "The hen"
    [found] = run.generate_until([(long, {"max_gen_toks": 8})])
    assert found == run.generate_until([(long[-56:], {"max_gen_toks": 8})])[0]
    for length in (0, 64):
        with pytest.raises(UserError, match=rf"max_gen_toks = {length}: .* in 1\.\.63"):
            run.generate_until([("a", {"max_new_tokens": length})])


def test_drawn_texts_depend_on_the_seed_and_their_place(run):
    options = {"do_sample": True, "temperature": 1.5, "max_gen_toks": 8}
    one = run.generate_until([("a", options)] * 4)
    assert len(set(one)) > 1  # a task may want several of the same prompt
    assert run.generate_until([("a", options)] * 4) == one


def test_how_texts_are_drawn():
    assert sampling_of({}) == GREEDY
    assert sampling_of({"do_sample": False, "temperature": 1.0}) == GREEDY
    assert sampling_of({"do_sample": True}) == Sampling(1.0)
    options = {"temperature": 0.5, "top_k": 7, "top_p": 0.9}
    assert sampling_of(options) == Sampling(0.5, 7, 0.9)
    with pytest.raises(UserError, match="num_beams can't be honored"):
        sampling_of({"num_beams": 4})


def test_imported_tokenizers_begin_as_transformers_would():
    tokens = {"bos_token": "<|user|>", "eos_token": "<|end|>"}
    llama = TOKENIZER.with_extras(Extras(start=("<|user|>",), roles=tokens))
    run = HarnessRun(model_of(**SHAPE), llama)
    begin = TOKENIZER.special_id("<|user|>")
    assert run.prefix_id == begin
    assert run.encode("a") == [begin, 97]
    assert run.encode("a", special=False) == [97]


def test_without_the_package_there_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(UserError, match=r"lm_eval: pip install 'folio-llm\[eval\]'$"):
        as_harness_model(run)


# ---- with the package ----------------------------------------------------------------

CHOICES = """\
task: tale_choices
dataset_path: json
dataset_kwargs: {data_files: {test: QUESTIONS}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
TEXTS = """\
task: tale_texts
dataset_path: json
dataset_kwargs: {data_files: {test: QUESTIONS}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{context}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
WRITING = """\
task: tale_writing
dataset_path: json
dataset_kwargs: {data_files: {test: QUESTIONS}}
test_split: test
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["."], max_gen_toks: 12}
metric_list: [{metric: exact_match}]
"""


def local_tasks(folder, count=12):
    """YAML files of three kinds of task over one file of questions."""
    lines = []
    for question in tales_questions(count=count):
        fields = {"context": question.context, "answer": question.answer}
        lines.append(json.dumps(fields | {"choices": list(question.choices)}))
    (folder / "questions.jsonl").write_text("\n".join(lines))
    paths = []
    for number, text in enumerate((CHOICES, TEXTS, WRITING)):
        path = folder / f"task{number}.yaml"
        path.write_text(text.replace("QUESTIONS", str(folder / "questions.jsonl")))
        paths.append(str(path))
    return paths


def saved_run(folder, tokenizer=TOKENIZER, **changes):
    """A run with random weights."""
    from folio.model.store import save_model

    (folder / "model").mkdir(parents=True)
    shape = {"vocab_size": tokenizer.vocab_size, "max_seq_len": 512}
    save_model(model_of(**(shape | changes)), folder / "model")
    tokenizer.save(folder / "model")
    return folder


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """lm_eval, with its caches in a folder of the test and no way out."""
    pytest.importorskip("lm_eval", reason=WHY)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return importlib.import_module("lm_eval")


@pytest.mark.slow
def test_local_tasks_give_what_transformers_give(tmp_path, offline):
    """The harness' own model for transformers, on an exported copy of the same run."""
    from lm_eval.models.huggingface import HFLM

    from folio.stages.exchange import export_run
    from folio.stages.harness import evaluate_harness

    folder, tasks = saved_run(tmp_path / "run"), local_tasks(tmp_path)
    said = []
    found = evaluate_harness(folder, tasks, device="cpu", say=said.append)
    export_run(folder, tmp_path / "hf", say=said.append)
    theirs = HFLM(pretrained=str(tmp_path / "hf"), device="cpu", batch_size=4)
    with torch.no_grad():
        wanted = offline.simple_evaluate(
            theirs, tasks=tasks, bootstrap_iters=0, log_samples=False
        )["results"]
    assert found["tale_choices"]["acc"] == wanted["tale_choices"]["acc,none"]
    assert found["tale_choices"]["acc_norm"] == wanted["tale_choices"]["acc_norm,none"]
    for metric in ("word_perplexity", "bits_per_byte"):
        ours = found["tale_texts"][metric]
        assert ours == pytest.approx(wanted["tale_texts"][f"{metric},none"], rel=1e-4)
    kept = json.loads((folder / "harness.json").read_text())
    assert kept["tasks"]["tale_choices"]["acc"] == found["tale_choices"]["acc"]


@pytest.mark.slow
def test_each_log_likelihood_is_that_of_transformers(tmp_path, offline):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from folio.stages.exchange import export_run
    from folio.stages.use import load_run

    folder = saved_run(tmp_path / "run")
    export_run(folder, tmp_path / "hf", say=lambda text: None)
    ours = as_harness_model(HarnessRun(*load_run(folder, "cpu")))
    theirs = HFLM(pretrained=str(tmp_path / "hf"), device="cpu", batch_size=4)
    pairs = [
        ("", " A hen"),
        ("One", " two"),
        ("One ", "two"),
        ("Où?", " ☃"),
        ("x", "y"),
    ]
    pairs += [(q.context, q.continuation(0)) for q in tales_questions(count=4)]
    pairs += [("long " * 300, " end")]  # 1,500 bytes: more than the model reads
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    with torch.no_grad():
        wanted = theirs.loglikelihood(requests)
    for (logprob, greedy), one in zip(
        ours.loglikelihood(requests), wanted, strict=True
    ):
        assert logprob == pytest.approx(one[0], abs=2e-3)
        assert greedy == one[1]
    texts = ["", "A hen.", "long text " * 150]
    requests = [Instance("loglikelihood_rolling", {}, (t,), 0) for t in texts[1:]]
    with torch.no_grad():
        wanted = theirs.loglikelihood_rolling(requests)
    assert ours.loglikelihood_rolling(requests) == pytest.approx(wanted, rel=1e-4)
    options = {"until": [" "], "max_gen_toks": 12}
    requests = [
        Instance("generate_until", {}, (t, dict(options)), 0) for t in texts[1:]
    ]
    with torch.no_grad():
        wanted = theirs.generate_until(requests)
    assert ours.generate_until(requests) == wanted


@pytest.mark.slow
def test_tasks_that_are_not_there(tmp_path, offline):
    from folio.stages.harness import evaluate_harness

    folder = saved_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"tasks = 'arc_eazy'.*arc_easy"):
        evaluate_harness(folder, ["arc_eazy"], device="cpu")
    with pytest.raises(UserError, match="count = 0"):
        evaluate_harness(folder, ["arc_easy"], count=0)
    with pytest.raises(UserError, match="name some"):
        evaluate_harness(folder, [])
