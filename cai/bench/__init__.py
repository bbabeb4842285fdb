"""Benchmarks against the usual ways: `python -m cai.bench labels|ppo`."""
