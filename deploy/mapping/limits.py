"""What a core, a chip and a system hold: numbered limits and synapse formats, data files with their sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json
from lavatube.shipped import find_shipped, list_shipped

SHIPPED = Path(__file__).parent / "limits"
GRADES = ("documented", "observed", "inferred")  # best first
PER_CORE = {  # key: what it is, in words
    "neurons": "neurons",
    "synapse_words": "synapse memory",
    "input_axons": "input axons",
    "output_axons": "output axons",
    "formats": "synapse formats",
    "delay_slots": "delay slots",
}
OPTIONAL = {"formats", "delay_slots"}
PER_CHIP = ("cores", "chips", "tile_columns", "tile_rows", "cores_per_tile")
NODE_KINDS = ("dense", "sparse", "conv2d")
CHIPS = {"Loihi 1": "loihi1", "Loihi 2": "loihi2"}  # the target that lowering calls it
KEYS = {"schema", "name", "chip", "limits", "formats", "output_axon_per"}


@dataclass(frozen=True)
class Limit:
    """One number of a chip. grade: documented by its maker, observed in a tool of its users, or inferred from one."""

    number: int
    key: str
    value: int
    unit: str
    grade: str
    source: str


@dataclass(frozen=True)
class SynapseFormat:
    """How synapses lie in memory: lists of entries, each list packed into words of 64 bits.

    A list is one input axon's connections into the core, or, where it is `shared`, those of one input channel and
    kernel element, once for all positions. Entries hold a weight, an index and a delay, each of the fewest bits that
    the format offers and that hold it (index_bits (): none). Lists are cut into blocks of `block` entries (0: one
    block), each with a header, each rounded up to whole words.
    """

    name: str
    nodes: tuple[str, ...]
    stores_zeros: bool
    shared: bool
    header_bits: int
    block: int
    index_bits: tuple[int, ...]
    delay_bits: tuple[int, ...]
    weight_bits: tuple[int, ...]
    grade: str
    source: str


@dataclass(frozen=True)
class ChipLimits:
    """All limits of a target. output_axon_per: "core" for each neuron and core that it reaches, "target" for each
    neuron (or position of an image, into a shared convolution) and population."""

    name: str
    chip: str
    limits: Mapping[str, Limit]
    formats: tuple[SynapseFormat, ...]
    output_axon_per: str

    def __getitem__(self, key: str) -> int:
        return self.limits[key].value

    @property
    def target(self) -> str:
        """What `lavatube.targets` calls the chip."""
        return CHIPS[self.chip]

    @property
    def per_core(self) -> tuple[Limit, ...]:
        """The limits of one core, by number."""
        found = (limit for limit in self.limits.values() if limit.key in PER_CORE)
        return tuple(sorted(found, key=lambda limit: limit.number))


def list_limits() -> list[str]:
    """Names of the shipped limits."""
    return list_shipped(SHIPPED)


def load_limits(name: str | Path) -> ChipLimits:
    """Shipped limits by name, or a file. raises: LavatubeError naming the entry and the rule."""
    path = find_shipped(SHIPPED, name, what="limits")
    return parse_limits(read_json(path, kind="limits of a chip"), where=str(path))


def parse_limits(value: Mapping[str, Any], *, where: str) -> ChipLimits:
    """Check limits given as plain values. One that `extends` shipped limits lists only the limits that it replaces."""
    if "extends" in value:
        _require(set(value) == {"schema", "name", "extends", "limits"}, where, "keys", sorted(value))
        _require(_text(value["extends"], list_limits()), where, "extends", value["extends"])
        base = read_json(SHIPPED / f"{value['extends']}.json", kind="limits of a chip")
        _require(isinstance(value["limits"], list), where, "limits", value["limits"])
        replaced = [row.get("key") for row in value["limits"] if isinstance(row, dict)]
        rows = [row for row in base["limits"] if row["key"] not in replaced] + list(value["limits"])
        value = base | {"schema": value["schema"], "name": value["name"], "limits": rows}
    _require(set(value) == KEYS and value["schema"] == 1, where, "keys", sorted(value))
    _require(_text(value["name"]), where, "name: a text", value["name"])
    _require(_text(value["chip"], CHIPS), where, "chip", value["chip"])
    _require(isinstance(value["limits"], list) and isinstance(value["formats"], list), where, "limits, formats", "")
    limits = [_limit(row, where) for row in value["limits"]]
    by_key = {limit.key: limit for limit in limits}
    missing = {*PER_CORE, *PER_CHIP} - OPTIONAL - set(by_key)
    _require(not missing, where, "a limit is missing", sorted(missing))
    unique = len(by_key) == len({limit.number for limit in limits}) == len(limits)
    _require(unique, where, "limits with the same number or key", sorted(limit.key for limit in limits))
    _require(_text(value["output_axon_per"], ("core", "target")), where, "output_axon_per", value["output_axon_per"])
    formats = tuple(_format(row, where) for row in value["formats"])
    for kind in NODE_KINDS:
        _require(any(kind in found.nodes for found in formats), where, f"no format for {kind}", "")
    return ChipLimits(value["name"], value["chip"], by_key, formats, value["output_axon_per"])


def _limit(row: Any, where: str) -> Limit:
    _require(isinstance(row, dict) and set(row) == {f.name for f in fields(Limit)}, where, "keys of a limit", row)
    _require(_text(row["key"], {*PER_CORE, *PER_CHIP}), where, "key of a limit", row["key"])
    whole = all(_natural(row[key]) and row[key] > 0 for key in ("number", "value"))
    _require(whole, where, f"{row['key']}: a positive integer", row["value"])
    _require(_text(row["grade"], GRADES), where, f"{row['key']}: grade", row["grade"])
    for key in ("unit", "source"):
        _require(_text(row[key]), where, f"{row['key']}: {key}: a text", row[key])
    return Limit(**row)


def _format(row: Any, where: str) -> SynapseFormat:
    known = {f.name for f in fields(SynapseFormat)}
    _require(isinstance(row, dict) and set(row) == known, where, "keys of a format", row)
    for key in ("name", "source"):
        _require(_text(row[key]), where, f"a format's {key}: a text", row[key])
    place = f"format {row['name']}"
    for key in ("nodes", "index_bits", "delay_bits", "weight_bits"):
        _require(isinstance(row[key], list), where, f"{place}: {key}", row[key])
    bits = [n for key in ("index_bits", "delay_bits", "weight_bits") for n in row[key]]
    _require(all(_natural(n) for n in (*bits, row["header_bits"], row["block"])), where, f"{place}: bits", bits)
    _require(max(row["weight_bits"], default=0) >= 8, where, f"{place}: weight_bits", row["weight_bits"])
    _require(max(row["delay_bits"], default=0) >= 6, where, f"{place}: delay_bits", row["delay_bits"])
    nodes = all(_text(kind, NODE_KINDS) for kind in row["nodes"])
    _require(_text(row["grade"], GRADES) and nodes, where, f"{place}: grade, nodes", row)
    flags = all(isinstance(row[key], bool) for key in ("stores_zeros", "shared"))
    _require(flags, where, f"{place}: stores_zeros, shared: true or false", row)
    _require(not row["shared"] or row["nodes"] == ["conv2d"], where, f"{place}: shared", row["nodes"])
    values: dict[str, Any] = {key: tuple(n) if isinstance(n, list) else n for key, n in row.items()}
    return SynapseFormat(**values)


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any, known: Collection[str] | None = None) -> bool:
    """Whether it is a text that says something, and one of these."""
    return isinstance(value, str) and bool(value.strip()) and (known is None or value in known)


def _require(ok: bool, where: str, what: str, got: object) -> None:
    if not ok:
        raise LavatubeError(f"limits of a chip: {what}", where=where, expected="as in docs/mapping.md", got=str(got))
