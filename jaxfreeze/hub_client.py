"""What all who ask the Hugging Face hub need: silence of the libraries, and an error in words, without the token."""

import os
import re
import sys

from jaxfreeze.errors import in_words

HIDDEN = "[token]"
ADVICE = re.compile(r" (For more information check|Please make sure you)\b")  # of the client, after what happened


def quiet() -> None:
    """Keep the hub's client, and `datasets` if it is loaded, from warnings and, but on a terminal, from progress bars.

    What goes wrong is said in one line of ours. An environment variable of theirs that asks for more wins.
    """
    from huggingface_hub import constants, utils

    if "HF_HUB_VERBOSITY" not in os.environ:
        utils.logging.set_verbosity_error()
    datasets = sys.modules.get("datasets")
    if datasets is not None and "DATASETS_VERBOSITY" not in os.environ:
        datasets.logging.set_verbosity_error()
    if sys.stderr.isatty():
        return
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        utils.disable_progress_bars()
    if datasets is not None and datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None:
        datasets.disable_progress_bars()


def reason(error: BaseException) -> str:
    """'ConnectError: connection refused': the kind of an error and its text.

    A token with characters that no header takes is repeated in the text of the HTTP library: it is cut out.
    """
    from huggingface_hub import get_token

    text, token = ADVICE.split(" ".join(str(error).split()))[0], get_token()
    if token:
        for form in (token, repr(token)[1:-1], repr(token.encode())[2:-1]):
            text = text.replace(form, HIDDEN)
    return in_words(error, text)


def answered(error: BaseException) -> tuple[BaseException, int | None]:
    """The error with the hub's answer behind one that wraps it, and its HTTP status; the error itself without one."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return cause, status
        cause = cause.__cause__
    return error, None
