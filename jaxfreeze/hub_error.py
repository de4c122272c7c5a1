"""What the Hugging Face hub or the network answered, in words for one line, without the token."""

from jaxfreeze.errors import shorten

MOST = 200  # characters
HIDDEN = "[token]"


def reason(error: BaseException) -> str:
    """'ConnectError: connection refused': the kind of an error and its text.

    A token with characters that no header takes is repeated in the text of the HTTP library: it is cut out.
    """
    from huggingface_hub import get_token

    text, token = " ".join(str(error).split()), get_token()
    if token:
        for form in (token, repr(token)[1:-1], repr(token.encode())[2:-1]):
            text = text.replace(form, HIDDEN)
    return f"{type(error).__name__}: {shorten(text, MOST)}" if text else type(error).__name__


def answered(error: BaseException) -> tuple[BaseException, int | None]:
    """The error with the hub's answer behind one that wraps it, and its HTTP status; the error itself without one."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return cause, status
        cause = cause.__cause__
    return error, None
