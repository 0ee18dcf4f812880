from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.declaration import yaml_document
from airflow_mlops_provider.declaration.node import find_key, find_value
from airflow_mlops_provider.declaration.yaml_document import parse_document, read_document
from airflow_mlops_provider.exceptions import DeclarationError

TEXT = b"""\
# a comment
model: churn
batch:
  args: [a, {b: c}]
  'on': 12:30
"""


def test_every_key_and_value_has_its_place() -> None:
    root = parse_document(TEXT, file="m.yaml").root
    assert root.plain() == {"model": "churn", "batch": {"args": ("a", {"b": "c"}), "on": "12:30"}}
    places = {
        path: [(place.line, place.column) for place in (find_key(root, path), find_value(root, path))]
        for path in [("model",), ("batch", "args"), ("batch", "args", 0), ("batch", "args", 1, "b"), ("batch", "on")]
    }
    assert places == {
        ("model",): [(2, 1), (2, 8)],
        ("batch", "args"): [(4, 3), (4, 9)],
        ("batch", "args", 0): [(4, 10), (4, 10)],
        ("batch", "args", 1, "b"): [(4, 14), (4, 17)],
        ("batch", "on"): [(5, 3), (5, 9)],
    }


def test_a_path_that_was_not_written_points_at_the_key_above_it() -> None:
    place = find_value(parse_document(TEXT, file="m.yaml").root, ("batch", "resources", "cpu"))
    assert (place.line, place.column, place.field) == (3, 1, "batch.resources.cpu")


def test_byte_order_mark_and_cyrillic_are_read() -> None:
    document = parse_document("\ufeffmodel: отток".encode(), file="m.yaml")
    assert document.root.plain() == {"model": "отток"}
    assert (document.root.fields["model"].line, document.root.fields["model"].column) == (1, 8)


def test_an_alias_carries_the_place_where_it_is_used() -> None:
    root = parse_document(b"a: &x {b: 1}\nc: *x\n", file="m.yaml").root
    assert root.plain() == {"a": {"b": 1}, "c": {"b": 1}}
    assert find_value(root, ("c", "b")).line == 2
    assert find_value(root, ("c", "b")).field == "c.b"


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"a: " + b"x" * yaml_document.MAX_BYTES, "m.yaml:1:1", "larger than 256 KiB"),
        (b"ok: 1\nb: \xff", "m.yaml:2:4", "not UTF-8"),
        (b"ok: 1\nb: \x01", "m.yaml:2:4", "U+0001"),
        (b"a: \xef\xbf\xbe", "m.yaml:1:4", "U+FFFE"),
        (b"%YAML 3.0\n---\na: 1", "m.yaml:1:1", "not YAML"),
        (b"text", "m.yaml:1:1", "mapping"),
        (b"null", "m.yaml:1:1", "mapping"),
        (b"# only a comment", "m.yaml:1:1", "empty"),
        (b"---\n---\n", "m.yaml:2:1", "mapping"),
        (b"a: &a [*a]", "m.yaml:1:8", "alias 'a' refers to nothing above it"),
        (b"a: *b", "m.yaml:1:4", "alias 'b' refers to nothing"),
        (b"? [a, b]\n: 1", "m.yaml:1:3", "a key must be text"),
        (b"a: {b: 1, '': 2}", "m.yaml:1:11", "a key is empty"),
        (b"{a: 1", "m.yaml:2:1", "not YAML"),
        (b"a: b: c", "m.yaml:1:5", "mapping values are not allowed"),
        (b"a: " + b"{a: " * 30, "m.yaml:1:80", "more than 20 levels"),
        (b"a: [" + b"x," * 11_000 + b"]", "m.yaml:1:20001", "more than 10000 values"),
    ],
)
def test_what_cannot_be_read_names_its_place(data: bytes, place: str, message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        parse_document(data, file="m.yaml")
    assert str(refused.value).startswith(f"{place}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: 2\na: 3", "m.yaml:3:1: a: this key was already given in line 1; keep one of them"),
        (b"a: !x 1", "m.yaml:1:4: a: tag '!x' is not allowed; YAML is data here, write the plain value"),
        (b"a: ! 1", "m.yaml:1:4: a: tag '!' is not allowed; YAML is data here, write the plain value"),
        (b"!!str a: 1", "m.yaml:1:1: tag '!!str' is not allowed; YAML is data here, write the plain value"),
        (
            b"a: 1\n---\nb: 1",
            "m.yaml:2:1: a second YAML document starts here; one file holds one document, remove the '---'",
        ),
    ],
)
def test_what_hides_nothing_is_gathered(data: bytes, expected: str) -> None:
    assert [str(problem) for problem in parse_document(data, file="m.yaml").problems] == [expected]


def test_depth_counts_through_aliases() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [[[*a{n - 1}]]]" for n in range(1, 9))]
    with pytest.raises(DeclarationError, match="more than 20 levels"):
        parse_document("\n".join(lines).encode(), file="m.yaml")


def test_values_count_through_aliases() -> None:
    data = b"a: &a [" + b"x," * 900 + b"]\nb: [" + b"*a," * 12 + b"]"
    with pytest.raises(DeclarationError, match="more than 10000 values"):
        parse_document(data, file="m.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", "a\0b.yaml", "."])
def test_an_unreadable_file_is_a_problem_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        read_document(tmp_path / name)
