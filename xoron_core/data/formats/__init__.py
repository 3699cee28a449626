"""From a row as somebody wrote it to what a modality reads, by the source's category.

A row of a text category becomes `text`, in the format of the special tokens, and, where not all of it is learned,
`learned`: the spans of characters that are. One of a media category becomes `image` or `video` with `question` and
`answer` or `caption`, or `audio` with `text`. Columns are found by the names that data sets commonly give them (the
tables of the modules here), or by the source's `fields`. A `text` that begins with a special token is left as it is.

Special tokens inside plain columns are kept: whoever writes rows may mean them. So a data set that is not trusted can
open and close blocks of its own; only media rows, where a placeholder stands for an embedding, refuse some of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.config.section import unknown_key
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.special_tokens import all_names, opening
from xoron_core.data.formats import templates
from xoron_core.data.formats.columns import Columns, Form, Need
from xoron_core.data.formats.conversation import CHAT, PAIR, written
from xoron_core.data.formats.documents import DOCUMENT, GIT_OPERATIONS
from xoron_core.data.formats.learned import assistant_spans
from xoron_core.data.formats.media import MEDIA_FORMS
from xoron_core.data.formats.messages import Conversation
from xoron_core.data.formats.programs import CODE, CODE_EXECUTION, FIM
from xoron_core.data.formats.reasoning import ANTI_HALLUCINATION, CHAIN_OF_THOUGHT
from xoron_core.data.formats.tools import AGENTIC, TOOL_USE
from xoron_core.data.formats.values import is_text, said
from xoron_core.data.records import Record

OPENING_TAGS: Final = tuple(opening(name) for name in all_names())

_PLAIN: Final = Form((Need(("text",), is_text),), lambda _columns, text: said(text))

TEXT_FORMS: Final[Mapping[str, tuple[Form[Conversation | str], ...]]] = MappingProxyType(
    {
        "conversation": (*CHAT, PAIR, _PLAIN),
        "tool_use": (*TOOL_USE, _PLAIN),
        "agentic": (*AGENTIC, _PLAIN),
        "chain_of_thought": (*CHAIN_OF_THOUGHT, _PLAIN),
        "anti_hallucination": (*ANTI_HALLUCINATION, _PLAIN),
        "document": DOCUMENT,
        "code": CODE,
        "fim": FIM,
        "git_operations": (*GIT_OPERATIONS, _PLAIN),
        "code_execution": (*CODE_EXECUTION, _PLAIN),
    }
)
"""How rows of each text category are written; the first form that a row fits is taken."""

WITHOUT_MESSAGES: Final = frozenset({"document", "fim"})
"""Text categories whose rows are never conversations."""


def format_record(record: Record, source: SourceConfig, seed: int) -> Record:
    """The row with the fields that its category's modality reads; `seed` draws where a text is cut for filling in.

    Rows of a category that is none of the tables' keep their columns, and get those that `fields` names.
    Raises: DataError of kind `wrong_type` for a row that cannot be understood, `empty` for one with nothing in it.
    """
    columns = Columns(record, source.fields, seed)
    try:
        if (media_forms := MEDIA_FORMS.get(source.category)) is not None:
            return replace(record, fields=columns.made_by(media_forms, source.category))
        if (text_forms := TEXT_FORMS.get(source.category)) is not None:
            return replace(record, fields=_text_fields(columns, source, text_forms))
    except RecursionError as error:
        raise record.error("has a value that is nested too deeply") from error
    return replace(record, fields={**record.fields, **{name: columns.value((name,)) for name in source.fields}})


def check_format(source: SourceConfig, field: str) -> None:
    """See that `fields`, `chat_template` and `loss_on` of a source mean something for its category.

    `field` is where the source stands in the configuration. Raises: ConfigError.
    """
    forms = MEDIA_FORMS.get(source.category) or TEXT_FORMS.get(source.category) or ()
    known = sorted({name for form in forms for name in form.names})
    for name in source.fields if forms else ():
        if name not in known:
            raise ConfigError.of(f"{field}.fields.{name}", unknown_key(name, known), source.fields[name])
    has_messages = source.category in TEXT_FORMS and source.category not in WITHOUT_MESSAGES
    if source.loss_on == "assistant" and not has_messages:
        message = f"{source.category} has no conversations; take it out, or set it to all"
        raise ConfigError.of(f"{field}.loss_on", message, source.loss_on)
    if (template := source.chat_template) is None:
        return
    if not has_messages:
        message = f"is for conversations, which {source.category} has none of; take it out"
        raise ConfigError.of(f"{field}.chat_template", message, template[:200])
    templates.check(template, f"{field}.chat_template")
    if source.loss_on == "assistant" and not templates.GENERATION.search(template):
        message = (
            "does not mark what the assistant says, which loss_on: assistant needs; put {% generation %} and "
            "{% endgeneration %} around it, or set loss_on to all"
        )
        raise ConfigError.of(f"{field}.chat_template", message, template[:200])


def _text_fields(columns: Columns, source: SourceConfig, forms: tuple[Form[Conversation | str], ...]) -> dict[str, Any]:
    marked = source.loss_on == "assistant"
    text = columns.value(("text",))
    if isinstance(text, str) and text.startswith(OPENING_TAGS):
        learned = assistant_spans(text) if marked else ()
    elif source.chat_template is not None:
        made = columns.made_by(forms, source.category)
        if isinstance(made, str):
            raise columns.record.error("has no messages that chat_template could write", "wrong_type")
        text, learned = templates.rendered(columns.record, made, source.chat_template, marked=marked)
    else:
        made = columns.made_by(forms, source.category)
        text = made if isinstance(made, str) else written(made)
        learned = assistant_spans(text) if marked else ()
    if not marked:
        return {"text": text}
    if not learned:
        reason = "the assistant says nothing in it, and with loss_on: assistant nothing else is learned"
        raise columns.record.error(reason, "empty")
    return {"text": text, "learned": learned}
