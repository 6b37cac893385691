"""How fast requests may leave: evenly spaced, and not at all while the server asks to wait."""

from __future__ import annotations

import asyncio


class RateLimit:
    """So many units a minute, spaced evenly: in no minute are there more, not even in the first.

    A token bucket lets a whole minute's worth go at once and refills behind it, up to twice the limit in a minute.
    """

    def __init__(self, per_minute: int) -> None:
        """Args:
        per_minute: 0 is no limit.
        """
        self._seconds_per_unit = 60 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    async def take(self, units: float = 1) -> None:
        """Wait for one's turn, in order of asking; the next one's comes after these units have passed."""
        now = asyncio.get_running_loop().time()
        turn = max(self._free_at, now)
        self._free_at = turn + units * self._seconds_per_unit
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, units: float) -> None:
        """Count more units, or fewer, than were taken, once it is known how many they were."""
        self._free_at += units * self._seconds_per_unit

    def pause(self, seconds: float) -> None:
        """Let nobody go for so long, whose turn has not come yet."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now + seconds)
