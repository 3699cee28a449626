"""Reads data sets of the hub that HF_ENDPOINT names, and prints what it found as JSON: its libraries read that variable
once, so it is a process of its own."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

from support.rows import config_of
from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source, Stream, stream_record


def tell_hub(what: str) -> None:
    with urlopen(f"{os.environ['HF_ENDPOINT']}/{what}") as answer:
        answer.read()


def stream_of(path: str = "owner/poems", split: str = "train", **options: Any) -> Stream:
    stream = open_source(config_of(path, **options), split, None)
    assert isinstance(stream, Stream)
    return stream


def error_of(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except (DataError, SourceLostError) as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]


def rows() -> Any:
    """A stream that is lost in the middle, goes on, and is resumed by another; what is not there."""
    stream = stream_of()
    first = [row["n"] for row in stream.take(7)]
    tell_hub("close")
    lost = error_of(lambda: stream.take(20))
    tell_hub("open")
    state = json.loads(json.dumps(stream.state_dict()))
    rest = [row["n"] for row in stream.take(100)]
    stream.close()
    other = stream_of()
    other.load_state_dict(state)
    again = [row["n"] for row in other.take(100)]
    other.close()
    no_share = error_of(lambda: stream_of(split="train[:50%]"))
    table = open_source(config_of("owner/poems", streaming=False), "train[-2:]", None)
    assert isinstance(table, Source)
    return {
        "first": first,
        "lost": lost,
        "rest": rest,
        "again": again,
        "table": [table.read(at).fields["n"] for at in range(len(table))],
        "no split": error_of(lambda: stream_of(split="heldout")),
        "no data set": error_of(lambda: stream_of("owner/nothing")),
        "no configuration": error_of(lambda: stream_of(config="small")),
        "no share": no_share,
    }


def media() -> Any:
    """Files of a folder, streamed and downloaded."""
    stream = stream_of()
    streamed = [stream_record("hub", at, row).media("image").decode() for at, row in enumerate(stream.take(9))]
    stream.close()
    last = stream_of(split="train[-34%:]")
    share = [row["text"] for row in last.take(9)]
    last.close()
    table = open_source(config_of("owner/poems", streaming=False), "train", None)
    assert isinstance(table, Source)
    record = table.read(1)
    return {
        "streamed": streamed,
        "downloaded": [table.read(at).media("image").decode() for at in range(len(table))],
        "share": share,
        "text": record.text("text"),
        "outside": error_of(lambda: record.read("/etc/passwd")),
    }


if __name__ == "__main__":
    print(json.dumps({"rows": rows, "media": media}[sys.argv[1]]()))  # noqa: T201
