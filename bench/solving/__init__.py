"""Problems solved with pruning as it is meant: launched, checked, and only the best paths resumed."""

from prunebench.bench.solving.solve import Asked, solve
from prunebench.bench.solving.solver import Ledger, Solution, Solver

__all__ = ["Asked", "Ledger", "Solution", "Solver", "solve"]
