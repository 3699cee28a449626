"""Tokenizers: the one shipped here, a file or folder, or any on the Hugging Face hub; special tokens are single."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.sources import demo_corpus
from xoron_core.contract.special_tokens import BOS, EOS, PAD, all_special_tokens


class Tokenizer:
    """Text to token ids and back; knows every special token of the project as one id."""

    def __init__(self, backend: Backend) -> None:
        vocabulary = backend.get_vocab()
        missing = [token for token in all_special_tokens() if token not in vocabulary]
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
        self.backend = backend
        self.pad_id = self.token_id(PAD)
        self.bos_id = self.token_id(BOS)
        self.eos_id = self.token_id(EOS)

    @classmethod
    def load(cls, name: str) -> "Tokenizer":
        """The tokenizer of that name: `demo`, a path, or a hub name.

        Raises: ConfigError when it cannot be had, saying what was looked for.
        """
        if name == "demo":
            return cls(Backend.from_file(str(demo_corpus() / "tokenizer" / "tokenizer.json")))
        path = Path(name).expanduser()
        if path.is_dir() and (path / "tokenizer.json").is_file():
            path = path / "tokenizer.json"
        if path.is_file():
            try:
                return cls(Backend.from_file(str(path)))
            except Exception as error:  # boundary: the library raises bare Exception for a malformed file
                raise ConfigError.of("model.tokenizer", f"{path} is not a tokenizer.json: {error}", name) from error
        return cls(_from_transformers(name))

    @property
    def vocab_size(self) -> int:
        """Ids that mean something."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def token_id(self, token: str) -> int:
        """The id of a token.

        Raises: KeyError when the vocabulary does not have it.
        """
        found = self.backend.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return int(found)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with nothing put around it."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text


def _from_transformers(name: str) -> Backend:
    """A tokenizer that only transformers knows how to load, from its cache, a folder or the hub."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, use_fast=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError.of(
            "model.tokenizer",
            f"cannot be loaded ({reason}); give 'demo', a folder with a tokenizer.json, or a name on the hub that "
            "this machine can reach",
            name,
        ) from error
    backend: Backend = loaded.backend_tokenizer
    return backend
