"""Benchmarks: problems, prompts, and how an answer is graded. They import nothing of the other folders."""
