"""What a learner is told of a file that can't be judged, or of a result of no use."""

import pytest

from folio.learn.exercises import find
from folio.learn.judge import judge
from learn.answers import changed, right

BODY = "return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain"


def told(text: str, name: str = "rms_norm") -> tuple[str, str | None]:
    """The message, and the line of the file that it is about."""
    found = judge(find(name), text)
    lines = text.splitlines()
    return found.message, lines[found.line - 1].strip() if found.line else None


def body(new: str) -> tuple[str, str | None]:
    return told(changed("rms_norm", BODY, new))


def test_a_syntax_error_has_its_line():
    message, line = body("return (x *")
    assert message == "not valid Python: '(' was never closed, near `return (x *`"
    assert line == "return (x *"


def test_a_null_byte_is_no_python():
    message, _ = told("\0")
    assert message.startswith("not valid Python")


def test_an_import_that_fails_has_its_line():
    message, line = told(changed("rms_norm", "import torch\n", "import torhc\n"))
    assert message == "an import fails: No module named 'torhc'"
    assert line == "import torhc"


def test_a_name_that_is_not_imported_has_its_line():
    message, line = body("return math.sqrt(x)")
    assert message == "NameError: name 'math' is not defined"
    assert line == "return math.sqrt(x)"


def test_the_innermost_line_of_the_file_is_blamed():
    text = changed("rms_norm", BODY, "return helper(x)")
    message, line = told(text + "\ndef helper(x):\n    return x.nonsense\n")
    assert "nonsense" in message
    assert line == "return x.nonsense"


def test_code_that_fails_when_it_is_loaded():
    message, line = told(right("rms_norm") + "\nrms_norm(1, 2)\n")
    assert message.startswith("AttributeError")
    assert line.startswith("return x *")  # where it happened


def test_another_name():
    message, _ = told(right("rms_norm").replace("def rms_norm", "def rmsnorm"))
    assert message == "the file defines no 'rms_norm': keep the name that the stub has"


def test_a_name_that_is_no_function():
    assert told("rms_norm = 3\n")[0] == "'rms_norm' is no function or class, but 3"


def test_a_wrong_signature():
    text = changed("rms_norm", "gain: Tensor, eps", "weight: Tensor, eps")
    message, line = told(text)
    wanted = "rms_norm takes (x, gain, eps), yours takes (x, weight, eps)"
    assert message == f"wrong signature: {wanted}"
    assert line.startswith("def rms_norm")


def test_a_function_in_place_of_a_class():
    message, _ = told("def CharTokenizer(text):\n    return 1\n", "char_tokenizer")
    assert message == "'CharTokenizer' must be a class, as in the stub"


@pytest.mark.parametrize("lost", ["encode", "vocab_size"])
def test_a_class_that_lacks_something(lost):
    text = changed("char_tokenizer", f"def {lost}(", "def something(")
    message, line = told(text, "char_tokenizer")
    assert message == f"the class CharTokenizer lacks {lost!r}"
    assert line == "class CharTokenizer:"


def test_a_method_with_another_signature():
    text = changed("char_tokenizer", "def decode(self, ids", "def decode(self, tokens")
    message, line = told(text, "char_tokenizer")
    assert (
        "CharTokenizer.decode takes (self, ids), yours takes (self, tokens)" in message
    )
    assert line.startswith("def decode")


def test_nothing_is_returned():
    message, line = body("x * gain")
    assert message == (
        "wrong type: the result is None (is a `return` missing?), expected a Tensor"
    )
    assert line.startswith("def rms_norm")


def test_a_wrong_shape():
    message, _ = body("return x.mean(-1, keepdim=True)")
    assert message == "wrong shape: the result has (1,), expected (2,)"


def test_a_wrong_dtype():
    message, _ = body(f"{BODY}.double()".replace("return ", "return (") + ")")
    assert message == "(x * torch" or message.startswith("wrong")
    message, _ = body("return x.double()")
    assert message == "wrong dtype: the result is torch.float64, expected torch.float32"


def test_nan_is_told_where():
    message, _ = body("return x / (x - x)  * 0")
    assert message == "the result is NaN at [0]"


def test_a_wrong_value_is_told_where():
    message, _ = body("return x * gain")
    assert message == "the root mean square of (1, 7) is 5: 1 at [0], expected 0.2"


def test_exit_ends_nothing():
    message, line = body("raise SystemExit")
    assert message == "your code ended Python; leave `exit` out"
    assert line == "raise SystemExit"


def test_calling_itself_without_end():
    message, _ = body("return rms_norm(x, gain, eps)")
    assert message == "RecursionError: it calls itself without end"


def test_a_result_that_the_package_cannot_use():
    """The fault shows in the package's lines, not in the learner's."""
    text = changed("shifted_labels", "return Batch(", "return dict(")
    text = text.replace("dict(weights.numel(), ", "dict(")
    message, line = told(text, "shifted_labels")
    assert message.startswith("what it gives can't be used: AttributeError")
    assert line.startswith("def next_token_batch")


def test_what_others_call_is_the_learners():
    """`folio.text.bpe` has imported the function by its name."""
    text = changed(
        "encode_word",
        "ids, never = list(ids), len(ranks)",
        "import sys\n"
        "    if sys._getframe(1).f_globals['__name__'] == 'folio.text.bpe':\n"
        "        return list(ids)\n"
        "    ids, never = list(ids), len(ranks)",
    )
    message, _ = told(text, "encode_word")
    assert message.startswith("a byte-level tokenizer with yours in it")
