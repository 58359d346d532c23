"""Templates escape what they are given, and ask for values that are there."""

import jinja2
import pytest
from markupsafe import Markup

from electra_jax.reporting import markup


def test_text_is_escaped_and_markup_is_not():
    page = markup.call("excerpts", "whole", "<b>")
    assert page == '<p class="text" dir="auto">&lt;b&gt;</p>'
    assert isinstance(page, Markup)
    assert markup.call("excerpts", "whole", Markup("<b>")) == '<p class="text" dir="auto"><b></p>'


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        markup.render("probe", lead="")


def test_nested_values_of_a_config_are_indented_rows():
    table = markup.call("parts", "table", {"a": {"b": "", "c": "x<y"}, "d": [1, "é"], "e": {}})
    assert table == (
        '<table><tr class="group"><th scope="row" style="--depth:0">a</th><td></td></tr>'
        '<tr><th scope="row" style="--depth:1">b</th><td>&#34;&#34;</td></tr>'
        '<tr><th scope="row" style="--depth:1">c</th><td>x&lt;y</td></tr>'
        '<tr><th scope="row" style="--depth:0">d</th><td>[1, &#34;é&#34;]</td></tr>'
        '<tr><th scope="row" style="--depth:0">e</th><td>{}</td></tr></table>'
    )
    assert markup.call("parts", "table", {}) == "<p>Not recorded.</p>"
