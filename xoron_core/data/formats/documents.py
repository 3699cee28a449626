"""Documents, and changes of files."""

import re
from typing import Any, Final

from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.conversation import CHAT, exchange
from xoron_core.data.formats.messages import Conversation, Message
from xoron_core.data.formats.values import is_text, said
from xoron_core.data.formats.writing import block, document, lines, trimmed

BODIES: Final[Names] = (
    "text", "content", "body", "article", "document", "maintext", "passage", "story", "abstract", "raw_content",
)  # fmt: skip
TITLES: Final[Names] = ("title", "headline")

OLD: Final[Names] = ("old_contents", "before", "old_content", "old_code", "old")
NEW: Final[Names] = ("new_contents", "after", "new_content", "new_code", "new")
DIFFS: Final[Names] = ("diff", "patch", "git_diff")
NOTES: Final[Names] = ("message", "subject", "msg", "commit_message")
REQUESTS: Final[Names] = ("instruction", "problem_statement", "issue", "instruction_descriptive")
OLD_PATHS: Final[Names] = ("old_file", "old_path")
PATHS: Final[Names] = ("new_file", "new_path", "path", "file", "file_path", "filename", *OLD_PATHS)

HUNK = re.compile(r"@@ -\d+(?:,(\d{1,9}))? \+\d+(?:,(\d{1,9}))? @@")


def _titled(columns: Columns, body: Any) -> str:
    """A title is a line of its own before the text, unless the text has it."""
    title, text = columns.text(TITLES).strip(), said(body)
    return document(text if not title or text.lstrip().startswith(title) else f"{title}\n\n{text}")


def _changed(columns: Columns, _contents: Any) -> Conversation | str:
    """A file before and after a commit, and what the commit says; a new file and one that went away as such."""
    old, new, path = trimmed(columns.text(OLD)), trimmed(columns.text(NEW)), _path(columns)
    before, after = lines("commit_before", *([old] if old else [])), lines("commit_after", *([new] if new else []))
    request = columns.text(REQUESTS)
    if request:
        return exchange(columns, f"{request}\n{before}", Message("assistant", after))
    if path and not old:
        change = lines("add_file", path, new)
    elif path and not new:
        change = lines("delete_file", path)
    else:
        change = lines("edit_file", path, before, after) if path else f"{before}\n{after}"
    return document(f"{change}\n{trimmed(columns.text(NOTES))}".rstrip("\n"))


def _patched(columns: Columns, diff: Any) -> Conversation | str:
    """A difference, and what the commit says, or what was asked for."""
    change, path = lines("diff", *diff_lines(said(diff))), _path(columns)
    change = lines("edit_file", path, change) if path else change
    request, note = columns.text(REQUESTS), trimmed(columns.text(NOTES))
    if request:
        return exchange(columns, request, Message("assistant", f"{change}\n{note}".rstrip("\n")))
    return document(f"{change}\n{note}".rstrip("\n"))


def diff_lines(diff: str) -> list[str]:
    """The lines of a unified diff: what is added and removed in blocks, all else as it is, without its marker. In a
    hunk, whose head says how long it is, a line that begins like the head of a file is none."""
    shown = []
    num_old = num_new = 0
    for line in trimmed(diff).splitlines():
        if hunk := HUNK.match(line):
            num_old, num_new = int(hunk[1] or 1), int(hunk[2] or 1)
        is_head = num_old <= 0 and num_new <= 0 and line.startswith(("--- ", "+++ "))
        if hunk or is_head or line[:1] not in ("+", "-", " "):
            shown.append(line)
            continue
        num_old -= line[0] != "+"
        num_new -= line[0] != "-"
        shown.append(line[1:] if line[0] == " " else block("diff_add" if line[0] == "+" else "diff_del", line[1:]))
    return shown


def _path(columns: Columns) -> str:
    """The file that is changed; of one that is renamed, both names."""
    old, path = columns.text(OLD_PATHS), columns.text(PATHS)
    return f"{old} => {path}" if old and old != path else path


_AROUND = (REQUESTS, NOTES, PATHS)

DOCUMENT: Final = (Form((Need(BODIES, is_text),), _titled, (TITLES,)),)
GIT_OPERATIONS: Final = (
    *CHAT,
    Form((Need(NEW, is_text),), _changed, (*_AROUND, OLD)),
    Form((Need(OLD, is_text),), _changed, (*_AROUND, NEW)),
    Form((Need(DIFFS, is_text),), _patched, _AROUND),
)
