"""Confusions are a table up to twelve labels, and a list of the largest beyond."""

import re

from electra_jax.reporting.confusion import confusion_table
from electra_jax.reporting.results import Confusion


def rows_of(table):
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]


def test_rows_are_true_labels_with_totals_and_shares():
    table = confusion_table(Confusion(labels=["no", "yes"], counts=[[3, 1], [0, 1000]]))
    _, *rows = rows_of(table)
    assert rows == [
        ["no", "3", "1", "4", "75.0%"],
        ["yes", "0", "1,000", "1,000", "100.0%"],
        ["predicted", "3", "1,001", "1,004", "99.9%"],
    ]
    assert re.findall(r'class="(\w+)" style="--p:([\d.]+)"', table) == [
        ("agreed", "0.75"),
        ("confused", "0.25"),
        ("never", "0.00"),
        ("agreed", "1.00"),
    ]


def test_a_label_that_never_occurs_has_no_share():
    _, first, *_ = rows_of(confusion_table(Confusion(labels=["no", "yes"], counts=[[0, 0], [1, 1]])))
    assert first == ["no", "0", "0", "0", "—"]


def test_many_labels_are_listed_by_their_largest_confusions():
    counts = [[10 if row == column else 0 for column in range(13)] for row in range(13)]
    counts[2][5], counts[5][2] = 3, 7
    table = confusion_table(Confusion(labels=[f"l{index}" for index in range(13)], counts=counts))
    _, *rows = rows_of(table)
    assert rows == [["l5", "l2", "7", "41.2% of 17"], ["l2", "l5", "3", "23.1% of 13"]]
    assert "Another" not in table


def test_many_labels_that_are_never_confused_are_reported():
    counts = [[int(row == column) for column in range(13)] for row in range(13)]
    assert "None of the 13 labels" in confusion_table(Confusion(labels=["l"] * 13, counts=counts))


def test_nothing_counted_shows_nothing():
    assert confusion_table(Confusion(labels=["no", "yes"], counts=[[0, 0], [0, 0]])) == ""
