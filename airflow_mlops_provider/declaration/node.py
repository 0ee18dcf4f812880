"""Values of a YAML document with the place where each was written, and the merge of one document's parts.

Decides how an overlay is laid over a base: mappings field by field, everything else as a whole, ``null`` takes a field
away. Knows nothing of what the fields mean. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | tuple[Plain, ...] | dict[str, Plain]"


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A text, number, boolean or null.

    :param path: where it was written in its own file, ``("environments", "prod", "batch", "retries")``.
    """

    file: str
    line: int
    column: int
    path: Path
    value: Scalar

    def plain(self) -> Plain:
        return self.value

    def height(self) -> int:
        return 1

    def moved_to(self, line: int, column: int, path: Path) -> ScalarNode:
        return replace(self, line=line, column=column, path=path)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    file: str
    line: int
    column: int
    path: Path
    items: tuple[Node, ...]

    def plain(self) -> Plain:
        return tuple(item.plain() for item in self.items)

    def height(self) -> int:
        return 1 + max((item.height() for item in self.items), default=0)

    def moved_to(self, line: int, column: int, path: Path) -> SequenceNode:
        moved = tuple(item.moved_to(line, column, (*path, index)) for index, item in enumerate(self.items))
        return replace(self, line=line, column=column, path=path, items=moved)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping.

    :param fields: values by key, in the order written.
    :param keys: line and column of each key.
    """

    file: str
    line: int
    column: int
    path: Path
    fields: dict[str, Node]
    keys: dict[str, tuple[int, int]]

    def plain(self) -> dict[str, Plain]:
        """Return the values without their places."""
        return {key: node.plain() for key, node in self.fields.items()}

    def height(self) -> int:
        return 1 + max((node.height() for node in self.fields.values()), default=0)

    def moved_to(self, line: int, column: int, path: Path) -> MappingNode:
        fields = {key: node.moved_to(line, column, (*path, key)) for key, node in self.fields.items()}
        return replace(
            self, line=line, column=column, path=path, fields=fields, keys=dict.fromkeys(fields, (line, column))
        )


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def is_null(node: Node | None) -> bool:
    """Whether the field is absent or written as null."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


def merge(base: MappingNode, overlay: MappingNode) -> MappingNode:
    """Lay ``overlay`` over ``base``; every value keeps the place where it was written.

    A null that has nothing to take away stays, so that a misspelt field is still found.
    """
    fields, keys = dict(base.fields), dict(base.keys)
    for key, node in overlay.fields.items():
        below = fields.get(key)
        if isinstance(node, MappingNode) and isinstance(below, MappingNode):
            fields[key] = merge(below, node)
        elif is_null(node) and not is_null(below):
            del fields[key], keys[key]
        else:
            fields[key], keys[key] = node, overlay.keys[key]
    return replace(base, fields=fields, keys=keys)


def without(node: MappingNode, *names: str) -> MappingNode:
    """Return the mapping without these fields."""
    fields = {key: value for key, value in node.fields.items() if key not in names}
    if len(fields) == len(node.fields):
        return node
    keys = {key: node.keys[key] for key in fields}
    return MappingNode(node.file, node.line, node.column, node.path, fields, keys)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to point a reader. ``field`` is the path as written, an overlay's own path included."""

    file: str
    line: int
    column: int
    field: str


def find_key(root: MappingNode, path: Path) -> Place:
    """Return the place of the key at ``path``; of the deepest key above it where it was not written."""
    return _find(root, path, key=True)


def find_value(root: MappingNode, path: Path) -> Place:
    """Return the place of the value at ``path``; of the deepest key above it where it was not written."""
    return _find(root, path, key=False)


def _find(root: MappingNode, path: Path, *, key: bool) -> Place:
    node: Node = root
    here = (root.line, root.column)
    for index, step in enumerate(path):
        child: Node | None = None
        if isinstance(node, MappingNode) and isinstance(step, str):
            child, here = node.fields.get(step), node.keys.get(step, here)
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            child = node.items[step]
            here = (child.line, child.column)
        if child is None:
            return Place(node.file, *here, dotted((*node.path, *path[index:])))
        node = child
    line, column = here if key else (node.line, node.column)
    return Place(node.file, line, column, dotted(node.path))


def dotted(path: Path) -> str:
    """Return ``batch.resources.cpu``; a key that would break the line is shown escaped and shortened."""
    return ".".join(str(step) if isinstance(step, int) else _shown(step) for step in path)


def _shown(step: str) -> str:
    return step if len(step) <= 60 and step.isprintable() else ascii(step[:60])[1:-1] + ("…" if len(step) > 60 else "")


def walk_leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Yield every value that is not a non-empty mapping, with its path in the merged document."""
    if isinstance(node, MappingNode) and node.fields:
        for key, child in node.fields.items():
            yield from walk_leaves(child, (*path, key))
    elif not is_null(node):
        yield path, node
