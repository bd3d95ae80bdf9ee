"""A slot that holds the newest item: an item that is not taken in time is replaced."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlot(Generic[T]):
    """Passes the newest item from one thread to another, and drops older items that were not taken."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Replace the item; return whether an item was dropped."""
        with self._condition:
            dropped = self._item is not None
            self._item = item
            self._condition.notify()
            return dropped

    def take(self) -> T | None:
        """Wait for an item and remove it; return None once the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> None:
        """Drop the item if there is one."""
        with self._condition:
            self._item = None

    def close(self) -> None:
        """Wake the thread that waits in `take`, for good."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
