"""Code: functions of the Python standard library, and small programs with what they really print.

The library's text is that of the Python that runs the build, which must be PYTHON_VERSION.
"""

import ast
import contextlib
import difflib
import io
import random
import sysconfig
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.demo.documents import Document, block, chat, lines, some_system
from tools.demo.programs import Program, programs
from xoron_core.contract.special_tokens import BOS, EOS, opening

PYTHON_VERSION = "3.11.7"
MODULES = (
    "abc", "argparse", "ast", "base64", "bisect", "calendar", "cmd", "codecs", "collections", "colorsys",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "difflib", "dis", "email.utils", "enum",
    "filecmp", "fileinput", "fnmatch", "fractions", "functools", "genericpath", "getopt", "getpass", "gettext",
    "glob", "gzip", "hashlib", "heapq", "hmac", "html", "imghdr", "inspect", "io", "ipaddress", "json", "keyword",
    "linecache", "locale", "logging", "mimetypes", "numbers", "opcode", "operator", "os", "pathlib", "pickle",
    "pkgutil", "platform", "posixpath", "pprint", "quopri", "random", "re", "reprlib", "sched", "secrets",
    "selectors", "shlex", "shutil", "socket", "stat", "statistics", "string", "struct", "subprocess", "symtable",
    "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback", "turtle", "types", "typing",
    "unittest.util", "urllib.parse", "urllib.request", "uuid", "warnings", "wave", "weakref", "zipfile",
)  # fmt: skip
MIN_CHARS, MAX_CHARS = 150, 720


@dataclass(frozen=True)
class Function:
    """A documented function or method, without its indentation."""

    module: str
    name: str
    source: str
    summary: str


def library_functions() -> list[Function]:
    """Short documented functions of the listed modules."""
    found: dict[str, Function] = {}
    root = Path(sysconfig.get_path("stdlib"))
    for module in MODULES:
        path = root / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
                continue
            doc = ast.get_docstring(node)
            source = textwrap.dedent("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
            if not source.startswith("def "):  # a line at the margin, as in a long string, kept it from being dedented
                continue
            if not doc or not MIN_CHARS <= len(source) <= MAX_CHARS or len(node.body) < 2 or "<|" in source:
                continue
            summary = " ".join(doc.split("\n\n")[0].split())
            if 15 <= len(summary) <= 140 and summary.isascii():
                found.setdefault(source, Function(module, node.name, source, summary))
    functions = list(found.values())
    random.Random("functions").shuffle(functions)
    return functions


def python(source: str) -> str:
    """A code block that names its language."""
    return lines("code", source.strip("\n")).replace(opening("code"), opening("code") + opening("lang:python"), 1)


def _without_docstring(function: Function) -> str:
    tree = ast.parse(function.source)
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    doc = node.body[0]
    assert doc.end_lineno is not None
    kept = function.source.splitlines()
    return "\n".join(kept[: doc.lineno - 1] + kept[doc.end_lineno :])


def _fill_in(function: Function, rng: random.Random) -> str:
    rows = function.source.splitlines(keepends=True)
    start = rng.randrange(1, len(rows) - 1)
    end = min(len(rows) - 1, start + rng.randint(1, 4))
    prefix, middle, suffix = "".join(rows[:start]), "".join(rows[start:end]), "".join(rows[end:])
    return f"{BOS}{block('fim_prefix', prefix)}{block('fim_suffix', suffix)}{block('fim_middle', middle)}{EOS}"


def _commit(function: Function, rng: random.Random) -> str:
    """A docstring is added to a file that lacks it: the file before, the difference, the file after."""
    path = f"{function.module.replace('.', '/')}.py"
    old = _without_docstring(function).splitlines()
    new = function.source.splitlines()
    if rng.random() < 0.5:
        changed = []
        for row in difflib.ndiff(old, new):
            if row[0] == "+":
                changed.append(block("diff_add", row[2:]))
            elif row[0] == "-":
                changed.append(block("diff_del", row[2:]))
        question = f"Document {function.name} in {path}.\n{lines('read_file', path, *old)}"
        return chat(question, f"{lines('edit_file', path, lines('diff', *changed))}\nDone.")
    before, after = lines("commit_before", *old), lines("commit_after", *new)
    return f"{BOS}{before}\n{after}\nAdd a docstring to {function.name}{EOS}"


def library_documents(functions: list[Function]) -> Iterator[Document]:
    """One document per function; the split is by function name, so that a module's twins stay together."""
    rng = random.Random("library")
    for function in functions:
        key, name = f"function:{function.name.strip('_')}", function.name
        first = function.summary[0].lower() + function.summary[1:].rstrip(".")
        kind = rng.random()
        if kind < 0.4:
            question = rng.choice(
                [f"Write a Python function {name} with this purpose: {function.summary}",
                 f"I need a function called {name}. {function.summary}", f"Python, please: {first} (name it {name})."]
            )  # fmt: skip
            yield Document(key, chat(question, python(function.source), system=some_system(rng, 0.1)))
        elif kind < 0.62:
            question = f"What does this function do?\n{python(_without_docstring(function))}"
            yield Document(key, chat(question, f"{name}: {function.summary}"))
        elif kind < 0.82:
            yield Document(key, _fill_in(function, rng))
        elif kind < 0.93:
            yield Document(key, _commit(function, rng))
        else:
            path = f"{name.strip('_')}.py"
            question = f"Put {name} into a file of its own: {function.summary}"
            moved = lines("delete_file", f"old_{path}") if rng.random() < 0.3 else ""
            yield Document(
                key, chat(question, lines("add_file", path, function.source) + ("\n" + moved if moved else ""))
            )


def _run(source: str) -> tuple[str, str]:
    """What the program prints, and the last line of its traceback if it raises."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(source, "script.py", "exec"), {"__name__": "__main__"})
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            return printed.getvalue(), traceback.format_exception_only(error)[-1].strip()
    return printed.getvalue(), ""


def execution_documents(per_kind: int) -> Iterator[Document]:
    """Programs with their output, as scripts or as notebook cells."""
    rng = random.Random("execution")
    for program in programs(per_kind):
        yield Document(f"program:{program.key}", _executed(program, rng))


def _executed(program: Program, rng: random.Random) -> str:
    printed, error = _run(program.source)
    printed = printed.rstrip("\n")
    style = rng.random()
    if style < 0.3:
        if error:
            output = block("jupyter_error", error)
        else:
            output = block("jupyter_output", printed) if printed else opening("no_error")
        cell = lines("jupyter", lines("jupyter_code", program.source), output)
        return f"{BOS}{cell}{EOS}" if style < 0.12 else chat(program.task, cell)
    shown = lines("exec_error", error) if error else lines("exec_result", printed) if printed else opening("no_error")
    reply = f"{python(program.source)}\n\n{lines('exec', '$ python script.py')}\n{shown}"
    if not error and style < 0.5:
        reply += f"\nThe program prints {printed}." if printed and "\n" not in printed else ""
    return chat(program.task, reply, system=some_system(rng, 0.08))
