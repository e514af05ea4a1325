"""Frames that wait for the one before: of each shot, one frame at a time may be in the queues."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field

from jaxstyle.planning.plan import Before, Job


@dataclass
class _Shot:
    """A shot: its last frame with an output, whether a frame is in the queues, and the frames that wait for that."""

    before: Before | None = None
    busy: bool = False
    waiting: deque[Job] = field(default_factory=deque)


class Shots:
    """The shots that the planner has begun and that are not finished. The caller sees to it that threads take turns.

    Attributes:
        held: number of frames that wait.
    """

    def __init__(self) -> None:
        self.held = 0
        self._shots: dict[str, _Shot] = {}
        self._planned = ""

    def finished(self, shot: str, frame: Before) -> None:
        """Says that an earlier run has made the output of a frame; the planner comes to a shot's frames in order."""
        self._at(shot).before = frame

    def add(self, job: Job) -> Job | None:
        """Returns a planned frame, or None if it has to wait for another."""
        one = self._at(job.shot)
        if one.busy:
            one.waiting.append(job)
            self.held += 1
            return None
        one.busy = True
        return dataclasses.replace(job, before=one.before)

    def ended(self, job: Job, *, done: bool) -> Job | None:
        """Takes note of a frame that has its row; returns the next one if it waits.

        It gets the style of this one, which is another than planned where the shot's first style could not be read.

        Args:
            done: whether it has an output.
        """
        one = self._shots[job.shot]
        if done:
            one.before = Before(job.key, job.locator)
        if one.waiting:
            self.held -= 1
            return dataclasses.replace(one.waiting.popleft(), before=one.before, style=job.style)
        one.busy = False
        self._drop(job.shot)
        return None

    def _at(self, shot: str) -> _Shot:
        """The shot that the planner is at; the one before is dropped once its frames have their rows."""
        if shot != self._planned:
            left, self._planned = self._planned, shot
            self._drop(left)
        return self._shots.setdefault(shot, _Shot())

    def _drop(self, shot: str) -> None:
        if shot in self._shots and shot != self._planned and not self._shots[shot].busy:
            del self._shots[shot]
