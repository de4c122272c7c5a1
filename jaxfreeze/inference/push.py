"""`push`: publishes an exported folder, or a finished run, on the Hugging Face hub."""

import tempfile
from pathlib import Path

from jaxfreeze import console
from jaxfreeze.data.token_store import TOKENIZER_FILES
from jaxfreeze.errors import InputError
from jaxfreeze.fetched import check_fetched
from jaxfreeze.hub_client import answered, quiet, reason
from jaxfreeze.inference.export import ABOUT, CARD, CONFIG, STABLEHLO, TOP, WHOLE, export

PUBLISHED = (WHOLE, TOP, STABLEHLO, CONFIG, *TOKENIZER_FILES, CARD, ABOUT)
"""What `export` writes. Other files of the folder stay where they are."""
MENDS = {
    401: "the hub does not accept the token: give another in HF_TOKEN, or run `hf auth login`",
    403: "the token may not write there: give one with write access, and a name of your own or of your organization",
    404: "the hub knows no such place: check the name",
}
"""What a status of the hub means for the publisher, and how to fix it."""


def push(folder: Path | None, run: Path | None, repository: str, private: bool) -> str:
    """Publish a folder that `export` wrote, or a finished run, which is exported first -> its address.

    repository: NAME, of the token's owner, or OWNER/NAME; it is created if it does not exist. The token is the one in
    HF_TOKEN or that `hf auth login` keeps. private: make the repository private. Raises InputError: for a folder that
    `export` did not write, without a token, for a public repository where private is wanted, and for whatever the hub
    or the network answers. Nothing is published by half: all files are one commit.
    """
    from huggingface_hub import get_token

    if folder is not None:
        _check(folder)
    token = get_token()
    if token is None:
        raise InputError("push: expected a token of the hub in HF_TOKEN, found none; or run `hf auth login`")
    if folder is not None:
        return _push(folder, repository, private, token)
    assert run is not None  # the command takes one of the two
    with tempfile.TemporaryDirectory() as place:
        exported = Path(place) / "exported"
        export(run, exported)
        return _push(exported, repository, private, token)


def _check(folder: Path) -> None:
    """Raise InputError unless `export` wrote this folder, and all of it is there."""
    if not folder.is_dir():
        raise InputError(f"--exported {folder}: there is no such folder; expected one that `export` wrote")
    if not (folder / ABOUT).is_file():
        raise InputError(f"--exported {folder}: holds no {ABOUT}; expected a folder that `export` wrote")
    for names in ((WHOLE, TOP), (CONFIG,)):
        for name in names:
            check_fetched(folder / name)
        if not any((folder / name).is_file() for name in names):
            raise InputError(f"--exported {folder}: holds no {' or '.join(names)}; export the run again")


def _push(folder: Path, repository: str, private: bool, token: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    quiet()
    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.repo_info(address.repo_id).private:
            raise InputError(
                f"--private: {address.repo_id} exists and is public; give another --repo, or make it private "
                "on the hub first"
            )
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            allow_patterns=list(PUBLISHED),
            commit_message="Upload a model fine-tuned with jaxfreeze",
        )
    except InputError:
        raise
    except HFValidationError as error:
        raise InputError(f"--repo {repository}: expected NAME or OWNER/NAME ({reason(error)})") from error
    except Exception as error:  # what a network raises depends on the HTTP library that is installed
        cause, status = answered(error)
        mend = MENDS.get(status or 0, "the hub cannot be reached, or fails: try again later")
        raise InputError(f"--repo {repository}: {mend} ({reason(cause)})") from error
    files = [folder / name for name in PUBLISHED if (folder / name).is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    console.say(f"{address}: {len(files)} files, {size:,.1f} MB{', private' if private else ''}")
    return str(address)
