"""Engines: token ids in, a stream of token deltas out."""
