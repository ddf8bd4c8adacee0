"""May this model be promoted? Every bound is checked on an interval, never on a point, and missing evidence fails."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import pandas as pd

from upheld.common.params.evaluation import Gate
from upheld.evaluation.metrics.paired import RANKING, Comparator
from upheld.feature_store.decisions.thresholds import PROVEN, Thresholds

Status = Literal["pass", "warn", "fail", "insufficient", "not_applicable"]
Check = dict[str, Any]
Cell = tuple[str, str]
MAX_MORE = 1000  # times the labels there are: a need beyond that is only noise
LOGO_FLOOR, LOGO_CERTIFICATE = "logo_map_50", "logo_certificate"
LOGO_CELL = ("logo", "all")
RECALL_LOST = "recall_lost"
NO_COMPARATOR = "nothing to compare with: no labelled post here has the score of a champion or of a model that served before it"
OWN_THRESHOLDS = "not compared: what served has thresholds and scores of its own, so only the rankings can be compared"
UNDECIDED = "nothing to compare with: what served decided on no labelled post of this category"


def decide(
    metrics: pd.DataFrame,
    params: Gate,
    *,
    compared: Comparator,
    thresholds: Thresholds | None,
    must_show: bool = True,
    further: Iterable[Check] = (),
) -> dict[str, Any]:
    """Check every bound of the params against the metrics.

    Args:
        metrics: long table as in metrics.parquet; differences from the model compared with are the metrics `*_change`.
        params: the bounds, and the cells (`category/language`) that must show evidence.
        compared: what the metrics compare this model with; comparisons with nothing do not apply.
        thresholds: content of thresholds.json, None where none was given.
        must_show: whether the cells of `required_cells` must show evidence, as a model that is to be promoted must; a week's report on a
            model that serves already asks only what its labels contradict.
        further: checks of what the metrics do not hold; a failed one holds like any other.

    Returns:
        {"decision": "promote" or "hold", "checks": [{name, scope, value, bound, status, reason}], "compared_with": {kind, names}}. One
        failed check holds. A cell that `required_cells` names fails where it is missing, undefined or not shown to meet the bound;
        any other cell fails only where the evidence contradicts the bound, and reads insufficient otherwise.
    """
    named = params.required_cells if must_show else ()
    required = [(category, language) for category, _, language in (cell.partition("/") for cell in named)]
    pooled = metrics[metrics.group_column == "all"]
    table = {(row.category, row.language, row.metric): row for row in pooled.itertuples()}
    cells = list(dict.fromkeys([*required, *zip(pooled.category, pooled.language, strict=True)]))
    # Languages that params expect (`fairness.expected_languages`) and the data does not have.
    absent = metrics[(metrics.metric == "rows") & (metrics.verdict == "INSUFFICIENT")]
    checks = [check("rows", f"{row.category}/{row.language}", 0.0, None, "fail", _reason(row)) for row in absent.itertuples()]
    for cell in cells:
        for metric, bound in params.minimums.items():
            checks.append(bounded(metric, cell, table.get((*cell, metric)), bound, at_least=True, must_show=cell in required))
        for metric, bound in params.maximums.items():
            checks.append(bounded(metric, cell, table.get((*cell, metric)), bound, at_least=False, must_show=cell in required))
    checks += _losses(table, cells, required, params, compared)
    checks += [*_fairness(metrics, params), *_certificates(thresholds), *further]
    if must_show and not required:
        checks.append(check("required_cells", "all", None, None, "fail", "gate.required_cells names no cell, so nothing is shown"))
    held = any(one["status"] == "fail" for one in checks)
    return {"decision": "hold" if held else "promote", "checks": checks, "compared_with": compared._asdict()}


def _losses(
    table: Mapping[Any, Any], cells: Sequence[Cell], required: Sequence[Cell], params: Gate, compared: Comparator
) -> Iterator[Check]:
    """Whether a model ranks worse than the one it is compared with, on the same posts.

    A category, its languages together, fails where the whole interval of the change of ROC-AUC lies below 0, whatever loss is tolerated,
    because the labels show then that production would get worse. Everywhere else the interval is held against the tolerated loss. Required
    cells must show it against a champion; against what served before there was one, doubt is listed: a first model may be promoted.
    """
    rows = {cell: table.get((*cell, RANKING)) for cell in cells}
    worse = {cell: row for cell, row in rows.items() if cell[1] == "all" and row is not None and _known(row.ci_high) and row.ci_high < 0}
    yield from (_against(bounded(RANKING, cell, row, 0.0, at_least=True, must_show=True), row) for cell, row in worse.items())
    for metric, loss in params.max_loss.items():
        name = f"{metric}_change"
        if compared.kind == "nothing" or (compared.kind == "served" and name != RANKING):
            reason = NO_COMPARATOR if compared.kind == "nothing" else OWN_THRESHOLDS
            yield check(name, "all", None, -loss, "not_applicable", reason)
            continue
        for cell in cells:
            row = table.get((*cell, name))
            if compared.kind == "served" and (cell[0], "all", name) not in table:
                if cell[1] == "all":
                    yield check(name, "/".join(cell), None, -loss, "not_applicable", UNDECIDED)
            elif name != RANKING or cell not in worse:
                must_show = cell in required and compared.kind == "champion"
                yield _against(bounded(name, cell, row, -loss, at_least=True, must_show=must_show), row)


def _against(one: Check, row: Any) -> Check:
    """The check of a difference; where that is defined, its reason says first which model was compared with."""
    return one | {"reason": f"{_reason(row)}: {one['reason']}"} if one["value"] is not None and _reason(row) else one


def bounded(name: str, cell: Cell, row: Any, bound: float, *, at_least: bool, must_show: bool) -> Check:
    """One bound on one cell: met where the whole interval meets it, broken where the whole interval misses it.

    Args:
        name: of the check.
        cell: category and language.
        row: with value, ci_low, ci_high, n and reason; None where the evaluation has no such cell.
        bound: that the value must reach.
        at_least: whether the value must lie above the bound, or below it.
        must_show: whether doubt fails, or is listed as insufficient.
    """
    scope = "/".join(cell)
    unshown: Status = "fail" if must_show else "insufficient"
    if row is None:
        return check(name, scope, None, bound, unshown, "the evaluation has no such cell")
    if not _known(row.value):
        return check(name, scope, None, bound, unshown, f"undefined: {_reason(row) or 'no reason was given'}")
    if not (_known(row.ci_low) and _known(row.ci_high)):
        return check(name, scope, row.value, bound, unshown, f"no interval: {_reason(row) or 'no reason was given'}")
    between = f"between {row.ci_low:.3g} and {row.ci_high:.3g}; the {'minimum' if at_least else 'maximum'} is {bound:g}"
    if row.ci_low >= bound if at_least else row.ci_high <= bound:
        return check(name, scope, row.value, bound, "pass", between)
    if row.ci_high < bound if at_least else row.ci_low > bound:
        return check(name, scope, row.value, bound, "fail", between)
    return check(name, scope, row.value, bound, unshown, f"not shown: {between}; {_too_few(row, bound, at_least)}")


def _too_few(row: Any, bound: float, at_least: bool) -> str:
    """That the labels are too few, and about how many more there must be if the value stays as it is: intervals shrink with the square
    root of the labels."""
    num, margin = int(row.n), row.value - bound if at_least else bound - row.value
    few = f"{num:,} {'label is' if num == 1 else 'labels are'} too few"
    if margin <= 0:
        return few
    reach = row.value - row.ci_low if at_least else row.ci_high - row.value
    more = math.ceil(round(num * (reach / margin) ** 2, 6)) - num
    return f"{few}; about {more:,} more {'is' if more == 1 else 'are'} needed" if 0 < more < MAX_MORE * max(num, 1) else few


def _fairness(metrics: pd.DataFrame, params: Gate) -> Iterator[Check]:
    statuses: dict[str, Status] = {"PASS": "pass", "WARN": "warn", "FAIL": "fail", "INSUFFICIENT": "insufficient"}
    for metric in params.fairness:
        rows = metrics[(metrics.metric == metric) & metrics.verdict.notna()]
        if rows.empty:
            yield check(metric, "all", None, None, "not_applicable", "one language and no group: there is nothing to compare")
        for row in rows.itertuples():
            value = float(row.value) if _known(row.value) else None  # type: ignore[arg-type]
            yield check(
                metric,
                where(row.category, row.language, row.group_column, row.group_value),
                value,
                None,
                statuses.get(str(row.verdict), "fail"),
                _reason(row) or (f"between {row.ci_low:.3g} and {row.ci_high:.3g}" if _known(row.ci_low) and _known(row.ci_high) else ""),
            )


def where(category: Any, language: Any, group_column: Any, group_value: Any) -> str:
    """Scope of a check on one cell: `category/language`, and `/column=value` for a group."""
    return "/".join([str(category), str(language), *([] if group_column == "all" else [f"{group_column}={group_value}"])])


def _certificates(thresholds: Thresholds | None) -> Iterator[Check]:
    """A threshold for automatic removal needs a certificate; no threshold removes nothing and needs none."""
    for name, category in sorted(thresholds.categories.items() if thresholds else ()):
        removal = category.auto_remove
        if removal.threshold is None:
            reason = f"{removal.outcome}: nothing is removed automatically"
            yield check("certificate", name, None, removal.target, "not_applicable", reason)
        elif removal.proven:
            yield check("certificate", name, removal.bound, removal.target, "pass", f"{removal.outcome} at {removal.threshold:.4f}")
        else:
            reason = f"a threshold whose outcome is {removal.outcome!r}"
            yield check("certificate", name, removal.threshold, removal.target, "fail", reason)


def _reason(row: Any) -> str:
    return "" if pd.isna(row.reason) else str(row.reason)


def _known(value: Any) -> bool:
    return value is not None and not pd.isna(value) and math.isfinite(value)


def check(name: str, scope: str, value: float | None, bound: float | None, status: Status, reason: str) -> Check:
    """One entry of gate.json."""
    value = float(value) if value is not None else None
    return {"name": name, "scope": scope, "value": value, "bound": bound, "status": status, "reason": reason}


def logo_checks(logos: Mapping[str, Any] | None, min_map_50: float) -> Iterator[Check]:
    """The two checks, or none where no detector was evaluated.

    Args:
        logos: of `report.logos.read`, or None.
        min_map_50: the floor; a detector fails it only where the whole interval lies below.

    Yields:
        checks as in gate.json. Without a detector they do not apply; a confidence without a certificate is listed and does not hold, since
        nothing is removed for a logo alone.
    """
    if logos is None:
        return
    certificate = logos["certificate"]
    if logos["untrained"]:
        yield check(LOGO_FLOOR, "/".join(LOGO_CELL), None, min_map_50, "not_applicable", f"no detector: {logos['untrained']}")
        yield check(LOGO_CERTIFICATE, LOGO_CELL[0], None, certificate["target"], "not_applicable", f"no detector: {logos['untrained']}")
        return
    row = logos["figures"]["map_50"]
    yield bounded(LOGO_FLOOR, LOGO_CELL, row and SimpleNamespace(**row), min_map_50, at_least=True, must_show=False)
    outcome, threshold, bound, target = (certificate[name] for name in ("outcome", "threshold", "bound", "target"))
    if threshold is None:
        need = certificate["need_n"]
        reason = " · ".join(filter(None, (outcome, certificate["reason"], f"about {need:,.0f} detections would settle it" if need else "")))
        yield check(LOGO_CERTIFICATE, LOGO_CELL[0], None, target, "insufficient", reason)
    elif outcome not in PROVEN:
        yield check(LOGO_CERTIFICATE, LOGO_CELL[0], threshold, target, "fail", f"a threshold whose outcome is {outcome!r}")
    else:
        shown: Status = "pass" if bound is not None and bound >= target else "fail"
        yield check(LOGO_CERTIFICATE, LOGO_CELL[0], bound, target, shown, f"{outcome} at {threshold:.4f}")


def attack_checks(attacks: pd.DataFrame | None, params: Gate) -> Iterator[Check]:
    """What the ensemble may lose to attacks, in each category of the required cells, its languages together.

    Args:
        attacks: of `robustness.figures.measure`, or None where no attack was tried.
        params: read are required_cells and max_recall_lost.

    Yields:
        checks as in gate.json. One fails only where the whole interval of the lost recall lies above its bound; doubt is listed.
    """
    if attacks is None:
        return
    pooled = attacks[(attacks.language == "all") & (attacks.member == "ensemble") & (attacks.metric == "recall")]
    table = {(row.policy, row.attack): row for row in pooled.itertuples()}
    for category in dict.fromkeys(cell.partition("/")[0] for cell in params.required_cells):
        for attack, bound in params.max_recall_lost.items():
            row, scope = table.get((category, attack)), where(category, "all", "attack", attack)
            if row is None:
                yield check(RECALL_LOST, scope, None, bound, "insufficient", "no post of this category was attacked so")
            else:
                known = SimpleNamespace(value=row.lost, ci_low=row.ci_low, ci_high=row.ci_high, n=row.n, reason=row.reason)
                shown = bounded(RECALL_LOST, (category, "all"), known, bound, at_least=False, must_show=False)
                yield shown | {"scope": scope}
