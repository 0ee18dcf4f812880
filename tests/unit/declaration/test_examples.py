"""Every file in ``tests/declarations`` and every YAML block of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from airflow_mlops_provider.declaration import EnvironmentModel, Environments, load_declaration, load_environments
from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.environment import Allow, Environment
from airflow_mlops_provider.declaration.model import ModelFile
from airflow_mlops_provider.exceptions import DeclarationError, PolicyError

ROOT = Path(__file__).parents[3]
DECLARATIONS = ROOT / "tests" / "declarations"
DOCUMENT = ROOT / "docs" / "declarations.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def environments() -> Environments:
    return load_environments(DECLARATIONS / "environments.yaml")


def _names(folder: str) -> list[str]:
    return sorted(path.name for path in (DECLARATIONS / folder).glob("*.yaml"))


@pytest.mark.parametrize("name", _names("valid"))
def test_valid_files_load(name: str, environments: Environments) -> None:
    loaded = load_declaration(DECLARATIONS / "valid" / name, environments)
    assert {model.model for model in loaded} == {Path(name).stem}
    assert all(model.selector() for model in loaded)


@pytest.mark.parametrize("name", _names("invalid"))
def test_invalid_files_say_exactly_what_is_wrong(
    name: str, environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DECLARATIONS / "invalid")
    with pytest.raises(DeclarationError) as refused:
        load_declaration(name, environments)
    assert str(refused.value) + "\n" == Path(name).with_suffix(".expected").read_text(encoding="utf-8")


def test_only_policy_problems_make_a_policy_error(environments: Environments) -> None:
    with pytest.raises(PolicyError):
        load_declaration(DECLARATIONS / "invalid" / "policy.yaml", environments)
    with pytest.raises(DeclarationError) as refused:
        load_declaration(DECLARATIONS / "invalid" / "types.yaml", environments)
    assert not isinstance(refused.value, PolicyError)


def test_what_looks_like_a_secret_is_never_repeated(environments: Environments) -> None:
    with pytest.raises(DeclarationError) as refused:
        load_declaration(DECLARATIONS / "invalid" / "policy.yaml", environments)
    assert "mlflow_prod" not in str(refused.value)


def _load_block(text: str, folder: Path, environments: Environments) -> Environments | tuple[EnvironmentModel, ...]:
    is_model = re.search(r"^model:", text, re.MULTILINE)
    file = folder / ("model.yaml" if is_model else "environments.yaml")
    file.write_text(text, encoding="utf-8")
    return load_declaration(file, environments) if is_model else load_environments(file)


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=f"block-{number}") for number, text in enumerate(BLOCKS, start=1)]
)
def test_documented_yaml_is_legal(text: str, tmp_path: Path) -> None:
    platform = next(block for block in BLOCKS if not re.search(r"^model:", block, re.MULTILINE))
    (tmp_path / "platform.yaml").write_text(platform, encoding="utf-8")
    assert _load_block(text, tmp_path, load_environments(tmp_path / "platform.yaml"))


@pytest.mark.parametrize("schema", [ModelFile, BatchSpec, Environment, Allow])
def test_every_field_is_documented(schema: type[BaseModel]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = {field.alias or name for name, field in schema.model_fields.items()}
    assert {name for name in names if f"`{name}`" not in text} == set()
