"""Which frames of a stream are kept while its length is still unknown."""

from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class UniformPicks(Generic[Kept]):
    """The first frame in every `step_s` seconds; the step is doubled whenever more than `most` would be kept.

    What is kept at the end depends on the times alone: it is what the last step would have picked from the start.

    Args:
        step_s: first step, in seconds.
        most: bound of what is kept.
    """

    def __init__(self, step_s: float, most: int) -> None:
        self.step_s = step_s
        self.most = most
        self._kept: dict[int, Kept] = {}

    def wants(self, time_s: float) -> bool:
        """Whether a frame at this time is the first of its step; times must not decrease."""
        return int(time_s / self.step_s) not in self._kept

    def keep(self, time_s: float, frame: Kept) -> None:
        """Keep a frame that is wanted; every second one goes where there are too many."""
        self._kept[int(time_s / self.step_s)] = frame
        while len(self._kept) > self.most:
            self.step_s *= 2
            earlier, self._kept = self._kept, {}
            for place, one in earlier.items():
                self._kept.setdefault(place // 2, one)

    def kept(self) -> list[Kept]:
        """What was kept, in order of time."""
        return list(self._kept.values())
