"""Parts of ``benchmarks/parse.py``."""
