class WordPieceTokenizer:
    name = "wordpiece"
