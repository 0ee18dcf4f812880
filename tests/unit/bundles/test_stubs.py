"""Names and text of stubs, in particular beside repositories that mean harm."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path, PurePosixPath

import pytest
from airflow.utils.file import list_py_file_paths
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.bundles.stubs import (
    MARKER,
    Checkout,
    StubChanges,
    file_problem,
    find_declarations,
    render_refusal,
    render_stub,
    sync_stubs,
)
from airflow_mlops_provider.dag_factory.offer import Offer
from airflow_mlops_provider.exceptions import DeclarationError

BATCH = b"model: churn\nbatch:\n  input: x\n"
POD_OPERATOR = "airflow.providers.cncf.kubernetes.operators.pod"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "checkout/models").mkdir(parents=True)
    (tmp_path / "checkout/models/churn.yaml").write_bytes(BATCH)
    return tmp_path / "checkout"


def change(root: Path, *, frozen: bool = False, **kwargs: object) -> StubChanges:
    checkout = Checkout(root=root, declarations=find_declarations(root, ("models/*.yaml",)), **kwargs)
    return sync_stubs(checkout, scratch=root.parent / "stub.tmp", frozen=frozen)


def sync(root: Path, **kwargs: object) -> dict[str, str]:
    change(root, **kwargs)
    assert not (root.parent / "stub.tmp").exists()
    return {
        os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace"): path.read_text()
        for path in root.rglob("*.mlops.py")
        if path.is_file() and not path.is_symlink()
    }


def calls(text: str) -> list[str]:
    return [ast.unparse(node) for node in ast.parse(text).body]


@given(st.text(), st.binary(max_size=300))
def test_nothing_of_a_repository_becomes_code(name: str, content: bytes) -> None:
    declaration = PurePosixPath("models") / f"{name.replace('/', '')}.yaml"
    text = render_stub(declaration, content, digest="0")
    assert calls(text) == [
        "from pathlib import Path",
        "from airflow_mlops_provider import load_model_dags",
        f"load_model_dags(Path(__file__).with_name({declaration.name!r}), "
        f"shown_as={str(declaration)!r}, globals=globals())",
    ]
    assert text.encode().startswith(MARKER.encode())


@given(st.text(), st.text())
def test_a_refusal_raises_and_does_nothing_else(name: str, reason: str) -> None:
    text = render_refusal(file_problem(PurePosixPath(f"models/{name.replace('/', '')}.yaml"), reason))
    assert len(calls(text)) == 2
    with pytest.raises(DeclarationError) as caught:
        exec(compile(text, "stub", "exec"), {})
    assert caught.value.problems[0].message == reason


def test_a_stub_hands_on_what_the_bundle_offers(root: Path) -> None:
    offer = Offer(preview=True, names=("pre", "it's"))
    text = sync(root, offer=offer, prefix="team")["models/churn.yaml.mlops.py"]
    assert calls(text)[-1] == (
        "load_model_dags(Path(__file__).with_name('churn.yaml'), preview=True, allowed=('pre', \"it's\"), "
        "shown_as='team/models/churn.yaml', globals=globals())"
    )


def test_airflow_takes_a_stub_for_a_dag_file(root: Path) -> None:
    (root / "models/link.yaml").symlink_to("/etc/passwd")
    assert len(sync(root)) == 2
    assert len(list_py_file_paths(root, safe_mode=True)) == 2


@pytest.mark.parametrize(
    ("environments", "declaration", "named"),
    [
        (b"environments: {prod: {runner: kubernetes}}", BATCH, True),
        (b"environments:\n  prod:\n    runner: 'kubernetes'\n  dev:\n    runner: local\n", BATCH, True),
        (b"environments:\n  prod:\n    namespace: ml\n", BATCH, True),
        (b"environments: {prod: {runner: local}}", BATCH, False),
        (b"environments: {prod: {runner: kubernetes}}", b"model: churn\nonline: {}\n", False),
        (None, BATCH, False),
    ],
)
def test_the_pod_operator_is_named_only_where_pods_run(
    root: Path, environments: bytes | None, declaration: bytes, named: bool
) -> None:
    (root / "models/churn.yaml").write_bytes(declaration)
    if environments is not None:
        (root / "environments.yaml").write_bytes(environments)
    assert (f"\nimport {POD_OPERATOR}" in sync(root)["models/churn.yaml.mlops.py"]) is named


def test_a_symbolic_link_is_reported_and_not_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("password: hunter2\n")
    (root / "models/file.yaml").symlink_to(tmp_path / "secret.yaml")
    (root / "models/directory.yaml").symlink_to(tmp_path)
    found = sync(root)
    for name in ("file", "directory"):
        text = found[f"models/{name}.yaml.mlops.py"]
        assert "raise DeclarationError" in text
        assert "symbolic links" in text
        assert "hunter2" not in text


def test_nothing_is_written_outside_the_checkout(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "models").mkdir(parents=True)
    (outside / "models/victim.yaml").write_bytes(BATCH)
    (root / "team").symlink_to(outside)
    (root / "models/churn.yaml.mlops.py").symlink_to(outside / "planted.py")
    sync(root)
    assert sorted(path.name for path in outside.rglob("*")) == ["models", "victim.yaml"]
    assert len(list((root / "models").glob("churn.yaml.*.mlops.py"))) == 1


@pytest.mark.parametrize(
    "name", ["quo\"te's.yaml", "back\\slash.yaml", "отток.yaml", "with space.yaml", "'''.yaml", "{x}.yaml", "a#b.yaml"]
)
def test_unusual_names_get_a_stub_that_names_them(root: Path, name: str) -> None:
    (root / "models" / name).write_bytes(BATCH)
    text = sync(root)[f"models/{name}.mlops.py"]
    compile(text, "stub", "exec")
    assert ast.literal_eval(calls(text)[-1].split("with_name(")[1].split("), shown_as")[0]) == name


@pytest.mark.parametrize("name", [b"new\nline.yaml", b"\xff.yaml", b"\xe2\x80\xae.yaml", b"l" * 245 + b".yaml"])
def test_unusable_names_are_reported_under_a_name_airflow_can_carry(root: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(root / "models") + b"/" + name)).write_bytes(BATCH)
    found = sync(root)
    assert len(found) == 2
    refusal = next(text for path, text in found.items() if path.startswith("unusable-name-"))
    assert "rename the file" in refusal
    compile(refusal, "stub", "exec")


def test_a_file_of_the_users_own_is_never_touched(root: Path) -> None:
    own = {"churn.py": "x = 1\n", "churn.yaml.mlops.py": "y = 2\n", "gone.yaml.mlops.py": "z = 3\n"}
    for name, text in own.items():
        (root / "models" / name).write_text(text)
    sync(root)
    assert {name: (root / "models" / name).read_text() for name in own} == own
    assert len(list((root / "models").glob("churn.yaml.*.mlops.py"))) == 1


def test_both_names_taken_is_reported(root: Path) -> None:
    (root / "models/churn.yaml.mlops.py").mkdir()
    sync(root)
    second = next((root / "models").glob("churn.yaml.*.mlops.py"))
    second.unlink()
    second.mkdir()
    assert change(root).skipped == ("models/churn.yaml",)


def test_orphans_go_and_take_their_empty_directory_along(root: Path) -> None:
    (root / "team/models").mkdir(parents=True)
    (root / "team/models/fraud.yaml").write_bytes(BATCH)
    sync(root)
    (root / "team/models/fraud.yaml").unlink()
    assert set(sync(root)) == {"models/churn.yaml.mlops.py"}
    assert not (root / "team").exists()


def test_a_newer_environments_file_outside_the_checkout_makes_stubs_newer(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "environments.yaml"
    outside.write_text("environments: {prod: {runner: kubernetes}}\n")
    assert POD_OPERATOR in sync(root, environments=outside)["models/churn.yaml.mlops.py"]
    later = time.time() + 5
    os.utime(outside, (later, later))
    sync(root, environments=outside)
    assert (root / "models/churn.yaml.mlops.py").stat().st_mtime == pytest.approx(later, abs=0.01)


def test_a_frozen_checkout_keeps_the_stubs_it_has(root: Path) -> None:
    before = sync(root)
    (root / "models/churn.yaml").write_bytes(BATCH + b"owner: x\n")
    assert sync(root, frozen=True) == before


def test_environments_and_other_files_are_no_declarations(root: Path) -> None:
    for name in (
        "environments.yaml",
        "models/environments.yaml",
        "models/notes.txt",
        "other.yaml",
        ".git/models/x.yaml",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x: 1\n")
    assert find_declarations(root, ("models/*.yaml",)) == [PurePosixPath("models/churn.yaml")]
    assert len(find_declarations(root, ("*.yaml",))) == 2


def test_the_nearest_environments_file_counts(root: Path) -> None:
    (root / "environments.yaml").write_text("environments: {prod: {runner: local}}\n")
    assert POD_OPERATOR not in sync(root)["models/churn.yaml.mlops.py"]
    (root / "models/environments.yaml").write_text("environments: {prod: {runner: kubernetes}}\n")
    assert POD_OPERATOR in sync(root)["models/churn.yaml.mlops.py"]
