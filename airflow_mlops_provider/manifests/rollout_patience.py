"""How long doubtful evidence is looked at before it counts.

Decides by the time that the same evidence has lasted, measured by the watcher's own clock: the cluster's may differ.
Pure apart from the state it keeps; the clock's value comes in as an argument.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_mlops_provider.manifests.rollout_evidence import Verdict


class Patience:
    """Turn a suspicion that lasts into a failure, and one that passes into nothing."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def weigh(self, verdict: Verdict, now_seconds: float) -> Verdict:
        """Return *verdict* as a failure if it has lasted for its grace, as waiting otherwise.

        :param now_seconds: monotonic.
        """
        if verdict.state != "suspected":
            self._since.clear()
            return verdict
        self._since = {verdict.key: self._since.get(verdict.key, now_seconds)}
        lasted = now_seconds - self._since[verdict.key]
        return replace(verdict, state="failed" if lasted >= verdict.grace_seconds else "waiting")
