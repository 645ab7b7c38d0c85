"""Figures and tables of a comparison, one per file.

``from prunebench.figures.forest import forest; forest(results)`` is a Matplotlib figure; ``figures.style.save`` writes
it. A file with ``@figure(...)`` above a function of a run folder is in the catalogue (see :mod:`figures.registry`).
"""
