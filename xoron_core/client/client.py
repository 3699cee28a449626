"""One method for each call of the API; bodies are those of `contract/api.py`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from xoron_core.client.address import checked, is_local
from xoron_core.client.errors import WaitTimeoutError, XoronApiError, XoronClientError, XoronConnectionError
from xoron_core.client.waiting import Condition
from xoron_core.contract import api
from xoron_core.contract.states import RunState

DEFAULT_URL = "http://127.0.0.1:8000"
_PREFIX = "/api/v1"
_FIRST_POLL_S = 0.05
_LAST_POLL_S = 1.0
SETTLE_S = 15.0
"""A server that is ready has resumed an interrupted run by then, or never will: a keeper that a server before it has
started is given ten seconds to say so."""

M = TypeVar("M", bound=BaseModel)


class XoronClient:
    """Talks to the server at `url`; `token` where that server demands one. To be closed, or used with `with`.

    Every method raises XoronApiError when the server refuses and XoronConnectionError when it cannot be reached.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        self.url = checked(url)
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=self.url, headers=self.headers, timeout=timeout_s, trust_env=not is_local(self.url)
        )

    def create_run(self, body: api.CreateRun, idempotency_key: str | None = None) -> api.Run:
        """Create a run; with a key, asking twice creates one."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._send(api.Run, "POST", "/runs", body=body, headers=headers)

    def list_runs(
        self, *, states: Sequence[RunState] = (), tags: Sequence[str] = (), limit: int = 50, cursor: str | None = None
    ) -> api.RunPage:
        """A page of runs, the newest first."""
        query = {"state": [str(state) for state in states], "tag": list(tags), "limit": limit, "cursor": cursor}
        return self._send(api.RunPage, "GET", "/runs", query=query)

    def run(self, run_id: str) -> api.Run:
        """One run."""
        return self._send(api.Run, "GET", f"{_path(run_id)}")

    def patch_run(self, run_id: str, body: api.PatchRun) -> api.Run:
        """Change name, tags or priority."""
        return self._send(api.Run, "PATCH", f"{_path(run_id)}", body=body)

    def delete_run(self, run_id: str) -> None:
        """Move a run that has ended to the trash."""
        self._request("DELETE", f"{_path(run_id)}")

    def restore_run(self, run_id: str) -> api.Run:
        """Bring a deleted run back."""
        return self._send(api.Run, "POST", f"{_path(run_id)}/restore")

    def queue(self) -> api.Queue:
        """The runs that wait, the next one first, and what takes the slots."""
        return self._send(api.Queue, "GET", "/queue")

    def reorder(self, runs: Sequence[str]) -> api.Queue:
        """Let waiting runs exchange their places, so that they stand in this order."""
        return self._send(api.Queue, "PUT", "/queue", body=api.QueueOrder(runs=list(runs)))

    def stop(self, run_id: str, *, save: bool = True, expected_attempt: int | None = None) -> api.Run:
        """End a run after a checkpoint, or without."""
        return self._command(run_id, "stop", api.StopRun(save=save, expected_attempt=expected_attempt))

    def pause(self, run_id: str, *, expected_attempt: int | None = None) -> api.Run:
        """Checkpoint and give the machine free."""
        return self._command(run_id, "pause", api.RunCommand(expected_attempt=expected_attempt))

    def resume(
        self,
        run_id: str,
        *,
        checkpoint: str | None = None,
        config: dict[str, Any] | None = None,
        expected_attempt: int | None = None,
    ) -> api.Run:
        """Go on from a checkpoint, the newest unless told otherwise, with `config` laid over the last attempt's."""
        body = api.ResumeRun(checkpoint=checkpoint, config=config or {}, expected_attempt=expected_attempt)
        return self._command(run_id, "resume", body)

    def cancel(self, run_id: str, *, expected_attempt: int | None = None) -> api.Run:
        """End a run for good."""
        return self._command(run_id, "cancel", api.RunCommand(expected_attempt=expected_attempt))

    def request_checkpoint(self, run_id: str, *, expected_attempt: int | None = None) -> api.Run:
        """Ask a running trainer for a checkpoint."""
        return self._command(run_id, "checkpoint", api.RunCommand(expected_attempt=expected_attempt))

    def request_samples(self, run_id: str, *, expected_attempt: int | None = None) -> api.Run:
        """Ask a running trainer for samples."""
        return self._command(run_id, "sample", api.RunCommand(expected_attempt=expected_attempt))

    def wait(self, run_id: str, until: str = "ended", timeout_s: float | None = None) -> api.Run:
        """Wait until a run has `ended`, is `running`, or has reached `step:N`; a server that restarts or cannot use its
        index is waited for, and so is one that resumes an interrupted run by itself.

        Raises: WaitEndedError when the run ended before; WaitTimeoutError after `timeout_s`.
        """
        condition = Condition(until)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s, run = _FIRST_POLL_S, None
        trouble: XoronClientError | None = None
        interrupted_s: float | None = None
        while True:
            try:
                run = self.run(run_id)
                trouble = None
            except XoronConnectionError as error:
                if deadline is None and run is None:
                    raise
                trouble = error
            except XoronApiError as error:
                if error.status != httpx.codes.SERVICE_UNAVAILABLE:
                    raise
                trouble = error
            if run is None or run.state is not RunState.INTERRUPTED:
                interrupted_s = None
            elif interrupted_s is None:
                interrupted_s, pause_s = time.monotonic(), _FIRST_POLL_S
            elif not self.is_ready():  # nothing is decided meanwhile
                interrupted_s = time.monotonic()
            is_settled = interrupted_s is None or time.monotonic() - interrupted_s >= SETTLE_S
            if trouble is None and run is not None and is_settled and condition.is_met(run):
                return run
            if deadline is not None and time.monotonic() >= deadline:
                seen = str(trouble) if trouble else f"it is {run.state} at step {run.step}" if run else "never seen"
                raise WaitTimeoutError(f"run {run_id} not {until} after {timeout_s:g} s; {seen}", run) from trouble
            time.sleep(pause_s if deadline is None else max(0.0, min(pause_s, deadline - time.monotonic())))
            pause_s = min(_LAST_POLL_S, pause_s * 1.5)

    def metrics(self, run_id: str) -> api.RunMetrics:
        """The summary by modality."""
        return self._send(api.RunMetrics, "GET", f"{_path(run_id)}/metrics")

    def series(self, run_id: str, keys: Sequence[str] = (), *, points: int = 2000, x: str = "step") -> api.RunSeries:
        """Curves, thinned to `points` with their extremes kept."""
        query = {"keys": ",".join(keys) or None, "points": points, "x": x}
        return self._send(api.RunSeries, "GET", f"{_path(run_id)}/series", query=query)

    def events(self, run_id: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int = 1000) -> api.EventPage:
        """What a run said after event `after`."""
        query = {"after": after, "kinds": ",".join(kinds) or None, "limit": limit}
        return self._send(api.EventPage, "GET", f"{_path(run_id)}/events", query=query)

    def logs(self, run_id: str, *, after: int | None = None, tail: int = 200) -> api.LogPage:
        """What the trainer printed: from byte `after`, or the last lines."""
        return self._send(api.LogPage, "GET", f"{_path(run_id)}/logs", query={"after": after, "tail": tail})

    def config(self, run_id: str) -> dict[str, Any]:
        """The configuration of the newest attempt."""
        data: dict[str, Any] = self._request("GET", f"{_path(run_id)}/config").json()
        return data

    def samples(self, run_id: str) -> api.SamplePage:
        """What the model made."""
        return self._send(api.SamplePage, "GET", f"{_path(run_id)}/samples")

    def checkpoints(self, run_id: str) -> api.CheckpointPage:
        """The complete checkpoints."""
        return self._send(api.CheckpointPage, "GET", f"{_path(run_id)}/checkpoints")

    def presets(self) -> api.PresetPage:
        """Named starting points."""
        return self._send(api.PresetPage, "GET", "/presets")

    def schema(self) -> api.SchemaDocument:
        """The configuration's JSON Schema, the modalities, the table of states."""
        return self._send(api.SchemaDocument, "GET", "/schema")

    def validate(self, body: api.CreateRun) -> api.ValidationResult:
        """What a configuration would become, or what is wrong with it."""
        return self._send(api.ValidationResult, "POST", "/validate", body=body)

    def system(self) -> api.SystemInfo:
        """The machine and the service."""
        return self._send(api.SystemInfo, "GET", "/system")

    def is_ready(self) -> bool:
        """Whether the server answers and is ready for work."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def stream(self, run_id: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """The frames of a run from event `after` on, replayed and then live, until its end."""
        from xoron_core.client.stream import frames

        return frames(f"{self.url}{_PREFIX}{_path(run_id)}/stream?after={after}", self.headers)

    def _command(self, run_id: str, verb: str, body: api.RunCommand) -> api.Run:
        return self._send(api.Run, "POST", f"{_path(run_id)}/{verb}", body=body)

    def _send(
        self,
        model: type[M],
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> M:
        response = self._request(method, path, query=query, body=body, headers=headers)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise XoronConnectionError(
                f"{response.url} did not answer as a Xoron server of this version does: {error}"
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        params = {key: value for key, value in (query or {}).items() if value is not None}
        content = None if body is None else body.model_dump(mode="json")
        try:
            response = self._http.request(method, _PREFIX + path, params=params, json=content, headers=headers)
        except httpx.TransportError as error:
            raise XoronConnectionError(
                f"cannot reach {self.url} ({error}); start a server with `xoron serve`, or name another with --url"
            ) from error
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise XoronApiError.of(response)
        return response

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"
