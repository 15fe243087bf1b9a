"""Work done by several threads, results taken in order, with a limit on how far the threads run ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Progress(stage, done, total), bytes. Called from the caller's thread; what it raises stops the work.
Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """For callers that do not want to know."""


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield ``work(item)`` for each item in order; at most ``ahead`` of them are begun and not yet taken.

    (``Executor.map`` begins all at once: a disk of chunks would be in memory.)
    """
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(running) >= ahead:
                yield running.popleft().result()
            running.append(pool.submit(work, item))
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
