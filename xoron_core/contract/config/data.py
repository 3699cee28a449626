"""Where training data comes from."""

from pydantic import Field, field_validator

from xoron_core.contract.config.section import Section


class SourceConfig(Section):
    """One data set."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What metrics and messages call it."""
    category: str
    """What its rows are; decides the modality they train."""
    path: str
    """A folder that holds `<split>.jsonl`; `demo:…` is the corpus shipped here."""
    split: str = "train"
    """The rows to train on."""
    eval_split: str | None = "heldout"
    """The rows to evaluate on; null: none."""
    weight: float = Field(1.0, gt=0)
    """Share among the sources of its modality."""
    sample_repeat: int = Field(1, ge=1)
    """Times that each row is used in an epoch, each time with noise and times of its own."""


class DataConfig(Section):
    """The mixture's sources and what is tolerated in them."""

    sources: tuple[SourceConfig, ...] = ()
    """The data sets; each enabled modality needs one at least."""
    max_bad_fraction: float = Field(0.1, ge=0, le=1)
    """Share of a source's rows that may be unreadable before the run stops and names it."""

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each a name of its own")
        return sources
