"""The small base model: its tokenizer, its training across scaffold variants, its gate."""
