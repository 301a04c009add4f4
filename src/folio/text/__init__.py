"""Text to tokens and back, and conversations to tokens and weights.

Read in this order: tokenizer.py (what all have in common), char.py, byte.py,
word_bpe.py, bpe.py (with word_counts.py and bpe_files.py), fast_bpe.py and the
compiled_*.py behind it, wordpiece.py, chat.py. For models of others: added_tokens.py,
sentencepiece_bpe.py and sentencepiece_files.py.
"""

from folio.text.bpe import BPETokenizer
from folio.text.byte import ByteTokenizer
from folio.text.char import CharTokenizer
from folio.text.chat import ChatTemplate
from folio.text.sentencepiece_bpe import SentencePieceTokenizer
from folio.text.tokenizer import (
    END_OF_TEXT,
    END_OF_TURN,
    SPECIAL_TOKENS,
    StreamDecoder,
    SurrogateError,
    Tokenizer,
)
from folio.text.word_bpe import WordBPETokenizer, train_bpe
from folio.text.wordpiece import WordPieceTokenizer

__all__ = [
    "END_OF_TEXT",
    "END_OF_TURN",
    "SPECIAL_TOKENS",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "ChatTemplate",
    "SentencePieceTokenizer",
    "StreamDecoder",
    "SurrogateError",
    "Tokenizer",
    "WordBPETokenizer",
    "WordPieceTokenizer",
    "train_bpe",
]
