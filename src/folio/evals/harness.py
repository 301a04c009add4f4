"""A run as lm-evaluation-harness sees a model, so that its tasks can be asked of it.

`HarnessRun` answers the three questions that the harness has, and needs nothing of it;
`as_harness_model` dresses it up. The conventions are those of the harness' own model
for transformers: only an empty text begins with the token that begins documents, and a
token across the border of context and continuation counts as context. So the numbers
are those of the same weights there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from folio.config import UserError
from folio.data.rows import pad_id
from folio.evals.likelihood import Asked, Likelihood, likelihoods
from folio.infer.engine import Engine
from folio.infer.request import Request
from folio.infer.sampling import GREEDY, Sampling
from folio.model.decoder import Decoder
from folio.text.tokenizer import END_OF_TEXT, Tokenizer

Say = Callable[[str], None]
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
KNOWN = {"until", "do_sample", "temperature", "top_p", "top_k", *LENGTHS}


class HarnessRun:
    """A model and its tokenizer, asked for log-likelihoods and for texts."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        most_new: int = 256,
        seed: int = 0,
        say: Say = print,
    ):
        """most_new: tokens of a generated text, where a task doesn't say."""
        self.model, self.tokenizer = model, tokenizer
        self.most_new, self.seed, self.say = most_new, seed, say
        self.max_length = model.config.max_seq_len
        roles = tokenizer.extras.roles
        begins = roles.get("bos_token", roles.get("eos_token", END_OF_TEXT))
        self.prefix_id = tokenizer.special_id(begins)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The text as ids, behind the tokenizer's own start (Llama's `<s>`)."""
        start = self.tokenizer.start_ids if special else []
        return [*start, *self.tokenizer.encode(text)]

    def loglikelihood(self, pairs: Sequence[Asked]) -> list[Likelihood]:
        """Of each continuation, and whether greedy decoding would write it."""
        asked = [Asked(own or [self.prefix_id], then) for own, then in pairs]
        for context, continuation in asked:
            if not continuation:
                raise UserError(
                    f"a continuation is part of the last token of its context, "
                    f"{self.tokenizer.decode(context)[-60:]!r}: nothing is left of it "
                    "to be measured; let it begin with a space"
                )
        pad = pad_id(self.tokenizer)
        return likelihoods(self.model, asked, pad, say=self.say)

    def loglikelihood_rolling(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """log p of whole texts, of any length, each token after all that fits in."""
        prefix, limit = self.prefix_id, self.max_length
        windows = [list(rolling_windows(ids, prefix, limit)) for ids in texts]
        found = iter(self.loglikelihood([w for own in windows for w in own]))
        return [sum(next(found).logprob for _ in own) for own in windows]

    def generate_until(
        self, asked: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[str]:
        """What follows each text, as its options say, up to what is to stop it."""
        engine = Engine(self.model, self.tokenizer)
        handles = [
            engine.submit(self._request(text, options, self.seed + number))
            for number, (text, options) in enumerate(asked)
        ]
        found = []
        for handle in handles:
            [completion] = handle.result()
            if completion.error is not None:
                raise RuntimeError(completion.error)
            found.append(completion.text)
        return found

    def _request(self, text: str, options: Mapping[str, Any], seed: int) -> Request:
        new, until = self._length(options), options.get("until") or []
        until = [until] if isinstance(until, str) else until
        kept = self.encode(text)[-(self.max_length - new) :] or [self.prefix_id]
        sampling, stop = sampling_of(options), tuple(word for word in until if word)
        return Request(kept, new, sampling, seed, stop=stop)

    def _length(self, options: Mapping[str, Any]) -> int:
        given = (options[name] for name in LENGTHS if options.get(name) is not None)
        new = int(next(given, self.most_new))
        if not 0 < new < self.max_length:
            raise UserError(
                f"max_gen_toks = {new}: must lie in 1..{self.max_length - 1}, for the "
                f"model reads {self.max_length} tokens, the prompt among them; where a "
                "task doesn't say how many, --max-new-tokens does"
            )
        return new


def sampling_of(options: Mapping[str, Any]) -> Sampling:
    """How a task wants texts to be drawn; greedily unless it says otherwise.

    >>> sampling_of({"temperature": 0.7}).temperature
    0.7
    >>> sampling_of({"temperature": 0.7, "do_sample": False}) == GREEDY
    True
    """
    unknown = options.keys() - KNOWN
    if unknown:
        raise UserError(
            f"generation_kwargs: {', '.join(sorted(unknown))} can't be honored; known: "
            f"{', '.join(sorted(KNOWN))}"
        )
    sampled = options.get("do_sample")
    temperature = float(options.get("temperature", 1.0 if sampled else 0.0))
    if temperature == 0 or sampled is False:
        return GREEDY
    return Sampling(temperature, options.get("top_k"), options.get("top_p"))


def rolling_windows(ids: Sequence[int], prefix: int, limit: int) -> Iterator[Asked]:
    """Every id once, in windows of at most `limit` ids that are read.

    The first window begins with `prefix`; the last is as long as the others, and has
    read before what it has in common with the one before it.

    >>> [tuple(window) for window in rolling_windows(range(10), prefix=-1, limit=4)]
    [([-1], [0, 1, 2, 3]), ([3], [4, 5, 6, 7]), ([5, 6, 7], [8, 9])]
    """
    if len(ids):
        yield Asked([prefix], list(ids[:limit]))
    for start in range(limit, len(ids), limit):
        end = min(start + limit, len(ids))
        yield Asked(list(ids[end - limit - 1 : start]), list(ids[start:end]))


def as_harness_model(run: HarnessRun):
    """The run as an `lm_eval.api.model.LM`; a UserError where there is no lm_eval."""
    try:
        from lm_eval.api.model import TemplateLM
    except ImportError:
        raise UserError(
            "eval harness needs the package lm_eval: pip install 'folio-llm[eval]'"
        ) from None

    class FolioLM(TemplateLM):
        """Only what the harness wants to hear; splitting texts is its own affair."""

        eot_token_id = run.tokenizer.end_of_text
        prefix_token_id = run.prefix_id
        max_length, max_gen_toks = run.max_length, run.most_new
        tokenizer_name = run.tokenizer.fingerprint

        def tok_encode(self, string, add_special_tokens=None, **kwargs):
            return run.encode(string, add_special_tokens is not False)

        def _loglikelihood_tokens(self, requests, **kwargs):
            found = run.loglikelihood([Asked(*ids) for _, *ids in requests])
            return [tuple(one) for one in found]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            texts = [run.encode(text) for (text,) in (r.args for r in requests)]
            return run.loglikelihood_rolling(texts)

        def generate_until(self, requests, disable_tqdm=False):
            return run.generate_until([request.args for request in requests])

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            raise UserError(
                "chats can't be put into one text here, where no text becomes a "
                "control token; serve the run, and use the harness' own model "
                "local-chat-completions"
            )

    return FolioLM()
