"""What a key may do: ``read`` < ``submit`` < ``admin``."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """``read`` sees every job, ``submit`` also gives and stops work, ``admin`` may do what the local user may."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def covers(self, least: Role) -> bool:
        """Whether this role is enough where ``least`` is asked for."""
        return _ORDER.index(self) >= _ORDER.index(least)


_ORDER = tuple(Role)
