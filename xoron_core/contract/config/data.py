"""Where training data comes from, how it is mixed and packed, and what is tolerated in it."""

from typing import Literal

from pydantic import Field, field_validator

from xoron_core.contract.config.section import Section

SourceFormat = Literal["jsonl", "json", "csv", "parquet", "arrow", "folder", "webdataset", "hub"]


class SourceConfig(Section):
    """One data set."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What metrics and messages call it."""
    category: str
    """What its rows are; decides the modality they train, and which columns are looked for."""
    path: str
    """A file, a folder with files of each split, a pattern of files, or a data set on the Hugging Face hub; `demo:…` is
    the corpus shipped here."""
    config: str | None = None
    """Which configuration of a data set on the hub."""
    split: str = "train"
    """The rows to train on; `train[100:]` and `train[:95%]` are parts of them."""
    eval_split: str | None = "heldout"
    """The rows to evaluate on; null: none."""
    format: SourceFormat | None = None
    """How its files are written; null: told by their names."""
    local: bool | None = None
    """Whether `path` is on this machine or on the hub; null: on this machine where it exists there, or looks like a
    path."""
    streaming: bool = True
    """Rows of the hub come over the network as they are needed; false: the data set is downloaded first."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Which column holds what the category asks for, `{text: transcript, audio: path}`; `a.b` is b inside a."""
    chat_template: str | None = None
    """Jinja template that writes a row's messages, as tokenizers carry them; null: the project's own format."""
    loss_on: Literal["all", "assistant"] = "all"
    """`assistant`: of a conversation only what the assistant says is learned."""
    weight: float = Field(1.0, gt=0)
    """Share among the sources of its modality; all alike: round-robin."""
    sample_repeat: int = Field(1, ge=1)
    """Times that each row is used in an epoch, each time with noise and times of its own; a stream under a limit gives
    what the limit says instead."""


class DataConfig(Section):
    """The mixture's sources, how their rows become micro-batches, and what is tolerated in them."""

    sources: tuple[SourceConfig, ...] = ()
    """The data sets; each enabled modality needs one at least."""
    max_per_epoch: int | None = Field(None, ge=1)
    """Most samples of an epoch, shared out in proportion to what the sources have; null: all. The next epoch goes on
    with the rows after them."""
    max_per_dataset: int | None = Field(None, ge=1)
    """Most samples that one source gives to an epoch; null: all it has."""
    shuffle_window: int = Field(65_536, ge=1)
    """Rows of a source that are shuffled with one another, window by window, the windows shuffled, too; 1: the order of
    the files."""
    stream_window: int = Field(256, ge=1)
    """Rows of a stream that are shuffled with one another, and held in memory for it; 1: its own order."""
    pack_window: int = Field(512, ge=1)
    """Documents of a process that are packed into rows together; 1: a document a row."""
    bucket_window: int = Field(8, ge=1)
    """Micro-batches of a process whose samples are sorted by length together, where samples are not packed; 1: none
    are."""
    num_workers: int | None = Field(None, ge=0)
    """Processes that read and prepare ahead, for each process that trains; 0: none, it does so itself; null: as many as
    its share of the cores, at most 8, on a GPU, none on a CPU."""
    prefetch: int = Field(2, ge=1)
    """Windows of each modality that workers prepare ahead of the one in use."""
    max_bad_fraction: float = Field(0.1, ge=0, le=1)
    """Share of a source's rows that may be unreadable before the run stops and names it."""
    max_read_retries: int = Field(3, ge=0)
    """Times that a source that cannot be reached is tried again, after 1, 2, 4 … seconds, before it is left out."""
    sample_timeout_s: float = Field(120.0, gt=0)
    """Seconds that a worker may spend on one row before it is replaced, and the row counts as unreadable."""

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each a name of its own")
        return sources
