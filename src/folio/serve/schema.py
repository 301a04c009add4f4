"""What a body may say: all that OpenAI's API knows, taken or refused by name.

A field we can't honor is refused, never ignored; the exceptions change nothing in
an answer, are listed as `Harmless`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from folio.serve.errors import ApiError
from folio.serve.settings import MOST_BIASES, MOST_PROMPTS, MOST_SAMPLES, MOST_STOPS

Body = TypeVar("Body", bound="Common")

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=1 << 31)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Push = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
# Of a list only the first error is looked for: one body of 1 MB had 300,000 of them,
# which took 12 s and 700 MB.
First = Field(fail_fast=True)
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), First]
Prompt = str | TokenIds
Texts = Annotated[list[str], First]
Lists = Annotated[list[TokenIds], First]
Many = Annotated[Texts | Lists, Field(min_length=1, max_length=MOST_PROMPTS)]
MOST_FIELDS = 64  # of a body: more than there are names that we know

Harmless = {  # for the accounting of a service that we are not
    *("user", "metadata", "store", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"),
}
NO_TOOLS = "tools: this server's models can't call tools; leave it out"
Refused = {  # known to the API, and why we can't
    "tools": NO_TOOLS,
    "tool_choice": NO_TOOLS,
    "functions": NO_TOOLS,
    "function_call": NO_TOOLS,
    "audio": "audio: this server writes text only",
    "prediction": "prediction: not supported; a draft changes no answer, leave it out",
    "reasoning_effort": "reasoning_effort: these models don't think before they answer",
    "verbosity": "verbosity: not supported; say in the prompt how long to answer",
    "web_search_options": "web_search_options: this server reads nothing from the web",
    "suffix": "suffix: these models write on; they can't fill a gap",
    "best_of": "best_of: not supported; ask for n answers and choose",
}


NOTHING = (None, [], "none", 1)  # as some clients say "no tools", or "best of one"


class Common(BaseModel):
    """Values must have the type they should: a number is no text, `true` is no 1."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Name | None = None


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False  # of OpenAI's; there is no padding here


class Writing(Common):
    """What chats and completions have in common; the last three are ours and vLLM's."""

    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    logit_bias: Annotated[dict[str, Push], Field(max_length=MOST_BIASES)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_k: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None


class Part(BaseModel):
    """A piece of a message: text, and nothing that would have to be fetched."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn. Names of speakers and calls are taken, and have no place in a text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=1000), First]
    name: Name | None = None
    tool_call_id: Name | None = None
    refusal: None = None

    def plain(self) -> dict[str, str]:
        """The turn as chat templates know it."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content}


class JsonSchema(BaseModel):
    """The shape that an answer is to have."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    description: Annotated[str, Field(max_length=4000)] | None = None


class ResponseFormat(BaseModel):
    """Free text, any JSON object, or JSON of a given shape."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(Writing):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000), First]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None


class CompletionBody(Writing):
    """Body of POST /v1/completions."""

    prompt: Prompt | Many
    max_tokens: Count | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None


class EmbeddingBody(Common):
    """Body of POST /v1/embeddings."""

    input: Prompt | Many
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


def parse(data: bytes, schema: type[Body]) -> Body:
    """A body of this kind, or an ApiError that names what is wrong with it."""
    try:
        values = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {_first_line(error)}") from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object")
    if len(values) > MOST_FIELDS:
        raise ApiError(400, f"the body has {len(values)} fields")
    values = {k: v for k, v in values.items() if k not in Harmless}
    for name, reason in Refused.items():
        if name in values and name not in schema.model_fields:
            if values[name] not in NOTHING:
                raise ApiError(400, reason, param=name, code="unsupported_parameter")
            del values[name]
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _complaint(error.errors(include_url=False)) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None


def _complaint(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """What pydantic doesn't like, in one line: of several, the one deepest inside.

    Where a value may be of two kinds, that is the kind which it almost is.
    """
    error = max(errors, key=lambda error: len(error["loc"]))
    parts = [str(p) for p in error["loc"] if not _is_branch(p)]
    where = ".".join(parts)[:200]
    if error["type"] == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {where}"
        return ApiError(400, message, param=where, code="unknown_parameter")
    if error["type"] == "literal_error" and parts[-1:] == ["type"]:
        message = f"{where}: this server takes text only ({error['msg']})"
        return ApiError(400, message, param=where)
    return ApiError(400, f"{where}: {error['msg']}", param=where)


def _is_branch(part: Any) -> bool:
    """Is it pydantic's name for one of several types, and no name of a field?"""
    return isinstance(part, str) and ("[" in part or part in ("str", "int"))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
