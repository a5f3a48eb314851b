"""The steps of `benchmarks.gpu_check`, and what runs them."""
