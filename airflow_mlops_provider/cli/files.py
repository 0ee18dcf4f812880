"""Which files a command line means.

Decides what counts as a declaration (``models/*.yaml``) and which environments file belongs to it: ``--environments``,
Airflow's setting in the process environment, or the nearest file above. Looks at directories; reads no file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

ENVIRONMENTS_FILE_NAME = "environments.yaml"
#: How Airflow spells the setting ``[mlops] environments_file`` in the process environment.
ENVIRONMENTS_VARIABLE = "AIRFLOW__MLOPS__ENVIRONMENTS_FILE"
_DIRECTORY = "models"
_SUFFIXES = (".yaml", ".yml")


def add_environments_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environments",
        metavar="FILE",
        help=f"environments.yaml; default: ${ENVIRONMENTS_VARIABLE}, then the nearest one above each declaration",
    )


def explicit_environments(arguments: argparse.Namespace) -> str | None:
    """Return the environments file that was named, if one was."""
    return arguments.environments or os.environ.get(ENVIRONMENTS_VARIABLE) or None


def find_declarations(paths: Iterable[str]) -> list[Path]:
    """Return the declarations meant by files and directories, each once, in a stable order.

    :raises FileNotFoundError: a path does not exist, or a directory holds no declaration. The message says which.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            declarations = sorted(_declarations_below(path))
            if not declarations:
                raise FileNotFoundError(f"{path}: no {_DIRECTORY}/*.yaml below it; name a directory that holds some")
            found.update(dict.fromkeys(declarations))
        elif path.exists():
            found[path] = None
        else:
            raise FileNotFoundError(f"{path}: does not exist; name a file or directory that does")
    return list(found)


def shown(file: Path) -> str:
    """Return the path as short as it can be said from here."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _declarations_below(top: Path) -> Iterator[Path]:
    for directory, subdirectories, names in os.walk(top):
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        if Path(directory).resolve().name == _DIRECTORY:
            yield from (
                Path(directory, name) for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")
            )
