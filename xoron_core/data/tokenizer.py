"""Tokenizers: the one shipped here, a file or folder, or any on the Hugging Face hub; special tokens are single."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.sources import demo_corpus
from xoron_core.contract.special_tokens import BOS, EOS, PAD, all_special_tokens

HUB_TIMEOUT_S = 10.0


class Tokenizer:
    """Text to token ids and back; knows every special token of the project as one id.

    `vocab_size` is one more than the largest id, which is more than the number of tokens where ids have gaps.
    """

    def __init__(self, backend: Backend) -> None:
        # A token that the vocabulary has keeps its id; told that it is special, nothing cuts it up any more.
        backend.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in all_special_tokens()]
        )
        backend.no_truncation()  # a file can ask for either, and documents would lose their ends
        backend.no_padding()
        self.backend = backend
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
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
        try:
            path = Path(name).expanduser()
        except RuntimeError as error:
            raise ConfigError.of("model.tokenizer", f"is no path: {error}", name) from error
        if path.is_dir() and (path / "tokenizer.json").is_file():
            path = path / "tokenizer.json"
        if path.is_file():
            try:
                return cls(Backend.from_file(str(path)))
            except Exception as error:  # boundary: the library raises bare Exception for a malformed file
                raise ConfigError.of("model.tokenizer", f"{path} is not a tokenizer.json: {error}", name) from error
        return cls(_from_transformers(name, path))

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
        # The one call that does not work out where each token stands, a fifth of the time.
        [encoding] = self.backend.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text, and the character at which each token begins."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=False)
        return text

    def decode_plain(self, ids: Sequence[int]) -> str:
        """The text of ids without the special tokens among them."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=True)
        return text


def _from_transformers(name: str, path: Path) -> Backend:
    """A tokenizer that only transformers knows how to load, from a folder, its cache or the hub."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if path.is_dir():
            return _auto_tokenizer(str(path), is_local=True)
        if try_to_load_from_cache(name, "tokenizer_config.json"):
            with suppress(OSError):  # half of it in the cache: the rest may be had
                return _auto_tokenizer(name, is_local=True)
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)  # fails at once where transformers would try for a minute
        return _auto_tokenizer(name, is_local=False)
    except Exception as error:  # boundary: the hub's client and every kind of tokenizer raise errors of their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError.of(
            "model.tokenizer",
            f"cannot be loaded ({reason}); give 'demo', a folder with a tokenizer.json, or a name on the hub that "
            "this machine can reach",
            name,
        ) from error


def _auto_tokenizer(name: str, *, is_local: bool) -> Backend:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(name, local_files_only=is_local, trust_remote_code=False)
    backend: Backend = loaded.backend_tokenizer
    return backend
