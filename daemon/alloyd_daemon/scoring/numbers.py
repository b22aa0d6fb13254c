"""Numbers in running text: signs, thousands separators, decimals, digits of any script."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_PLAIN: Final = str.maketrans("\uff0b\uff0c\uff0d\uff0e\u2212\u2019\u00a0\u2009\u202f", "+,-.-''''")
"""Full-width signs, the minus of mathematics, and the narrow blanks that group digits."""

_NUMBER: Final = re.compile(
    r"(?:(?<![\w)\]])[+-])?"  # between two numbers, as in 7-5, it is no sign
    r"(?:(?:\d{1,3}(?:[,']\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+)"
)


def last_number(text: str) -> Decimal | None:
    """The last number that stands in ``text``, exactly; ``None`` where there is none.

    A point is a decimal point; a comma, an apostrophe or a narrow blank groups digits by three: ``1,234.50`` is
    1234.5, and of ``12,50`` the last number is 50. A sign counts where it does not follow a number or a word.
    """
    found = _NUMBER.findall(text.translate(_PLAIN))
    return Decimal(re.sub("[,']", "", found[-1])) if found else None
