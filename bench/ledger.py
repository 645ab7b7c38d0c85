"""What one method costs on one problem: tokens by kind, and arithmetic in tokens of the generating model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ledger:
    """Token counts of one problem, or their means over problems.

    ``flops`` is the arithmetic of everything but decoding (re-encoding, probing, checking), where tokens alone would
    not tell it, as with another model's judge; None means 2 * generator parameters for each of these tokens.
    """

    decoded: float = 0.0
    reencoded: float = 0.0
    probe: float = 0.0
    check: float = 0.0
    flops: float | None = None

    @property
    def tokens(self) -> float:
        """All tokens, whichever model reads or writes them."""
        return self.decoded + self.reencoded + self.probe + self.check

    def in_generator_tokens(self, parameters: int) -> float:
        """The arithmetic of all phases divided by that of one generator token, 2 * ``parameters`` FLOPs.

        Raises ValueError when ``parameters`` is not positive.
        """
        if parameters < 1:
            raise ValueError(f"parameters = {parameters}: the generator needs at least one")
        if self.flops is None:
            return self.tokens
        return self.decoded + self.flops / (2 * parameters)


def decoded_tokens(lengths: NDArray[np.int64], position: int, keep: NDArray[np.bool_]) -> int:
    """Tokens that the generator decodes: every path up to ``position``, and the kept ones to their end.

    ``lengths`` (N,) counts the tokens of the complete paths; ``keep`` is bool (N,).
    """
    _check(lengths, position, keep)
    launched = np.minimum(lengths, position).sum()
    resumed = np.maximum(lengths[keep] - position, 0).sum()
    return int(launched + resumed)


def paper_tokens(lengths: NDArray[np.int64], position: int, keep: NDArray[np.bool_], type_ii: bool) -> int:
    """The STOP paper's count: :func:`decoded_tokens`, and for Type II ``position`` for each discarded prefix as well.

    It explains Table 2 of arXiv 2604.16029 within its noise. It is not what Type II costs: see :class:`Ledger`.
    """
    discarded = int(len(keep) - np.count_nonzero(keep))
    return decoded_tokens(lengths, position, keep) + (position * discarded if type_ii else 0)


def _check(lengths: NDArray[np.int64], position: int, keep: NDArray[np.bool_]) -> None:
    if keep.dtype != np.bool_ or keep.shape != lengths.shape:
        raise ValueError(f"keep must be bool {lengths.shape}, not {keep.dtype} {keep.shape}")
    if position < 0:
        raise ValueError(f"position = {position}: a checkpoint cannot be negative")
