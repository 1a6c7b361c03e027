"""Files of limits: every entry has its source and grade, and what is wrong is refused by name."""

from __future__ import annotations

import json

import pytest

from lavatube.deploy.mapping.limits import GRADES, SHIPPED, list_limits, load_limits, parse_limits
from lavatube.errors import LavatubeError


def test_every_shipped_limit_is_numbered_graded_and_says_where_it_comes_from():
    assert list_limits() == ["loihi1", "loihi2", "loihi2-2022"]
    for name in list_limits():
        limits = load_limits(name)
        assert limits.name == name
        numbers = sorted(limit.number for limit in limits.limits.values())
        assert numbers == list(range(1, len(numbers) + 1))
        for entry in (*limits.limits.values(), *limits.formats):
            assert entry.grade in GRADES
            assert len(entry.source) > 10


def test_what_a_file_replaces_is_replaced_and_the_rest_is_kept():
    old, new = load_limits("loihi2-2022"), load_limits("loihi2")
    assert (old["synapse_words"], new["synapse_words"]) == (12000, 16000)
    assert {key: limit for key, limit in old.limits.items() if key != "synapse_words"} == {
        key: limit for key, limit in new.limits.items() if key != "synapse_words"
    }
    assert old.formats == new.formats


def change(value, path, new):
    value = json.loads(json.dumps(value))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        (("schema",), 2, "keys"),
        (("chip",), "Loihi 3", "chip"),
        (("more",), 1, "keys"),
        (("limits", 0, "value"), -5, "neurons: a positive integer"),
        (("limits", 0, "value"), 4095.5, "neurons: a positive integer"),
        (("limits", 0, "value"), True, "neurons: a positive integer"),
        (("limits", 0, "grade"), "guessed", "neurons: grade"),
        (("limits", 0, "key"), "neuron", "key of a limit"),
        (("limits", 0, "key"), "cores", "a limit is missing"),
        (("limits", 0, "number"), 2, "same number or key"),
        (("limits", 0), "x", "keys of a limit"),
        (("limits",), {}, "limits, formats"),
        (("formats", 0, "nodes"), ["sparse"], "no format for dense"),
        (("formats", 0, "nodes"), ["dens"], "nodes"),
        (("formats", 0, "weight_bits"), [1, 2], "weight_bits"),
        (("formats", 0, "delay_bits"), [0], "delay_bits"),
        (("formats", 0, "block"), -1, "bits"),
        (("formats", 0, "shared"), True, "shared"),
        (("formats", 0), [], "keys of a format"),
        (("output_axon_per",), "spike", "output_axon_per"),
        (("output_axon_per",), ["core"], "output_axon_per"),
        (("chip",), ["Loihi 2"], "chip"),
        (("name",), 7, "name"),
        (("limits", 0, "key"), ["neurons"], "key of a limit"),
        (("limits", 0, "grade"), ["inferred"], "neurons: grade"),
        (("limits", 0, "unit"), 5, "neurons: unit"),
        (("limits", 0, "source"), None, "neurons: source"),
        (("formats", 0, "name"), ["dense"], "a format's name"),
        (("formats", 0, "nodes"), [["dense"]], "grade, nodes"),
        (("formats", 0, "grade"), ["inferred"], "grade, nodes"),
        (("formats", 0, "stores_zeros"), "no", "stores_zeros"),
        (("formats", 0, "source"), 1, "a format's source"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(path, new, said):
    shipped = json.loads((SHIPPED / "loihi2.json").read_text())
    parse_limits(shipped, where="f.json")
    with pytest.raises(LavatubeError, match=rf"f\.json: limits of a chip: .*{said}"):
        parse_limits(change(shipped, path, new), where="f.json")


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("extends", "loihi3"),
        ("extends", ["loihi2"]),
        ("limits", 3),
        ("limits", [7]),
        ("limits", [{"key": []}]),
        ("formats", []),
    ],
)
def test_a_wrong_extension_is_refused(key, new):
    shipped = json.loads((SHIPPED / "loihi2-2022.json").read_text())
    with pytest.raises(LavatubeError, match="limits of a chip"):
        parse_limits(shipped | {key: new}, where="f.json")


def test_an_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(LavatubeError, match="loihi1, loihi2, loihi2-2022"):
        load_limits("loihi3")
