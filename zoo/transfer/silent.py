"""A transfer that nobody watches."""


class Silent:
    """A `Progress` that shows nothing."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """A file begins."""

    def advance(self, amount: int) -> None:
        """More bytes have arrived."""

    def say(self, message: str) -> None:
        """Something a person should know."""

    def finish(self) -> None:
        """The file is complete, or given up."""
