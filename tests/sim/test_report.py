"""report.html: from any mix of artifacts, self-contained, and inert whatever the artifacts say."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_folders import fill, floored_decay, make_folder

from lavatube.errors import LavatubeError
from lavatube.sim.counts import load_counts
from lavatube.sim.energy import energy, save_energy
from lavatube.sim.price_table import SHIPPED, parse_prices
from lavatube.sim.report.page import report
from lavatube.sim.run import run
from lavatube.trace import save_trace
from lavatube.trained import QuantizedNetwork, save_quantized

HOSTILE = "\" onload='alert(2)' x=\"<script>alert(1)</script>"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Tags, their attributes, what is open at the end, and the texts of the sections' heads."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.heads = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.heads.append(data)


def page_of(folder):
    text = report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fill(make_folder(tmp_path_factory.mktemp("run")))


def test_a_whole_folder_gives_every_section_and_names_nothing_as_missing_but_training(whole):
    text, page = page_of(whole)
    assert page.heads == [
        "Identity", "Parity", "Accuracy", "Network", "Spikes", "Membrane", "Counts and energy", "Mapping",
        "Lossy steps", "Training",
    ]  # fmt: skip
    missing = re.findall(r"Not here: ([^<]*?)\. Made", text)
    assert missing == ["config.json", "quantized.safetensors", "model.nir"]
    assert "Equal: every spike" in text
    assert len(text) < 5e6


def test_the_page_loads_nothing_and_its_policy_allows_no_address(whole):
    text, page = page_of(whole)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert re.match(r"#|data:|url\(#", attributes.get(name, "#"))
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_pictures_have_names_and_tables_have_captions(whole):
    text, page = page_of(whole)
    pictures = [a for tag, a in page.tags if tag == "svg"]
    assert len(pictures) > 8
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert all(a["alt"] for tag, a in page.tags if tag == "img")
    assert text.count("<table>") == text.count("<caption>") > 10
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_same_artifacts_give_the_same_page(whole):
    assert report(whole).read_bytes() == report(whole).read_bytes()


@pytest.mark.parametrize("with_program", [True, False], ids=["beside a program", "a hostile trace alone"])
def test_what_artifacts_say_is_inert(whole, tmp_path, with_program):
    names = ["config.json", "parity.json", "counts.json", "energy.json"]
    for name in names[1:]:
        said = (whole / name).read_text().replace('"fast"', json.dumps(HOSTILE))
        (tmp_path / name).write_text(re.sub('"(into_)?hidden', lambda _: json.dumps(HOSTILE)[:-1], said))
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {HOSTILE: HOSTILE, "seed": HOSTILE}, "metrics": {}}))
    (tmp_path / "history.csv").write_text(f"epoch,'{HOSTILE}'\n1,2\n2,3\n")
    if with_program:
        (tmp_path / "program.safetensors").write_bytes((whole / "program.safetensors").read_bytes())
    else:
        trace = run(whole / "program.safetensors", whole / "input.npz", backend="fast", record=("v",))
        hostile = {kind: {HOSTILE: value["hidden"]} for kind, value in (("spikes", trace.spikes), ("v", trace.v))}
        save_trace(replace(trace, **hostile, meta={**trace.meta, "engine": HOSTILE}), tmp_path / "trace.npz")
    text, page = page_of(tmp_path)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(attribute.startswith("on") for _, attributes in page.tags for attribute in attributes)
    assert text.count("&lt;script&gt;alert(1)") > 10


@pytest.mark.parametrize("kept", ["program.safetensors", "parity.json", "counts.json", "energy.json", "history.csv"])
def test_any_artifact_alone_makes_a_page_that_says_how_to_make_the_others(whole, tmp_path, kept):
    (tmp_path / kept).write_bytes((whole / kept).read_bytes())
    text, page = page_of(tmp_path)
    assert "Not here: " in text
    assert "lavatube lower" in text or kept == "program.safetensors"
    assert len(page.heads) == 10


def test_a_trace_alone_makes_a_page(whole, tmp_path):
    run(whole / "program.safetensors", whole / "input.npz", backend="fast", out=tmp_path / "trace.npz", record=("v",))
    assert "a trace of the folder, made by fast" in page_of(tmp_path)[0]


@pytest.mark.parametrize(
    ("test_samples", "interval"), [({"test_samples": 360}, "98.44 to 99.95 %"), ({}, "number of samples unknown")]
)
def test_a_share_of_the_test_split_is_not_one_of_the_samples_that_parity_ran(whole, tmp_path, test_samples, interval):
    metrics = {"test_accuracy": 100 * 359 / 360, **test_samples}
    for name in ("parity.json", "program.safetensors"):
        shutil.copy(whole / name, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {}, "metrics": metrics}))
    quantized = QuantizedNetwork({}, {}, {}, (), metrics)
    save_quantized(quantized, tmp_path / "quantized.safetensors")
    text, _ = page_of(tmp_path)
    for stage in ("float network", "quantized checkpoint"):
        row = re.search(rf">{stage}</t[hd].*?</tr>", text, re.S).group()
        assert interval in row
        assert ("360" in row) == bool(test_samples)
    assert re.search(r">program, fast</t.*?>9</td>", text, re.S)


@pytest.mark.parametrize("others", [[], ["loihi1-davies2018"]])
def test_prices_without_a_total_are_a_row_without_a_bar(whole, tmp_path, others):
    value = json.loads((SHIPPED / "loihi1-davies2018.json").read_text()) | {"name": "mine"}
    price = value["terms"]["synop"]
    low, high = ({**price, **ends} for ends in ({"high": None}, {"low": None, "nominal": None, "high": 1700}))
    table = parse_prices(value | {"terms": {"synop": low, "spike": high}}, where="mine.json")
    save_energy(energy(load_counts(whole / "counts.json"), [table, *others]), tmp_path / "energy.json")
    text, _ = page_of(tmp_path)
    row = re.search(r"<tr[^>]*>\s*<t[hd][^>]*>mine</t.*?</tr>", text, re.S).group()
    assert row.count("not published") == 3
    assert "mine: low" not in text
    layers = text[text.index("by layer (mine)") :]
    assert re.search(r"into_hidden</t.*?not published.*?</tr>", layers, re.S)
    assert ("at least " in text) == bool(others)
    assert ("no table knows" in text) != bool(others)


def test_a_failed_parity_opens_the_page_with_the_place_and_the_cause(tmp_path):
    folder = make_folder(tmp_path)
    with floored_decay():
        fill(folder, record=("u", "v"))
    text, page = page_of(folder)
    assert page.heads[0] == "Where and why engines differ"
    opening = text[text.index('id="mismatch"') : text.index('id="identity"')]
    assert "reference rounds the leak of v down" in opening
    assert "decay of v rounded down" in opening
    assert "Different: engines do not agree" in text


def test_damaged_and_foreign_artifacts_are_said_and_the_rest_is_shown(whole, tmp_path):
    for name in ("program.safetensors", "parity.json", "input.npz"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / "counts.json").write_text("{")
    foreign = json.loads((whole / "energy.json").read_text()) | {"program_sha256": "0" * 64}
    (tmp_path / "energy.json").write_text(json.dumps(foreign))
    text, _ = page_of(tmp_path)
    assert "counts.json: not readable as JSON" in text
    assert "energy.json was made from another program" in text
    (tmp_path / "input.npz").write_bytes(b"PK")
    text, _ = page_of(tmp_path)
    assert "input.npz: damaged or foreign file" in text
    assert "Not here: samples to watch" in text
    assert "Equal: every spike" in text


def test_an_empty_folder_and_no_folder_are_refused(tmp_path):
    with pytest.raises(LavatubeError, match="nothing to report"):
        report(tmp_path)
    with pytest.raises(LavatubeError, match="no such folder"):
        report(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_artifact_of_another_form_is_refused_in_one_line(tmp_path):
    (tmp_path / "parity.json").write_text(json.dumps({"equal": True}))
    with pytest.raises(LavatubeError, match="not of the form"):
        report(tmp_path)


def edited(whole, folder, name, path, value):
    """A copy of the folder with one value of an artifact changed; path: its keys."""
    shutil.copytree(whole, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("report.html"))
    loaded = json.loads((whole / name).read_text()) if (whole / name).exists() else {}
    inner = loaded
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[path[-1]] = value
    (folder / name).write_text(json.dumps(loaded).replace('"1e400"', "1e400"))
    return folder


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("counts.json", ["layers", 0, "events_in"], "x", "malformed counts"),
        ("counts.json", ["barriers"], 1, "malformed counts"),
        ("parity.json", ["samples"], "abc", "samples: Input should be a valid integer"),
        ("parity.json", ["equal"], "false", "equal: Input should be a valid boolean"),
        ("parity.json", ["equal"], False, "equal contradicts the engines"),
        ("parity.json", ["engines", 0, "rows", 0, "mismatches"], 3, "equal contradicts what is said of fast"),
        ("parity.json", ["level"], 1, "says only how the float network agrees"),
        ("parity.json", ["accuracy"], 300, "accuracy: Input should be less than or equal to 100"),
        ("energy.json", ["samples"], 0, "samples: Input should be greater than or equal to 1"),
        ("energy.json", ["samples"], "9", "samples: Input should be a valid integer"),
        ("energy.json", ["tables", 0, "dynamic", "low"], float("nan"), "NaN is no JSON"),
        ("energy.json", ["interval", "low"], float("inf"), "Infinity is no JSON"),
        ("config.json", ["metrics", "test_accuracy"], 300, "test_accuracy: Input should be less than or equal to 100"),
        ("config.json", ["metrics", "test_accuracy"], "1e400", "test_accuracy: Input should be"),
        ("config.json", ["metrics"], 3, "metrics: Input should be"),
    ],
)
def test_an_artifact_that_says_what_none_can_say_is_left_out_and_named(whole, tmp_path, name, path, value, words):
    text, _ = page_of(edited(whole, tmp_path, name, path, value))
    trouble = re.search(rf"[^>]*{re.escape(name)}: [^<]*", text).group()
    assert words in trouble
    assert ("Equal: every spike" in text) == (name != "parity.json")
    assert not re.search(r"\bNaN\b(?! is no JSON)|\bnan\b", text)


@pytest.mark.parametrize(
    ("label", "foreign", "matrix"),
    [
        ([-1, 0, 1, 2, 0, 1, 2, 0, 1], 1, "Confusion matrix of 8 samples"),
        ([200000, 0, 1, 2, 0, 1, 2, 0, 3], 2, "Confusion matrix of 7 samples"),
        ([-5] * 9, 9, "Not here: "),
    ],
)
def test_a_label_that_is_no_class_is_left_out_and_counted(whole, tmp_path, label, foreign, matrix):
    (tmp_path / "program.safetensors").write_bytes((whole / "program.safetensors").read_bytes())
    np.savez(tmp_path / "input.npz", input=np.load(whole / "input.npz")["input"], label=label)
    text, _ = page_of(tmp_path)
    assert f"{foreign} of the samples run here: their labels are no classes" in text
    assert matrix in text[text.index('id="accuracy"') :]


def test_a_text_that_no_file_can_hold_is_written_as_its_escape(whole, tmp_path):
    text, _ = page_of(edited(whole, tmp_path, "parity.json", ["engines", 0, "independence"], "\ud800"))
    assert "\\ud800" in text
