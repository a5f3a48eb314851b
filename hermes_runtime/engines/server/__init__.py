"""Engines behind an address: OpenAI-compatible completion servers such as vLLM, SGLang and llama.cpp."""
