"""The embedded toy checkpoint `tiny-hermes`, and what makes it: conversations, tokenizer, training, quantization."""
