"""The one kind of error that a user can mend, and how an error is put into one line."""


class UserError(ValueError):
    """Something that the user can mend.

    The message is one line that names the place (a file, a table's row, a key or a flag), what was found
    there and what was expected. Scripts end with this line; any other error is a mistake of ours and shows
    its place in the code.
    """


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an error's message in one line, or the error's name where it has no message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def reason(error: BaseException) -> str:
    """Return why something failed, for a line that already names the file: only the system's words."""
    return getattr(error, "strerror", None) or one_line(error)


def message_of(error: Exception) -> str:
    """Return the line that a script ends with; an OSError is its file and reason, without its number."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
