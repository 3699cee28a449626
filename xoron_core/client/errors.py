"""What can go wrong between client and server."""

import httpx
from pydantic import ValidationError

from xoron_core.contract.api import Problem, Run
from xoron_core.contract.errors import XoronError


class XoronClientError(XoronError):
    """Base of what the client raises."""


class XoronConnectionError(XoronClientError):
    """The server cannot be reached, or what answers is no such server."""


class XoronApiError(XoronClientError):
    """The server refused: `status` and the whole `problem`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status = problem.status
        super().__init__(problem.detail)

    @classmethod
    def of(cls, response: httpx.Response) -> "XoronApiError":
        """The error that a response tells, whoever wrote it (a proxy's page is no problem document)."""
        try:
            return cls(Problem.model_validate_json(response.content))
        except ValidationError:
            title = response.reason_phrase or "error"
            detail = f"{response.request.method} {response.url} was answered with {response.status_code} {title}"
            return cls(Problem(title=title, status=response.status_code, detail=detail))


class WaitTimeoutError(XoronClientError):
    """What was waited for did not happen in time; `run` is the run as it stood last."""

    def __init__(self, message: str, run: Run | None) -> None:
        self.run = run
        super().__init__(message)


class WaitEndedError(XoronClientError):
    """The run ended before what was waited for could happen."""

    def __init__(self, message: str, run: Run) -> None:
        self.run = run
        super().__init__(message)
