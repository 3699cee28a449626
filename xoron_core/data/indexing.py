"""Looking through files for their rows, in the background."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xoron_core.contract.config.data import SourceConfig
from xoron_core.data.sources import open_source

POLL_S = 0.05
NUM_THREADS = 2


class _GivenUpError(Exception):
    """Nobody wants the index any more."""


def index_sources(
    sources: Sequence[SourceConfig],
    cache: Path | None,
    on_wait: Callable[[], None],
    on_progress: Callable[[str], None],
) -> None:
    """Open each split of each source once, so that its index is in `cache` when it is read; without one, do nothing.

    `on_wait` is called every now and then meanwhile, and may raise to give up; `on_progress` is told how far it is.
    Raises: DataError or SourceLostError when a source cannot be opened.
    """
    if cache is None:
        return
    progress: dict[str, str] = {}
    given_up = threading.Event()

    def open_once(source: SourceConfig, split: str) -> None:
        key = f"{source.name} {split}"

        def tell(text: str) -> None:
            if given_up.is_set():
                raise _GivenUpError
            progress[key] = text

        try:
            open_source(source, split, cache, tell).close()
        finally:
            progress.pop(key, None)

    with ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="indexing") as threads:
        splits = [(source, split) for source in sources for split in (source.split, source.eval_split) if split]
        futures = [threads.submit(open_once, source, split) for source, split in splits]
        try:
            for future in futures:
                while True:
                    try:
                        future.result(POLL_S)
                        break
                    except TimeoutError:
                        on_wait()
                        on_progress(", ".join(list(progress.values())))
        finally:
            given_up.set()
            threads.shutdown(wait=False, cancel_futures=True)
