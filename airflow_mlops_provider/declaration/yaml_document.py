"""Read one YAML file as plain data that remembers where every key and value was written.

Decides what YAML a person may write: one UTF-8 document, a mapping at its root, text keys, YAML 1.2 core scalars, few
aliases, no tags, no duplicate keys, bounded size and depth. What the keys mean is left to ``model`` and
``environment``. Reads the one file it is given; touches nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from airflow_mlops_provider.declaration.node import MappingNode, Node, ScalarNode, SequenceNode, dotted
from airflow_mlops_provider.declaration.wording import quoted
from airflow_mlops_provider.declaration.yaml_scalar import core_scalar
from airflow_mlops_provider.exceptions import DeclarationError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_ALIASES = 16
#: Aliases count with everything they stand for, so that a bomb of nested aliases ends here.
MAX_VALUES = 10_000

# libyaml does the scanning where PyYAML was built with it; the events are the same either way.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")
_SYNTAX_HINTS = {
    "cannot start any token": "a tab, '@', '%' or '`' begins a value; indent with spaces, quote such values",
    "expected alphabetic or numeric character": "a value begins with '*', '&' or '!'; put it in quotes",
    "mapping values are not allowed": "a ':' too many or a wrong indentation; quote text that contains ': '",
    "expected ':'": "the line before is not a 'key: value' pair, or a quote is not closed",
    "undefined alias": "write the value itself",
    "end of stream": "a quote or bracket is not closed",
}


class Document:
    """A file's root mapping, and what was wrong with it without making it unreadable."""

    __slots__ = ("problems", "root")

    def __init__(self, root: MappingNode, problems: tuple[Problem, ...]) -> None:
        self.root = root
        self.problems = problems


def read_document(path: Path, *, shown_as: str | None = None) -> Document:
    """Read a YAML file.

    :param shown_as: how messages call the file; default: the path as given.
    :raises DeclarationError: the file cannot be read as one YAML mapping.
    """
    file = shown_as or str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DeclarationError(
            [Problem(file, 0, 0, "", f"cannot be read: {reason}; check the name and the rights")]
        ) from error
    return parse_document(data, file=file)


def parse_document(data: bytes, *, file: str) -> Document:
    """Parse the bytes of one YAML file; see :func:`read_document`."""
    composer = _Composer(file)
    root = composer.compose(_decode(data, file))
    return Document(root, tuple(composer.problems))


