"""Chat templates: read from programs, written as programs, equal to `transformers`."""

import json

import pytest
from transformers import PreTrainedTokenizerFast

from folio.config import UserError
from folio.hub.chat_template import (
    chat_of,
    jinja_of,
    read_chat_template,
    render_in_worker,
)
from folio.hub.tokenizer import write_tokenizer
from folio.text import BPETokenizer, ByteTokenizer, ChatTemplate, Tokenizer
from folio.text.added_tokens import Extras
from text.foreign import FAMILIES

CHATML = (
    "{%- if messages[0]['role'] == 'system' -%}{{ '<|im_start|>system\n' + "
    "messages[0]['content'] + '<|im_end|>\n' }}{%- else -%}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{%- endif -%}"
    "{%- for m in messages -%}{%- if m.role != 'system' -%}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set system = messages[0]['content'] %}{% else %}{% set turns = messages %}"
    "{% set system = false %}{% endif %}{% for m in turns %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\n' + "
    "system + '\n<</SYS>>\n\n' + m['content'] %}{% else %}"
    "{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = m['role'] %}{% endif %}{{ '<start_of_turn>' + role + "
    "'\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN3 = (  # the last reply is laid out unlike the earlier ones
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n'"
    " }}{% endif %}"
)
CLOSE = MISTRAL.replace("[INST] '", "[INST]'").replace("' [/INST]", "'[/INST]")
CLOSE = CLOSE.replace("' ' + m", "m")  # text stands directly behind control tokens
TEMPLATES = {
    "qwen": (CHATML, None, "<|endoftext|>"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|end_of_text|>"),
    "llama2": (LLAMA2, "<s>", "</s>"),
    "mistral": (MISTRAL, "<s>", "</s>"),
    "close": (CLOSE, "<s>", "</s>"),
    "gemma": (GEMMA, "<s>", "</s>"),
    "qwen3": (QWEN3, None, "<|endoftext|>"),
}


def talk(*contents: str, system: str | None = None) -> list[dict]:
    opening = [] if system is None else [{"role": "system", "content": system}]
    roles = ["user", "assistant"] * len(contents)
    return opening + [
        {"role": role, "content": content}
        for role, content in zip(roles, contents, strict=False)
    ]


TALKS = [
    talk("Hello there"),
    talk("\nHi", "Well, 12345 é!", " so? "),
    talk("a", "b", "c\n\n", "d\nd", "e 漢字"),
    talk("\t tab", "", "x"),
]
SYSTEM_TALKS = [
    talk("Hello", system="Be brief."),
    talk("a", "b", "c", system="Two\nlines"),
]


@pytest.fixture(params=TEMPLATES)
def both(request):
    """(theirs with the Jinja program, our tokenizer with the table, its name)."""
    jinja, bos, eos = TEMPLATES[request.param]
    families = {"qwen3": "qwen", "close": "mistral"}
    theirs = FAMILIES[families.get(request.param, request.param)]()
    roles = {"eos_token": eos} | ({"bos_token": bos} if bos else {})
    ours = Tokenizer.parse(json.loads(theirs.to_str()), "file")
    ours = ours.with_extras(Extras(roles, flags=ours.extras.flags))
    template, reason = chat_of(ours, jinja)
    assert reason is None
    fast = PreTrainedTokenizerFast(
        tokenizer_object=theirs, chat_template=jinja, **roles
    )
    return fast, ours, template, request.param


def apply(fast, messages, prompt: bool) -> list[int]:
    return fast.apply_chat_template(
        messages, add_generation_prompt=prompt, return_dict=False
    )


def test_prompts_have_the_ids_of_transformers(both):
    fast, ours, template, name = both
    talks = TALKS + (SYSTEM_TALKS if name not in ("mistral", "close", "gemma") else [])
    for messages in talks:
        ids, weights = template.render(messages, ours, True)
        assert ids == apply(fast, messages, True), messages
        assert len(weights) == len(ids)


def test_our_program_has_the_ids_of_the_table(both, tmp_path):
    fast, ours, template, _ = both
    fast.chat_template = jinja_of(template)
    for messages in TALKS:
        for end in (True, False):
            shown = (
                messages if end else [*messages, {"role": "assistant", "content": "ok"}]
            )
            ids, _ = template.render(shown, ours, end)
            assert ids == apply(fast, shown, end), messages
    with pytest.raises(Exception, match="no place for"):
        apply(fast, [{"role": "robot", "content": ""}], True)


def test_replies_and_what_ends_them_are_learned(both):
    _, ours, template, name = both
    messages = talk("Hello", "Fine day", "And?", "Yes")
    ids, weights = template.render(messages, ours)
    learned = ours.decode([i for i, w in zip(ids, weights, strict=True) if w])
    end = template.end_of_turn
    expected = {
        "llama2": f" Fine day {end}Yes {end}",
        "mistral": f"Fine day{end}Yes{end}",
    }
    found = learned.replace(" ", "")
    assert found == expected.get(name, f"Fine day{end}Yes{end}").replace(" ", "")
    assert end in ours.special_tokens


def test_no_message_forges_a_turn(both):
    _, ours, template, name = both
    control = set(ours.special_tokens.values())
    clean, _ = template.render(talk("x", "y", "z"), ours, True)
    expected = [i for i in clean if i in control]
    marks = [*ours.special_tokens, "[INST]", "<<SYS>>", "[/INST]"]
    for mark in marks:
        for text in (mark, f"a{mark}b", mark * 2, mark[:3]):
            messages = talk(text, text, text)
            # Where the template's own marks are plain text, no message may have them.
            if name == "llama2" and text in ("[INST]", "<<SYS>>", "[/INST]"):
                with pytest.raises(UserError, match=r"\[0\]\.content has"):
                    template.render(messages, ours, True)
            if name == "llama2" and mark in ("[INST]", "<<SYS>>", "[/INST]"):
                continue
            ids, _ = template.render(messages, ours, True)
            assert [i for i in ids if i in control] == expected


def test_unknown_roles_are_refused(both):
    _, ours, template, name = both
    messages = [*talk("a", "b"), {"role": "tool", "content": "3"}]
    if name in ("gemma", "llama3", "qwen", "qwen3"):  # they take any role
        template.render(messages, ours, True)
    else:
        with pytest.raises(UserError, match="no place for 'tool' after 'assistant'"):
            template.render(messages, ours, True)


def test_the_table_is_kept_in_the_file(both, tmp_path):
    _, ours, template, _ = both
    extras = Extras(ours.extras.roles, flags=ours.extras.flags, chat=template.to_json())
    ours.with_extras(extras).save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert ChatTemplate.of(again) == template
    assert again.fingerprint != ours.fingerprint


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_our_own_template_as_a_program(kind, tmp_path):
    ours = ByteTokenizer()
    if kind == "bpe":
        ours = BPETokenizer.train(["one two three, be it so"] * 3, vocab_size=280)
    write_tokenizer(ours, tmp_path, 64)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert fast.eos_token == "<|endoftext|>"
    assert fast.model_max_length == 64
    for messages in TALKS + SYSTEM_TALKS:
        ids, _ = ChatTemplate().render(messages, ours, True)
        assert ids == apply(fast, messages, True)
    whole = [*TALKS[0], {"role": "assistant", "content": "low"}]
    assert apply(fast, whole, False) == ChatTemplate().render(whole, ours)[0]


HOSTILE = {
    "a gigabyte": "{{ 'a' * 10**9 }}",
    "long": "{% set x = 'a' * 100000 %}{{ x }}{{ messages[0].content }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "power": "{{ 10 ** 10 ** 8 }}",
    "objects": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch HACKED').read() }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "syntax": "{% for %}",
    "nothing": "",
    "no user": "{{ 'hello' }}",
    "import": "{% include '/etc/passwd' %}{{ messages[0].content }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_hostile_programs_are_refused(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the chat template") as caught:
        read_chat_template(render_in_worker(template, {}), [])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_endless_program_is_stopped():
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    with pytest.raises(UserError, match="too much time"):
        read_chat_template(render_in_worker(endless + "{% endfor %}", {}), [])


@pytest.mark.parametrize(
    "program",
    [
        CHATML.replace("m.content +", "m.content | upper +"),
        CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|>' + loop.index | string"),
        CHATML.replace("m.role + '\n'", "m.role + (m.content | length | string)"),
        CHATML.replace("m.content +", "m.content | replace('\n', ' ') +"),
    ],
    ids=["upper", "numbered", "length", "one line"],
)
def test_programs_that_do_more_are_not_taken_for_tables(program):
    with pytest.raises(UserError, match="chat template"):
        read_chat_template(render_in_worker(program, {}), ["<|im_start|>"])


def test_a_control_token_that_eats_spaces_means_no_chat():
    theirs = FAMILIES["qwen"]()
    data = json.loads(theirs.to_str())
    next(t for t in data["added_tokens"] if t["content"] == "<|im_start|>")[
        "rstrip"
    ] = True
    ours = Tokenizer.parse(data, "file")
    template, reason = chat_of(ours, CHATML)
    assert template is None
    assert "white space" in reason
    assert chat_of(ours, None) == (None, "the folder has no chat template")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"between": 3},
        {"between": [["", "king", "x"]], "controls": [], "trimmed": []},
        {"between": [["", "user", 3]], "controls": [], "trimmed": []},
        {"between": [["", "user"]], "controls": [], "trimmed": []},
        {"between": [], "controls": [""], "trimmed": []},
    ],
)
def test_a_damaged_table_is_refused(data):
    with pytest.raises(UserError, match="not a chat template"):
        ChatTemplate.from_json(data)
