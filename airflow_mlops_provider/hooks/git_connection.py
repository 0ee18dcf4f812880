"""Airflow's door to a Git repository that is pushed to: a connection of type ``git`` becomes a branch.

Decides nothing about credentials: the Git provider's own hook reads the connection. Reads Airflow's connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.git import GitBranch


@contextmanager
def open_branch(git_conn_id: str, *, repository: str | None, branch: str) -> Iterator[GitBranch]:
    """Give ``git`` the connection's credentials for as long as the block runs.

    :param repository: address that replaces the connection's.
    :raises PermanentError: there is no such connection, or it names no repository.
    """
    from airflow.providers.git.hooks.git import GitHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        hook = GitHook(git_conn_id, repo_url=repository)
    except AirflowNotFoundException as error:
        raise PermanentError(f"there is no connection '{git_conn_id}'; create one of type git") from error
    if not isinstance(hook.repo_url, str):
        raise PermanentError(f"connection '{git_conn_id}' names no repository; write its address into the host")
    with hook.configure_hook_env():
        yield GitBranch(url=hook.repo_url, branch=branch, variables=hook.env)
