"""lavatube parity PROGRAM --against float"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compare_with_float(source: Path, json: bool, **settings: Any) -> int:
    """Level 1: the float network under its contract against its program. Exit 1 if a gate does not hold."""
    from rich.table import Table

    from lavatube.cli.output import console, print_json
    from lavatube.sim.float_parity import float_parity
    from lavatube.sim.shares import Share

    report = float_parity(source, **settings)
    if json:
        print_json(report.to_json())
        return 0 if report.holds else 1

    def percent(share: Share) -> str:
        interval = "" if share.low is None else f" ({100 * share.low:.2f}..{100 * (share.high or 0):.2f})"
        return f"{100 * share.value:.2f} %{interval}"

    table = Table("layer", "float spikes", "program spikes", "count error (95 %)", "coincidence", "gate")
    for row in report.layers:
        table.add_row(row.layer, f"{row.spikes_float:,}", f"{row.spikes_program:,}", percent(row.count_error),
                      f"{100 * row.coincidence:.2f} %", "holds" if row.holds else "FAILS")  # fmt: skip
    console().print(table)
    for read in report.readouts:
        accuracy = "" if read.accuracy_float is None else (
            f"; accuracy {read.accuracy_float:.2f} % float, {read.accuracy_program:.2f} % program"
        )  # fmt: skip
        gate = "holds" if read.holds else "FAILS"
        print(f"{read.readout}: the same prediction in {percent(read.agreement)}, gate {gate}{accuracy}")
    for cost in report.energy:
        here, there = (fj / report.samples * 1e-9 for fj in (cost.fj_program, cost.fj_float))
        gate = "holds" if cost.holds else "FAILS"
        print(
            f"energy a sample, {cost.prices}, {cost.bound}: {there:.4g} uJ float, {here:.4g} uJ program, "
            f"{percent(cost.error)} more, gate {gate}"
        )
    if report.no_energy:
        print(f"energy is not compared: {report.no_energy}")
    for name, error in report.input_errors.items():
        if error:
            print(f"input {name}: rounded by at most {error:g}")
    print(
        f"{'WITHIN' if report.holds else 'OUTSIDE'} the bounds (count error <= {100 * report.max_count_error:g} %, "
        f"predictions >= {100 * report.min_agreement:g} %, energy within {100 * report.max_energy_error:g} %) under "
        f"contract {report.contract}: {report.samples} samples x {report.num_steps} steps"
    )
    return 0 if report.holds else 1
