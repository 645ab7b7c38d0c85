"""Stored paths become numbers: replay every method, grade, compare, test; ``comparison`` is the way in."""
