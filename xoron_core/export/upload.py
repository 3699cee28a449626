"""A folder's way to a repository of the Hugging Face hub, and what stood in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")
_MAX_REASON = 400
_FORBIDDEN = (401, 403, 404)
_TRIED_AGAIN = (408, 425, 429)
"""Statuses below 500 that may go away by themselves."""
NO_TOKEN = "there is no token: set HF_TOKEN, or run `hf auth login`, where the trainer is started"  # noqa: S105


class RefusedError(Exception):
    """What another try would meet again."""


@dataclass(frozen=True)
class Repository:
    """Where a model goes. The token, None: the one that the hub's client finds, is in no text of this object."""

    repo_id: str
    private: bool
    token: str | None = field(default=None, repr=False)


def check(repository: Repository) -> None:
    """Make the repository where it is missing, and see whether it may be written.

    Raises: RefusedError; whatever the hub's client raises.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=_token(repository))
    api.auth_check(_made(api, repository), write=True)


def upload(repository: Repository, folder: Path, message: str) -> str:
    """Upload a folder's files as one commit; the address of it. Files that are the same already are left out.

    Raises: RefusedError; whatever the hub's client raises.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=_token(repository))
    commit = api.upload_folder(repo_id=_made(api, repository), folder_path=folder, commit_message=message)
    return str(commit.commit_url)


def with_retries(call: Callable[[], str | None], waits_s: tuple[float, ...]) -> str | None:
    """What `call` gives, tried again after each of these seconds where that may help.

    Raises: what it raised last.
    """
    for wait_s in waits_s:
        try:
            return call()
        except Exception as error:  # boundary: the hub's client, its transports and Xet have errors of every kind
            if is_final(error):
                raise
            sleep(wait_s)
    return call()


def is_final(error: Exception) -> bool:
    """Whether another try would meet the same."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return 400 <= status < 500 and status not in _TRIED_AGAIN
    return isinstance(error, RefusedError | ValueError)  # a malformed name is one of these


def reason_of(error: Exception, repository: Repository) -> str:
    """What stood in the way, in one line without the token, and without what differs from one try to the next."""
    from huggingface_hub.errors import HfHubHTTPError

    text = str(error)
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        cure = "; see that the token may write to the repository" if status in _FORBIDDEN else ""
        text = f"the hub answered {status}: {error.server_message or error.response.reason_phrase}{cure}"
    line = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return redacted(line, _known_token(repository))[:_MAX_REASON] or type(error).__name__


def redacted(text: str, token: str | None) -> str:
    """A text without this token, or what looks like one."""
    if token:
        text = text.replace(token, "[redacted]")
    return _TOKEN.sub("[redacted]", text)


def _known_token(repository: Repository) -> str | None:
    from huggingface_hub import get_token

    return repository.token or get_token()


def _token(repository: Repository) -> str:
    token = _known_token(repository)
    if token is None:
        raise RefusedError(NO_TOKEN)
    return token


def _made(api: "HfApi", repository: Repository) -> str:
    """The full name of the repository, which is there then."""
    return str(api.create_repo(repository.repo_id, private=repository.private, exist_ok=True).repo_id)
