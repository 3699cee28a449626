"""What the environment (prefix `XORON_`) or the command line says about this server."""

from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.errors import ServeError
from xoron_core.contract.home import Home

LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 -- names to recognise, not to bind


class Settings(BaseSettings):
    """Read once, at the start; the environment is read nowhere else."""

    model_config = SettingsConfigDict(
        env_prefix="XORON_", extra="ignore", frozen=True, use_attribute_docstrings=True, populate_by_name=True
    )

    home: Path = Path("~/.local/share/xoron")
    """Where runs live."""
    host: str = "127.0.0.1"
    """Address to listen on; any but loopback demands a token."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    database_url: str | None = None
    """SQLAlchemy URL of the index; null: a SQLite file in the home."""
    token: SecretStr | None = None
    """What a client must know; null: nobody but this machine is let in."""
    max_runs: int = Field(1, ge=1)
    """Runs that may be live at the same time; the others wait in the queue."""
    gpus: str | None = Field(None, validation_alias=AliasChoices("XORON_GPUS", "CUDA_VISIBLE_DEVICES"))
    """Indices or UUIDs of the GPUs that runs may have, separated by commas; null: all."""
    allowed_hosts: str = ""
    """Further names, separated by commas, by which browsers may call this server (a proxy's name, say)."""

    @classmethod
    def read(cls, **given: Any) -> Self:
        """What the environment says, with what is `given` laid over it.

        Raises: ServeError naming every setting at fault.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            faults = [
                f"XORON_{str(one['loc'][0]).upper()} is {one['input']!r}: {one['msg'].lower()}"
                for one in error.errors()
            ]
            raise ServeError("; ".join(faults)) from error

    @field_validator("token")
    @classmethod
    def _no_empty_token(cls, token: SecretStr | None) -> SecretStr | None:
        return token if token is not None and token.get_secret_value() else None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_NAMES or self.host.startswith("127.")

    @property
    def index_url(self) -> str:
        """SQLAlchemy URL of the index."""
        return self.database_url or f"sqlite:///{Home(self.home).database}"
