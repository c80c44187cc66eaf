"""The one error that a user's input can cause."""


class MiracleError(ValueError):
    """Bad input, in one sentence: the place, what was found, what was expected."""
