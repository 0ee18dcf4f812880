"""``airflow-mlops schema``: the JSON Schemas for editors.

Decides nothing about their content. Writes the two files where it is told to.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("schema", help="print the JSON Schemas, or write them for an editor")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--output-dir", metavar="DIR", help="write model.v1.json and environments.v1.json there")
    form.add_argument("--path", action="store_true", help="print the directory that holds the schemas of this version")
    form.add_argument("--markdown", action="store_true", help="print the reference of all fields as Markdown")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to name the files written")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print or write, and return the exit code."""
    from airflow_mlops_provider.declaration.json_schema import SCHEMA_DIRECTORY, render_schemas

    if arguments.markdown:
        from airflow_mlops_provider.declaration.reference import render_reference

        print(render_reference(), end="")
        return 0
    if arguments.path:
        print(json.dumps({"path": str(SCHEMA_DIRECTORY)}) if arguments.output == "json" else SCHEMA_DIRECTORY)
        return 0
    schemas = render_schemas()
    if arguments.output_dir is None:
        print(json.dumps({name: json.loads(text) for name, text in schemas.items()}, indent=2, ensure_ascii=False))
        return 0
    directory = Path(arguments.output_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in schemas.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"{directory}: cannot be written: {error.strerror}; name another directory", file=sys.stderr)
        return 2
    written = [str(directory / name) for name in schemas]
    print(json.dumps({"written": written}) if arguments.output == "json" else "\n".join(written))
    return 0
