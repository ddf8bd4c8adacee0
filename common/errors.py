"""The two ways in which a command ends badly."""


class BadUse(ValueError):
    """The caller can mend it: a wrong argument, parameter, file or column. Commands exit with 2.

    The message is one line that names the file, row, column or key, what was expected, and what to do.
    """


class FailedWork(RuntimeError):
    """The work was asked for correctly and could not be done. Commands exit with 1, keeping what was good."""
