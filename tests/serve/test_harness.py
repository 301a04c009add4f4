"""lm-evaluation-harness through the server: the numbers of the run itself."""

import pytest

from folio.evals.harness import HarnessRun, as_harness_model
from folio.evals.questions import tales_questions
from folio.model.store import save_model
from folio.stages.exchange import export_run
from serving import running, served

WHY = "lm-evaluation-harness is large: pip install 'folio-llm[eval]' to compare with it"
for name in ("lm_eval", "tenacity", "aiohttp"):
    pytest.importorskip(name, reason=WHY)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny():
    return served(max_seq_len=512)


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """The same model for transformers, of which the harness takes the tokenizer."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "model").mkdir()
    save_model(tiny.model, folder / "model")
    tiny.tokenizer.save(folder / "model")
    return export_run(folder, folder / "exported", say=lambda text: None)


@pytest.fixture(scope="module")
def both(tiny, exported):
    """(the harness' client of the server, the run itself)."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    with running(tiny) as server:
        client = LocalCompletionsAPI(
            base_url=f"{server.url}/v1/completions",
            model="tiny",
            tokenizer=str(exported),
            tokenizer_backend="huggingface",
            max_length=512,
            batch_size=3,
            max_retries=1,
        )
        yield client, as_harness_model(HarnessRun(tiny.model, tiny.tokenizer))


def asked(kind, pairs):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair, index) for index, pair in enumerate(pairs)]


def test_log_likelihoods(both):
    client, run = both
    pairs = [("", " A hen"), ("One", " two"), ("One ", "two"), ("Où?", " ☃")]
    for question in tales_questions(count=3):
        pairs += [(question.context, question.continuation(i)) for i in range(4)]
    greedy = run.generate_until(asked("generate_until", [("Q:", {"max_gen_toks": 2})]))
    pairs += [("Q:", text) for text in greedy if text]
    requests = asked("loglikelihood", pairs)
    wanted = run.loglikelihood(requests)
    for one, other in zip(client.loglikelihood(requests), wanted, strict=True):
        assert one[0] == pytest.approx(other[0], abs=2e-3)
        assert one[1] == other[1]
    logprobs = [logprob for logprob, _ in wanted]
    assert max(logprobs) - min(logprobs) > 10


def test_whole_texts(both):
    client, run = both
    requests = asked("loglikelihood_rolling", [("A hen sat.",), ("Où? ☃ " * 20,)])
    wanted = run.loglikelihood_rolling(requests)
    assert client.loglikelihood_rolling(requests) == pytest.approx(wanted, rel=1e-4)


def test_texts_that_are_written(both):
    client, run = both
    options = {"until": ["e"], "max_gen_toks": 16}
    texts = ["A hen", "Question: who? Answer:", "x"]
    requests = asked("generate_until", [(text, dict(options)) for text in texts])
    assert client.generate_until(requests) == run.generate_until(requests)
