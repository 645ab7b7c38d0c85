"""What one method costs on one problem: tokens by kind, and arithmetic in tokens of the generating model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from methods.base import Cost


@dataclass(frozen=True)
class Ledger:
    """Token counts of one problem: what the generator decoded, and what the method cost beyond it."""

    decoded: float
    beyond: Cost

    @property
    def tokens(self) -> float:
        """All tokens, whichever model reads or writes them."""
        return self.decoded + self.beyond.tokens

    def in_generator_tokens(self, parameters: int) -> float:
        """The arithmetic of all phases divided by that of one generator token, 2 * ``parameters`` FLOPs.

        Raises ValueError when ``parameters`` is not positive.
        """
        if parameters < 1:
            raise ValueError(f"parameters = {parameters}: the generator needs at least one")
        if self.beyond.flops is None:
            return self.tokens
        return self.decoded + self.beyond.generator_tokens + self.beyond.flops / (2 * parameters)


def paper_tokens(lengths: NDArray[np.int64], position: int, keep: NDArray[np.bool_], type_ii: bool) -> int:
    """The STOP paper's count: every path up to ``position``, the kept ones to their end, and for Type II ``position``
    for each discarded prefix as well.

    It explains Table 2 of arXiv 2604.16029 within its noise. It is not what Type II costs: see :class:`Ledger`.
    ``lengths`` int64 (N,) counts the tokens of the complete paths; ``keep`` is bool (N,).
    """
    if keep.dtype != np.bool_ or keep.shape != lengths.shape:
        raise ValueError(f"keep must be bool {lengths.shape}, not {keep.dtype} {keep.shape}")
    if position < 0:
        raise ValueError(f"position = {position}: a checkpoint cannot be negative")
    launched = np.minimum(lengths, position).sum()
    resumed = np.maximum(lengths[keep] - position, 0).sum()
    discarded = int(len(keep) - np.count_nonzero(keep))
    return int(launched + resumed) + (position * discarded if type_ii else 0)
