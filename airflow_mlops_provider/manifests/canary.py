"""Whether a candidate is good enough: what was measured of it, held against the bars that people set.

Decides what error rate, latency and agreement are, and when a bar is broken: at once where the rest of the step cannot
mend it, else at its end. Who sends the requests, and what follows, is decided elsewhere. Pure, no I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from airflow_mlops_provider.manifests.canary_answers import count_equal

_QUANTILE: Final = 0.95
_DIGITS: Final = 6


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The bars between two steps; None: measured and reported, not judged.

    :param max_error_rate: share of the candidate's requests that may fail, 0 to 1.
    :param max_latency_seconds: of the candidate's 95th percentile.
    :param max_latency_ratio: the same, as a multiple of the stable version's.
    :param min_agreement: share of predictions that equal the stable version's, 0 to 1.
    :param tolerance: by which numbers may differ and still be equal: relative, and absolute below 1.
    """

    max_error_rate: float = 0.0
    max_latency_seconds: float | None = None
    max_latency_ratio: float | None = None
    min_agreement: float | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in (("max_error_rate", self.max_error_rate), ("min_agreement", self.min_agreement)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {value}; write 0.01 for one per cent")
        for name in ("max_latency_seconds", "max_latency_ratio"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} has to be above 0, not {value}")
        if self.tolerance < 0:
            raise ValueError(f"tolerance cannot be negative: {self.tolerance}")


@dataclass(frozen=True)
class Reading:
    """One answer of one version.

    :param problem: why it is none; None where it is one.
    :param rows: its predictions.
    """

    latency_seconds: float
    problem: str | None = None
    rows: Sequence[Any] = ()


class Measurement(TypedDict):
    """What one step showed. ``agreement`` and latencies are None where nothing could be compared or timed."""

    step: int
    requests: int
    errors: int
    error_rate: float
    stable_errors: int
    p95_seconds: float | None
    stable_p95_seconds: float | None
    predictions: int
    agreement: float | None


class Breach(TypedDict):
    """A bar that was broken. ``message`` is one line with gate, measured value and bar."""

    gate: str
    measured: float | None
    bar: float
    message: str


@dataclass
class Tally:
    """Readings of one step, added up.

    :param step: per cent.
    :param planned: requests that the step is to have.
    :param distinct: how many different requests take turns.
    """

    step: int
    planned: int
    distinct: int
    gates: Gates
    _latencies: list[float] = field(default_factory=list)
    _stable_latencies: list[float] = field(default_factory=list)
    _sent: int = 0
    _errors: int = 0
    _stable_errors: int = 0
    _rows: int = 0
    _equal: int = 0
    _first_error: str = ""
    _first_difference: str = ""

    def add(self, stable: Reading, candidate: Reading) -> None:
        """Add the answers to one request that both versions were sent."""
        self._sent += 1
        if stable.problem is not None:
            self._stable_errors += 1
        else:
            self._stable_latencies.append(stable.latency_seconds)
        if candidate.problem is not None:
            self._errors += 1
            self._first_error = self._first_error or candidate.problem
        else:
            self._latencies.append(candidate.latency_seconds)
        if stable.problem is None and candidate.problem is None:
            self._compare(stable.rows, candidate.rows)

    def _compare(self, stable: Sequence[Any], candidate: Sequence[Any]) -> None:
        equal, difference = count_equal(stable, candidate, self.gates.tolerance)
        self._equal += equal
        self._rows += max(len(stable), len(candidate))
        self._first_difference = self._first_difference or difference

    @property
    def complete(self) -> bool:
        return self._sent >= self.planned

    def measurement(self) -> Measurement:
        """Return what is known so far."""
        return {
            "step": self.step,
            "requests": self._sent,
            "errors": self._errors,
            "error_rate": _share(self._errors, self._sent) or 0.0,
            "stable_errors": self._stable_errors,
            "p95_seconds": percentile(self._latencies),
            "stable_p95_seconds": percentile(self._stable_latencies),
            "predictions": self._rows,
            "agreement": _share(self._equal, self._rows),
        }

    def breach(self) -> Breach | None:
        """Return the bar that is broken, whatever the rest of the step brings; None while there is none."""
        return self._error_breach() or self._latency_breach() or self._ratio_breach() or self._agreement_breach()

    def _error_breach(self) -> Breach | None:
        bar = self.gates.max_error_rate
        if not self._errors > bar * max(self.planned, self._sent) + 1e-9:
            return None
        rate = _share(self._errors, self._sent)
        also = f" (the stable version failed {self._stable_errors} of them)" if self._stable_errors else ""
        return _breach(
            "error rate",
            rate,
            bar,
            f"{self._errors} of {self._sent} requests{also}, the first: {self._first_error}",
            word="over",
        )

    def _latency_breach(self) -> Breach | None:
        bar = self.gates.max_latency_seconds
        if bar is None:
            return None
        slow = sum(latency > bar for latency in self._latencies)
        # Nearest rank: so many answers may be over the bar with the percentile still below it.
        if slow <= self.planned - _rank(self.planned):
            return None
        shown = f"{slow} of {self._sent} answers took longer; stable: {_seconds(percentile(self._stable_latencies))}"
        return _breach("latency", percentile(self._latencies), bar, f"seconds at p95; {shown}", word="over")

    def _ratio_breach(self) -> Breach | None:
        bar, mine, theirs = (
            self.gates.max_latency_ratio,
            percentile(self._latencies),
            percentile(self._stable_latencies),
        )
        if bar is None or not self.complete or not mine or not theirs or mine <= bar * theirs:
            return None
        shown = f"times the stable version's p95: {_seconds(mine)} to {_seconds(theirs)}"
        return _breach("latency ratio", round(mine / theirs, 3), bar, shown, word="over")

    def _agreement_breach(self) -> Breach | None:
        bar = self.gates.min_agreement
        if bar is None:
            return None
        if self.complete and not self._rows:
            return _breach("agreement", None, bar, "no request was answered by both versions", word="under")
        # Only after each request had its turn it is known how many predictions the step will have.
        if self._sent < min(self.distinct, self.planned):
            return None
        expected = self._rows * max(self.planned / self._sent, 1.0)
        if self._rows - self._equal <= (1 - bar) * expected + 1e-9:
            return None
        shown = (
            f"{self._equal} of {self._rows} predictions are equal within {self.gates.tolerance:g}; the first that is "
            f"not: {self._first_difference}"
        )
        return _breach("agreement", _share(self._equal, self._rows), bar, shown, word="under")


def planned_requests(step: int, full: int, *, scaled: bool) -> int:
    """Return how many requests a step sends to each version.

    :param full: at 100 per cent.
    :param scaled: the step is a share of *full*; otherwise it is a share of the clients' traffic, and of no interest
        here.
    """
    return max(1, math.ceil(full * step / 100)) if scaled else full


def check_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the steps.

    :raises ValueError: one is no percentage from 1 to 99, or they do not rise.
    """
    for step in steps:
        if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= 99:
            raise ValueError(f"steps are percentages from 1 to 99, not {step!r}; the last one, 100, is the promotion")
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"steps have to rise, {list(steps)} do not")
    return tuple(steps)


def percentile(values: Sequence[float]) -> float | None:
    """Return the 95th percentile by nearest rank; None of nothing."""
    return round(sorted(values)[_rank(len(values)) - 1], _DIGITS) if values else None


def _rank(count: int) -> int:
    return math.ceil(_QUANTILE * count)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, _DIGITS) if whole else None


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f} s"


def _breach(gate: str, measured: float | None, bar: float, shown: str, *, word: str) -> Breach:
    found = "not measurable" if measured is None else f"{measured:g}, {word} the bar of {bar:g}"
    if measured is None:
        found += f", the bar is {bar:g}"
    return {"gate": gate, "measured": measured, "bar": bar, "message": f"{gate} is {found} ({shown})"}
