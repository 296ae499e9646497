"""What a model knows of one message."""

from __future__ import annotations

from tests.dmqnode.world import Got


class Known:
    """What the model knows of one message."""

    def __init__(self, body: bytes, due: float, expires: float, group: str | None) -> None:
        self.body = body
        self.due = due
        self.expires = expires
        self.group = group
        self.attempt = 0
        self.held: Got | None = None
        self.hidden_until = due
        """Not delivered before."""
        self.free_from = due
        """Ready from here on: later than `hidden_until` if a crash lost or did not lose its note."""
        self.exact = True
        """Whether the attempts are known: an unwritten note may have been lost in a crash."""
        self.longest = due
        """The farthest that it was ever hidden until: what shortened that may be lost in a crash."""

    def hide(self, until: float) -> None:
        self.hidden_until = self.free_from = until
        self.longest = max(self.longest, until)
