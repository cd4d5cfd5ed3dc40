"""What ``progress=True`` shows."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def silent(done: int, total: int | None, what: str) -> None:
    """Shows nothing, for ``progress=False``."""


class _Bars:
    """A bar of tqdm's for each step of the work."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._what: str | None = None
        self._bar: Any = None

    def __call__(self, done: int, total: int | None, what: str) -> None:
        if self._bar is None or what != self._what:
            if self._bar is not None:
                self._bar.close()
            self._what, self._bar = what, self._tqdm(total=total, desc=what)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None


def _lines(done: int, total: int | None, what: str) -> None:
    """A line on stderr that is written over."""
    of = "" if total is None else f"/{total}"
    end = "\n" if done == total else ""
    print(f"\r{what}: {done}{of}", end=end, file=sys.stderr, flush=True)


def bar() -> Callable[[int, int | None, str], None]:
    """A function of (done, total, what) that shows a bar of tqdm's, or a line on stderr where tqdm is not installed."""
    try:
        bars = importlib.import_module("tqdm.auto")
    except ModuleNotFoundError:
        return _lines
    return _Bars(bars.tqdm)
