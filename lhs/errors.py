"""Errors that the user can fix: shown as one clear message, exit code 2."""


class UserError(Exception):
    """A mistake in a setting, a file or a command, shown without a traceback.

    The message names the file or the setting, what was found there and what is allowed.
    """


class BadImageError(UserError):
    """One image or label file that can't be read; `data.on_bad_image` decides what follows."""


class UnreachableError(UserError):
    """An object store that can't be reached: no image to leave out, so that it ends a command."""
