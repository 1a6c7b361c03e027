"""docs/support.md says what is so."""

from __future__ import annotations

import pytest

from lavatube.convert.float_graph.primitives import BUILDERS


@pytest.mark.long
def test_the_support_page_is_up_to_date():
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    import write_support

    found = write_support.page()
    assert found == write_support.PAGE.read_text(), "run tests/write_support.py"


def test_every_primitive_that_is_read_has_a_row():
    import write_support

    assert set(write_support.primitives()) == {*BUILDERS, "NIRGraph"}
