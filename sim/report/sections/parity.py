"""The verdict of level 0, per layer and engine."""

from __future__ import annotations

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Missing, Part, Section, Table, Words


def parity(found: Artifacts) -> Section:
    report = found.parity
    if report is None:
        return Section("parity", "Parity", [Missing("parity.json", f"lavatube parity {found.folder} --explain")])
    size = f"{report['samples']:,} samples x {report['num_steps']:,} timesteps, {report['neuron_steps']:,} neuron-steps"
    if report["equal"]:
        verdict = Words(
            f"Equal: every spike of every neuron at every timestep ({size} an engine), tolerance zero.", "good"
        )
    else:
        verdict = Words(f"Different ({size} an engine), tolerance zero.", "bad")
    rows: list[tuple[object, ...]] = []
    bad: set[int] = set()
    for engine in report["engines"]:
        for row in engine["rows"]:
            if row["mismatches"]:
                bad.add(len(rows))
            what = row["layer"] if row["quantity"] in ("spikes", "readout") else f"{row['layer']} {row['quantity']}"
            word = "equal" if not row["mismatches"] else "DIFFERENT"
            numbers = (row["compared"], row["total_a"], row["total_b"], row["mismatches"])
            rows.append((engine["engine"], what, word, *(f"{number:,}" for number in numbers)))
    head = ("engine", "layer", "verdict", "compared", f"sum in {report['reference']}", "sum in engine", "different")
    engines = [
        (
            engine["engine"],
            "; ".join(words for words in (engine["independence"], engine.get("sampled")) if words),
            {True: "equal", False: "DIFFERENT", None: "not counted"}[engine.get("counts_equal")],
            "not priced" if not engine.get("energy") else "equal" if engine["energy"]["equal"] else "DIFFERENT",
            f"{engine['seconds']:.1f} s",
        )
        for engine in report["engines"]
    ]
    parts: list[Part] = [verdict]
    parts.append(
        Table("Engines", ("engine", "how independent of the reference", "counts", "joules", "time"), engines, left=4)
    )
    parts.append(Table("Layers", head, rows, left=3, bad=frozenset(bad)))
    return Section("parity", "Parity", parts)
