"""What is no predicate is refused, with its place in the text and what can be asked for; and what a text becomes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import shardwright as sw
from shardwright.errors import PredicateError
from shardwright.reader.predicate import parse_predicate
from tests.datasets import publish
from tests.reader.test_where import DATA, SCHEMA


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("predicate") / "d"
    publish(root, {"train": DATA}, SCHEMA)
    return sw.open_dataset(str(root))


@pytest.mark.parametrize(
    "text, expression",
    [
        ("small < 3", "(small < 3)"),
        ("3 > small", "(small < 3)"),
        ("1 < small <= 3", "((small > 1) and (small <= 3))"),
        ("not (small < 3 and flag)", "(invert((small < 3)) or invert(flag))"),
        ("maybe is not null or not flag", "(is_valid(maybe) or invert(flag))"),
        ("when >= '2026-01-02T01:00:00+01:00'", "(when >= 2026-01-02 00:00:00.000000)"),
        (" small in (1, 300)\n", "is_in(small, {value_set=int16:[\n  1,\n  300\n], null_matching_behavior=MATCH})"),
        ("text == 'it\\'s'", '(text == "it\'s")'),
    ],
)
def test_what_a_text_becomes(text, expression):
    assert str(parse_predicate(text, SCHEMA)) == expression


def test_it_filters_any_arrow_table():
    table = pa.table({"small": pa.array([1, 2, None], pa.int64()), "score": pa.array([1.0, np.nan, None], pa.float32())})
    assert table.filter(parse_predicate("not score <= 1", SCHEMA)).num_rows == 1
    assert table.filter(parse_predicate("small != 1", SCHEMA)).num_rows == 1


@pytest.mark.parametrize(
    "predicate, message",
    [
        ("smal < 3", r"'smal < 3', at character 1: no field 'smal'; did you mean 'small'\? known: small, big"),
        ("flag and é < 3", "at character 10: no field 'é'"),
        ("image == 3", r"at character 1: field 'image' is an array, and can't be compared; fields to ask for: small \(uint8\)"),
        ("_key == 3", "no field '_key'"),
        ("blob == 'x'", "field 'blob' is bytes"),
        ("small = 3", r"can't be read at character 7 \(invalid syntax\); expected comparisons .* such as label < 3"),
        ("small <", "can't be read"),
        ("", "can't be read"),
        ("small", "at character 1: expected comparisons"),
        ("small < 'x'", "at character 9: field 'small' is uint8, found 'x': expected a whole number"),
        ("small < 2.5", "found 2.5: expected a whole number"),
        ("small < true", "found True: expected a whole number"),
        ("big > -1", "field 'big' is uint64, found -1: expected a whole number, 0 to 18446744073709551615"),
        ("small < 9223372036854775808", "found 9223372036854775808: expected a whole number, -9223372036854775808 to"),
        ("score < '3'", "expected a number"),
        ("text < 3", "field 'text' is string, found 3: expected text in quotes"),
        ("when > 3", "expected a time in quotes"),
        ("when > 'soon'", "expected a time in quotes, such as '2026-01-31T12:00:00'"),
        ("flag < true", "field 'flag' is bool: expected ==, != or the field alone"),
        ("flag == 1", "expected true or false"),
        ("maybe == null", "at character 10: nothing compares with null: expected 'is null' or 'is not null'"),
        ("maybe is 3", "expected null after 'is'"),
        ("small in 3", r"expected a list of values after 'in', such as \[1, 2\]"),
        ("small in []", "expected a list of values"),
        ("null == maybe", "at character 1: nothing compares with null"),
        ("maybe in [1, null]", "at character 14: nothing compares with null: expected 'is null' or 'is not null'"),
        ("small < 1e999", "found inf: expected a whole number"),
        ("score < " + "9" * 400, "found 9{100}: expected a number"),
        ("small < " + "9" * 5000, "can't be read .*Exceeds the limit"),
        ("flag == -true", "expected a number, text in quotes"),
        ("text == -'a'", "expected a number, text in quotes"),
        (r"text == '\ud800'", "found '.ud800': expected text in quotes"),
        ("text == '\ud800'", "can't be read"),
        ("text == 'a\0'", "can't be read .*null bytes"),
        ("when > '0001-01-01T00:00:00+14:00'", "expected a time in quotes"),
        ("text == b'x'", "expected a number, text in quotes"),
        ("text == f'{small}'", "expected a number, text in quotes"),
        ("small.__class__ == 3", "expected the name of a field"),
        ("(x := 3) < small", "expected a number, text in quotes"),
        ("small < score", "'small' is uint8, 'score' is float32: expected fields of one kind"),
        ("3 < 4", "expected the name of a field"),
        ("__import__('os').system('x')", "expected comparisons"),
        ("small < (lambda: 3)()", "expected a number, text in quotes"),
        ("small + 1 < 3", "expected the name of a field"),
        ("small < 3 if flag else small > 3", "expected comparisons"),
        ("[x for x in small]", "expected comparisons"),
        ("not " * 100_000 + "flag", "can't be read"),
        ("not " * 2000 + "flag", r"can't be read \(maximum recursion depth exceeded"),
        (" or ".join(["small == 1"] * 1001), r"names fields 1,001 times: expected at most 1,000; .* say label in \[1, 2, …\]"),
        ("(" * 250 + "flag" + ")" * 250, r"can't be read at character \d+ \(too many nested parentheses\)"),
        ("small < " + "-" * 90_000 + "1", "can't be read"),
        (
            pc.field("nosuch") < 3,
            r"is no predicate over the samples' scalar fields: .*nosuch.*; fields to ask for: small \(uint8\)",
        ),
        (pc.field("image") == 3, "is no predicate over the samples' scalar fields: .*image"),
        (pc.field("_key") == b"", "is no predicate over the samples' scalar fields: .*_key"),
        (pc.field("small") + 1, "it gives int16, expected bool"),
        (pc.field("text") < 3, "is no predicate over the samples' scalar fields: "),
    ],
)
def test_what_is_refused(train, predicate, message):
    with pytest.raises(PredicateError, match=message):
        train.where(predicate)
