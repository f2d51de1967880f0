"""GPT-2 in one file, its weights, tokenizer, heads, and the checkpoints that hold them."""
