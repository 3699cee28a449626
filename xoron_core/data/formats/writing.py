"""The project's text format: blocks of special tokens, as the corpus shipped here has them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from xoron_core.contract.special_tokens import BOS, EOS, closing, opening


class Language(NamedTuple):
    """A programming language that has a special token, and how a script in it is run."""

    token: str
    command: str


_PYTHON = Language(opening("lang:python"), "python script.py")
_JAVASCRIPT = Language(opening("lang:javascript"), "node script.js")
_BASH = Language(opening("lang:bash"), "bash script.sh")

LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    dict.fromkeys(("python", "python3", "py", "ipython", "ipython3"), _PYTHON)
    | dict.fromkeys(("javascript", "js", "node", "nodejs"), _JAVASCRIPT)
    | dict.fromkeys(("bash", "sh", "shell", "zsh"), _BASH)
)
"""By the names that data sets give them, in lower case."""


def block(name: str, body: str) -> str:
    """A block on one line."""
    return f"{opening(name)}{body}{closing(name)}"


def lines(name: str, *body: str) -> str:
    """A block whose tags stand on lines of their own."""
    return "\n".join([opening(name), *body, closing(name)])


def document(body: str) -> str:
    """A whole text."""
    return f"{BOS}{body}{EOS}"


def code_block(source: str, language: str) -> str:
    """Code; its language is named where there is a token for it."""
    known = LANGUAGES.get(language.strip().lower())
    return f"{opening('code')}{known.token if known else ''}\n{trimmed(source)}\n{closing('code')}"


def trimmed(text: str) -> str:
    """A text without the line breaks around it; indentation stays."""
    return text.strip("\r\n")
