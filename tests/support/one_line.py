"""A UserError must be one line that a user can act on."""

import pytest

from runtime.errors import UserError


def failure_of(function, *arguments, **keywords):
    """Return the message of the error that a call raises, after checking that it is one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message
