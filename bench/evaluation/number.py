"""A number that may be undefined: NaN in memory and in CSV, null in JSON."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
