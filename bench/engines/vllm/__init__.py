"""Unmodified vLLM samples; its paths and states are those of the default engine."""