def _decode(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        _refuse(file, 1, 1, f"the file is larger than {MAX_BYTES // 1024} KiB; split it or move data out of it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        _refuse(file, line, column, "the file is not UTF-8 from here on; save it as UTF-8")
    if found := _CONTROL_CHARACTER.search(text):
        before_text = text[: found.start()]
        line, column = before_text.count("\n") + 1, found.start() - (before_text.rfind("\n") + 1) + 1
        _refuse(file, line, column, f"control character U+{ord(found.group()):04X} is not allowed; remove it")
    return text


def _refuse(file: str, line: int, column: int, message: str, path: tuple[str | int, ...] = ()) -> NoReturn:
    raise DeclarationError([Problem(file, line, column, dotted(path), message)])


class _Composer:
    """Events of the YAML parser → nodes. Problems that do not hide the rest of the file are gathered, others raised."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._aliases = 0
        self._values = 0

    def compose(self, text: str) -> MappingNode:
        parser = _Parser(text)
        try:
            return self._compose_root(parser.get_event)
        except yaml.MarkedYAMLError as error:
            mark = _mark(error)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._stop(line, column, _describe_syntax_error(error))
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self._stop(1, 1, f"not readable as YAML ({type(error).__name__}); check the characters in it")
        finally:
            parser.dispose()

    def _compose_root(self, get_event: Any) -> MappingNode:
        get_event()  # StreamStart
        if isinstance(get_event(), StreamEndEvent):
            self._stop(1, 1, "the file is empty; start with 'apiVersion: mlops/v1'")
        event = get_event()
        if not isinstance(event, MappingStartEvent):
            self._stop(
                *_place(event), "the file must hold a mapping of 'key: value' lines; start with 'apiVersion: mlops/v1'"
            )
        root = self._compose_mapping(get_event, event, (), 1)
        get_event()  # DocumentEnd
        extra = get_event()
        if not isinstance(extra, StreamEndEvent):
            self._add(
                *_place(extra), (), "a second YAML document starts here; one file holds one document, remove the '---'"
            )
        return root

    def _compose_node(self, get_event: Any, event: Any, path: tuple[str | int, ...], depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._stop(*_place(event), f"nested more than {MAX_DEPTH} levels deep; flatten it", path)
        if isinstance(event, AliasEvent):
            return self._resolve_alias(event, path)
        self._count(event, 1)
        if event.tag is not None:
            self._refuse_tag(event, path)
        values_before = self._values
        if isinstance(event, ScalarEvent):
            value = event.value if event.style else core_scalar(event.value)
            node: Node = ScalarNode(self.file, *_place(event), path, value)
        elif isinstance(event, MappingStartEvent):
            node = self._compose_mapping(get_event, event, path, depth)
        else:
            node = self._compose_sequence(get_event, event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._values - values_before + 1)
        return node

    def _compose_mapping(self, get_event: Any, start: Any, path: tuple[str | int, ...], depth: int) -> MappingNode:
        fields: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        while not isinstance(event := get_event(), MappingEndEvent):
            key, here = self._key(event, path), _place(event)
            node = self._compose_node(get_event, get_event(), (*path, key), depth + 1)
            if key in keys:
                first = keys[key][0]
                self._add(*here, (*path, key), f"this key was already given in line {first}; keep one of them")
            elif key == "<<":
                self._add(*here, path, "merge keys ('<<') are not supported; write the fields out")
            else:
                fields[key], keys[key] = node, here
        return MappingNode(self.file, *_place(start), path, fields, keys)

    def _compose_sequence(self, get_event: Any, start: Any, path: tuple[str | int, ...], depth: int) -> SequenceNode:
        items: list[Node] = []
        while not isinstance(event := get_event(), SequenceEndEvent):
            items.append(self._compose_node(get_event, event, (*path, len(items)), depth + 1))
        return SequenceNode(self.file, *_place(start), path, tuple(items))

    def _key(self, event: Any, path: tuple[str | int, ...]) -> str:
        if not isinstance(event, ScalarEvent):
            self._stop(*_place(event), 'a key must be text; a template such as "{{ ds }}" must stand in quotes', path)
        self._count(event, 1)
        if event.tag is not None:
            self._refuse_tag(event, path)
        if not event.value:
            self._stop(*_place(event), "a key is empty; give it a name", path)
        return str(event.value)

    def _refuse_tag(self, event: Any, path: tuple[str | int, ...]) -> None:
        shown = quoted(_short_tag(event.tag))
        self._add(*_place(event), path, f"tag {shown} is not allowed; YAML is data here, write the plain value")

    def _resolve_alias(self, event: Any, path: tuple[str | int, ...]) -> Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(*_place(event), f"more than {MAX_ALIASES} aliases; write the values out", path)
        if event.anchor not in self._anchors:
            self._stop(
                *_place(event), f"alias {quoted(event.anchor)} refers to nothing above it; write the value itself", path
            )
        node, values = self._anchors[event.anchor]
        self._count(event, values)
        if len(path) + node.height() > MAX_DEPTH:
            self._stop(*_place(event), f"nested more than {MAX_DEPTH} levels deep; flatten it", path)
        return node.moved_to(*_place(event), path)

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._stop(*_place(event), f"more than {MAX_VALUES} values in one file; split it or move data out of it")

    def _add(self, line: int, column: int, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(self.file, line, column, dotted(path), message))

    def _stop(self, line: int, column: int, message: str, path: tuple[str | int, ...] = ()) -> NoReturn:
        self._add(line, column, path, message)
        raise DeclarationError(self.problems)


def _place(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def _mark(error: yaml.MarkedYAMLError) -> yaml.Mark | None:
    """Return where to look: what never ends is best shown where it begins."""
    unfinished = "end of stream" in str(error.problem)
    marks = (error.context_mark, error.problem_mark) if unfinished else (error.problem_mark, error.context_mark)
    return next(filter(None, marks), None)


def _describe_syntax_error(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "syntax error")
    hint = next(
        (hint for part, hint in _SYNTAX_HINTS.items() if part in problem), "check indentation, quotes and brackets here"
    )
    return f"not YAML: {problem}; {hint}"
