"""What a model requires is compared with what an image holds: only what is known to break is named."""

from __future__ import annotations

import pytest

from airflow_mlops_provider.manifests.runtime_packages import compare_requirements

RUNTIME = {
    "python": "3.11.2",
    "packages": {
        "mlflow-skinny": "3.17.2", "pandas": "3.1.1", "scikit-learn": "1.9.1", "skops": "0.16.0", "fsspec": "2026.9.0",
        "typing-extensions": "4.16.0", "torch": "2.9.0+cpu",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# pandas==1.0",
        "pandas==3.0.0  # trained with",
        "pandas==3.1.1",
        "Scikit_Learn==1.5.2",
        "typing.extensions>=4.20",
        "skops==0.16.3",
        "mlflow==3.2.0",
        "mlflow-skinny==3.2.0",
        "pandas[performance]==3.1",
        "pandas==3.*",
        "pandas>=2.2,<4",
        "torch==2.1.0",
        "fsspec==2024.6.1",
        'tensorflow==2.0; sys_platform == "win32"',
        'tensorflow==2.0; python_version >= "3.12"',
        "--index-url https://pypi.example/simple",
        "-r other.txt",
        "pytest==9.2.0",  # as MLflow notes it for scikit-learn models
        "https://example.test/wheels/own-1.0-py3-none-any.whl",
        "git+https://example.test/own.git@1a2b3c",
        "./own-1.0-py3-none-any.whl",
        "git+https://example.test/pandas.git@main#egg=pandas",
        "pandas @ https://example.test/pandas-1.0.tar.gz",
        "pandas==3.1.1 \\\n    --hash=sha256:0123 \\\n    --hash=sha256:4567",
    ],
)
def test_no_problem(line: str) -> None:
    assert compare_requirements(line, "3.11.7", RUNTIME) == ()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("xgboost==3.2.0", "xgboost==3.2.0 is missing in the runtime"),
        ("Light_GBM", "Light_GBM is missing in the runtime"),
        ("pandas==2.2.3", "pandas: the model needs ==2.2.3, the runtime has 3.1.1"),
        ("pandas>=2,<3", "pandas: the model needs <3,>=2, the runtime has 3.1.1"),
        ("pandas~=2.2", "pandas: the model needs ~=2.2, the runtime has 3.1.1"),
        ("pandas==2.*", "pandas: the model needs ==2.*, the runtime has 3.1.1"),
        ("pandas!=3.1.1", "pandas: the model needs !=3.1.1, the runtime has 3.1.1"),
        ("skops==0.11.0", "skops: the model needs ==0.11.0, the runtime has 0.16.0"),
        ("mlflow==2.22.5", "mlflow: the model needs ==2.22.5, the runtime has 3.17.2"),
        ("torch==1.13.1", "torch: the model needs ==1.13.1, the runtime has 2.9.0+cpu"),
        ('tensorflow==2.0; python_version < "3.12"', "tensorflow==2.0 is missing in the runtime"),
        ("git+https://example.test/own.git@main#egg=own_code", "own_code is missing in the runtime"),
        ("own @ git+https://example.test/own.git", "own is missing in the runtime"),
    ],
)
def test_problem_is_named(line: str, problem: str) -> None:
    assert compare_requirements(line, None, RUNTIME) == (problem,)


def test_all_problems_are_named_in_order_and_once() -> None:
    text = "mlflow==3.17.2\nxgboost==3.2.0\npandas==2.2.3\nxgboost==3.2.0\n"
    assert compare_requirements(text, "3.12.1", RUNTIME) == (
        "Python: the model was logged with 3.12.1, the runtime has 3.11.2",
        "xgboost==3.2.0 is missing in the runtime",
        "pandas: the model needs ==2.2.3, the runtime has 3.1.1",
    )


@pytest.mark.parametrize(("full", "small"), [("mlflow", "mlflow-skinny"), ("xgboost", "xgboost-cpu")])
def test_two_distributions_of_one_package_are_the_same(full: str, small: str) -> None:
    for wanted, held in ((full, small), (small, full)):
        assert compare_requirements(f"{wanted}==3.1", None, {"python": "3.11", "packages": {held: "3.2"}}) == ()


@pytest.mark.parametrize("runtime", [{}, {"python": "3.11"}, {"packages": {}}, {"python": "3.11", "packages": []}])
def test_runtime_of_another_shape_says_how_to_write_it(runtime: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="mlops-runtime serving-runtime"):
        compare_requirements("pandas", None, runtime)
