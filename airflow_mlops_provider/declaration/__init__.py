"""What people wrote: values without behaviour, read from YAML or built in Python."""

from __future__ import annotations

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel

__all__ = ["ModelSelector", "ResolvedModel"]
