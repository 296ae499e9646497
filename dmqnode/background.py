"""Tasks that run as long as an `async with` block, whose own errors come out as they are.

A plain nursery around the caller's block would wrap what the caller raises in an exception group, and
cancelling the block would end the tasks before they had given back what the caller did not take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import trio


class Background:
    """A nursery for tasks that end at `close`, not when the caller is cancelled.

    A bug in one of them cancels the caller's block and the other tasks.
    """

    def __init__(self) -> None:
        self._opening: AbstractAsyncContextManager[trio.Nursery] = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self._scopes: set[trio.CancelScope] = set()

    async def open(self) -> None:
        """Begin; `close` must follow in the same task."""
        self._nursery = await self._opening.__aenter__()

    def start(self, run: Callable[[], Awaitable[object]]) -> None:
        """Run a task until `close`."""
        assert self._nursery is not None
        scope = trio.CancelScope(shield=True)
        self._scopes.add(scope)
        self._nursery.start_soon(self._run, run, scope)

    async def _run(self, run: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
        with scope:
            try:
                await run()
            except BaseException:
                self._end()
                raise
            finally:
                self._scopes.discard(scope)

    def _end(self) -> None:
        for scope in list(self._scopes):
            scope.cancel()

    async def close(self) -> None:
        """Cancel the tasks and wait for their end.

        Errors: an exception group with what a task raised; its bug.
        """
        assert self._nursery is not None
        self._end()
        self._nursery.cancel_scope.cancel()
        await self._opening.__aexit__(None, None, None)
