"""The ``airflow-mlops`` program, one module per command."""
