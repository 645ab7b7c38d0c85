"""Problems solved with pruning as it is meant: launched, checked, and only the best paths resumed."""

from prunebench.bench.solving.solve import solve
from prunebench.bench.solving.solver import Ledger, Solution, Solver

__all__ = ["Ledger", "Solution", "Solver", "solve"]
