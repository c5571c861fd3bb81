"""Policies, fits and what they give, without Spark: beside NumPy, collections.Counter and exact fractions."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from shardwright.errors import InputError, SchemaError
from shardwright.format.manifest import MinMax, OneHot, Robust, Standardisation, Transform, Vocabulary
from shardwright.format.statistics import FieldSummary, Label
from shardwright.format.values import Values, pack, unpack
from shardwright.schema import DType, Field, Schema
from shardwright.stages import standardise
from shardwright.stages.standardise import Coding, FitTransforms, Scaling, StandardiseOptions, fit_affine, transformed
from shardwright.transforms import Apply, Normalise, describe, inverse

TABLE = Schema(
    fields=(
        Field(name="age", dtype="uint8"),
        Field(name="income", dtype="float64", nullable=True),
        Field(name="image", dtype="uint8", shape=(2, 4, 3)),
        Field(name="country", dtype="string"),
        Field(name="code", dtype="int64", nullable=True),
        Field(name="flag", dtype="bool"),
    )
)


def options(**features: Any) -> StandardiseOptions:
    return StandardiseOptions.model_validate({"features": features, "at": "write"})


def apply(transform: Transform, stored: Field, values: Values) -> Any:
    return Apply(transform, stored)(values)


def fit(wanted: StandardiseOptions, samples: dict[str, pa.Array], pieces: int = 1) -> tuple[Transform, ...]:
    out = FitTransforms(TABLE, wanted)
    count = len(next(iter(samples.values())))
    for rows in np.array_split(np.arange(count), pieces):
        part = FitTransforms(TABLE, wanted)
        part.update({name: array.slice(int(rows[0]), len(rows)) for name, array in samples.items()})
        out.merge(json.loads(json.dumps(part.to_json())))
    return out.finish()


def test_policies_take_what_they_do_not_say_from_the_table() -> None:
    found = StandardiseOptions.model_validate(
        {
            "fields": ["image"], "at": "write", "dtype": "float16", "per": "field",
            "features": {"age": "robust", "income": {"method": "min_max", "at": "read"}, "country": "one_hot"},
        }
    )  # fmt: skip
    assert found.policies == {
        "age": Scaling(method="robust", at="write", per="field", dtype="float16"),
        "country": Coding(method="one_hot"),
        "image": Scaling(method="mean_std", at="write", per="field", dtype="float16"),
        "income": Scaling(method="min_max", at="read", per="field", dtype=None),
    }
    assert list(found.at_write()) == ["age", "country", "image"]
    assert list(found.at_read()) == ["income"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fields": ["age"], "features": {"age": "robust"}}, "age: named in fields and in features; leave one out"),
        ({"features": {"age": "robusd"}}, "no method 'robusd'; did you mean 'robust'"),
        ({"features": {"age": {"dtype": "float16"}}}, "expected a method: mean_std, min_max"),
        ({"features": {"age": {"method": "robust", "dtype": "float16"}}}, "age: dtype 'float16' is for at = \"write\""),
        ({"features": {"age": {"method": "vocabulary", "unknown": False, "min_count": 2}}}, "needs unknown = true"),
        ({"features": {"age": {"method": "one_hot", "at": "read"}}}, "Input should be 'write'"),
    ],
)
def test_options_that_can_not_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        StandardiseOptions.model_validate(given)
    assert message in str(error.value)


def test_fields_that_do_not_fit_a_method() -> None:
    wanted = StandardiseOptions.model_validate(
        {"fields": ["country", "agee"], "features": {"income": "one_hot", "image": "vocabulary", "flag": "robust"}}
    )
    assert wanted.problems(TABLE) == [
        "standardise.fields: no field 'agee'; did you mean 'age'? known: age, income, image, country, code, flag",
        "standardise.fields: 'country' is string; expected a field of numbers for mean_std",
        "standardise.features: 'flag' is bool; expected a field of numbers for robust",
        "standardise.features: 'image' is an array of uint8; expected strings, integers or booleans for vocabulary",
        "standardise.features: 'income' is float64; expected strings, integers or booleans for one_hot",
    ]


@pytest.mark.parametrize("pieces", [1, 4])
def test_values_are_numbered_by_count_then_value(pieces: int) -> None:
    rng = np.random.default_rng(1)
    countries = rng.choice(["de", "at", "ch", "fr", "it"], 60, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    codes = [None if code == 3 else int(code) for code in rng.integers(-2, 5, 60)]
    wanted = options(country="vocabulary", code={"method": "one_hot", "max_size": 3}, flag="one_hot")
    samples = {"country": pa.array(countries), "code": pa.array(codes, pa.int64()), "flag": pa.array(rng.random(60) < 0.2)}
    code, country, flag = fit(wanted, samples, pieces)
    assert isinstance(country, Vocabulary)
    assert isinstance(code, OneHot)
    assert isinstance(flag, OneHot)

    def ranked(values: list[Any]) -> list[Any]:
        return [value for value, _ in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))]

    assert list(country.values) == ranked(countries.tolist())
    assert list(code.values) == ranked([c for c in codes if c is not None])[:3]
    assert flag.values == (False, True)
    assert country.original == TABLE["country"]


def test_ties_are_broken_by_value() -> None:
    samples = {"country": pa.array(["b", "a", "c", "a", "c", "d"])}
    (found,) = fit(options(country={"method": "vocabulary", "min_count": 1}), samples)
    assert isinstance(found, Vocabulary)
    assert found.values == ("a", "c", "b", "d")
    (rare,) = fit(options(country={"method": "vocabulary", "min_count": 2}), samples)
    assert isinstance(rare, Vocabulary)
    assert rare.values == ("a", "c")


def test_too_many_and_too_long_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardise, "MAX_VALUES", 3)
    monkeypatch.setattr(standardise, "MAX_ONE_HOT", 2)
    with pytest.raises(SchemaError, match="'country' has more than 3 distinct values, too many to code"):
        fit(options(country="vocabulary"), {"country": pa.array(list("abcd"))})
    with pytest.raises(SchemaError, match="'country' has 3 values, a one-hot vector holds at most 2; set max_size"):
        fit(options(country="one_hot"), {"country": pa.array(list("abc"))})
    with pytest.raises(SchemaError, match="a value of 300 bytes, at most 256 can be coded: it holds texts"):
        fit(options(country="vocabulary"), {"country": pa.array(["x" * 300])})
    with pytest.raises(SchemaError, match="no value occurs 2 times or more in split 'train'; lower min_count"):
        fit(options(country={"method": "vocabulary", "min_count": 2}), {"country": pa.array(["x"])})


@pytest.mark.parametrize("unknown", [True, False])
def test_codes_and_back(unknown: bool) -> None:
    values: tuple[Label, ...] = ("x", "y", "z")
    column = pa.array(["y", "x", "z", "y"])
    field = Field(name="country", dtype="string")
    vocabulary = Vocabulary(field="country", at="write", original=field, values=values, unknown=unknown)
    one_hot = OneHot(field="country", at="write", original=field, values=values, unknown=unknown)
    numbers = apply(vocabulary, transformed(field, Coding(method="vocabulary"), vocabulary), column)
    vectors = apply(one_hot, transformed(field, Coding(method="one_hot"), one_hot), column)
    assert (numbers.to_numpy() - unknown).tolist() == [1, 0, 2, 1]
    assert vectors.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert inverse(vocabulary, numbers.to_numpy()).tolist() == column.to_pylist()
    assert inverse(one_hot, vectors).tolist() == column.to_pylist()


def test_values_that_the_fit_did_not_see() -> None:
    field = Field(name="code", dtype="int64", nullable=True)
    column = pa.array([7, None, 5], pa.int64())
    known = Vocabulary(field="code", at="write", original=field, values=(5,), unknown=True)
    stored = transformed(field, Coding(method="vocabulary"), known)
    assert stored == Field(name="code", dtype="int32")
    numbers = apply(known, stored, column)
    assert numbers.to_pylist() == [0, 0, 1]
    assert inverse(known, numbers.to_numpy()).tolist() == [None, None, 5]
    vectors = apply(OneHot(field="code", at="write", original=field, values=(5,), unknown=True), stored, column)
    assert vectors.tolist() == [[0], [0], [1]]
    assert inverse(OneHot(field="code", at="write", original=field, values=(5,), unknown=True), vectors).tolist() == [
        None,
        None,
        5,
    ]
    strict = known.model_copy(update={"unknown": False})
    with pytest.raises(
        InputError, match="field 'code': 7 does not occur in the split that the values were taken from; set unk"
    ):
        apply(strict, stored, column)
    with pytest.raises(InputError, match="field 'code': a null does not occur"):
        apply(strict, stored, column.slice(1))
    with pytest.raises(SchemaError, match="field 'code': 4 is the number of no value, there are 1"):
        inverse(known, np.array([0, 4]))


def summary(field: Field, *blocks: np.ndarray[Any, Any]) -> FieldSummary:
    out = FieldSummary(field, ranked=True)
    for block in blocks:
        out.update(block)
    return out


@pytest.mark.parametrize("per", ["channel", "field"])
@pytest.mark.parametrize("method", ["mean_std", "min_max", "robust"])
def test_parameters_beside_numpy(method: Any, per: Any) -> None:
    values = np.random.default_rng(0).integers(0, 200, (31, 2, 4, 3)).astype("u1")
    fitted = fit_affine(Scaling(method=method, per=per), summary(TABLE["image"], values[:9], values[9:]), "read")
    axes = values.reshape(-1, 3).T if per == "channel" else values.reshape(1, -1)
    wide = axes.astype("f8")
    offset, scale = {
        "mean_std": (wide.mean(1), wide.std(1)),
        "min_max": (wide.min(1), wide.max(1) - wide.min(1)),
        "robust": (np.median(wide, 1), np.quantile(wide, 0.75, 1) - np.quantile(wide, 0.25, 1)),
    }[method]
    np.testing.assert_allclose(fitted.affine(), (offset, scale), rtol=1e-12)
    assert fitted.original is None


def test_a_field_without_a_finite_value_and_one_too_wide() -> None:
    field = Field(name="x", dtype="float64", shape=(1, 1, 2))
    half = np.array([1.0, np.nan]).reshape(1, 1, 1, 2)
    with pytest.raises(SchemaError, match="field 'x' to: one of its 2 channels has no finite value; leave it out"):
        fit_affine(Scaling(method="robust"), summary(field, half), "write")
    with pytest.raises(SchemaError, match="too wide for min_max; use robust"):
        fit_affine(Scaling(method="min_max"), summary(Field(name="x", dtype="float64"), np.array([-1.7e308, 1.7e308])), "write")


def test_a_constant_field_becomes_zero_and_comes_back() -> None:
    field = Field(name="x", dtype="int16")
    for method in ("mean_std", "min_max", "robust"):
        policy = Scaling.model_validate({"method": method, "dtype": "float32"})
        fitted = fit_affine(policy, summary(field, np.full(5, 7, "i2")), "write")
        stored = apply(fitted, transformed(field, policy), pa.array([7, 7], pa.int16()))
        assert stored.to_pylist() == [0, 0]
        assert inverse(fitted, stored.to_numpy()).tolist() == [7, 7]


def test_nulls_stay_nulls() -> None:
    fitted = Standardisation(field="income", at="write", original=TABLE["income"], mean=(2.0,), std=(4.0,))
    stored = transformed(TABLE["income"], Scaling(method="mean_std", dtype="float64"))
    assert stored == Field(name="income", dtype="float64", nullable=True)
    assert apply(fitted, stored, pa.array([2.0, None, 10.0])).to_pylist() == [0, None, 2]
    assert inverse(fitted, np.array([0.0, None, 2.0], object)).tolist() == [2, None, 10]


def test_at_write_gives_what_the_reader_would() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 3), np.uint8)
    fitted = Standardisation(field="image", at="write", original=TABLE["image"], mean=(9.0, 8.5, 100.0), std=(3.0, 7.0, 0.1))
    field = transformed(TABLE["image"], Scaling(method="mean_std", dtype="float32"))
    found = apply(fitted, field, values)
    assert isinstance(found, np.ndarray)
    assert found.tobytes() == Normalise(fitted.mean, fitted.std)(values).tobytes()
    ragged = Field(name="image", dtype="uint8", shape=(None, None, 3))
    one_by_one = apply(fitted, transformed(ragged, Scaling(method="mean_std", dtype="float32")), [values[0], None])
    assert isinstance(one_by_one, list)
    assert one_by_one[1] is None
    assert np.array_equal(one_by_one[0], found[0])


def test_results_too_large_for_their_dtype() -> None:
    fitted = Robust(field="x", at="write", original=Field(name="x", dtype="float64"), median=(0.0,), iqr=(1e-6,))
    with pytest.raises(InputError, match=r"field 'x': 1.0 becomes too large for float16; give it a wider dtype"):
        apply(fitted, Field(name="x", dtype="float16"), pa.array([0.0, 1.0]))
    infinite = apply(fitted, Field(name="x", dtype="float16"), pa.array([np.inf, np.nan]))
    assert infinite[0].as_py() == np.inf


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
@given(data=st.data())
def test_integers_come_back_whatever_the_scale(dtype: DType, data: st.DataObject) -> None:
    values = data.draw(arrays(dtype, st.integers(1, 30)))
    field = Field(name="x", dtype=dtype)
    method: Any = data.draw(st.sampled_from(["mean_std", "min_max", "robust"]))
    policy = Scaling(method=method, dtype="float64")
    fitted = fit_affine(policy, summary(field, values), "write")
    stored = apply(fitted, transformed(field, policy), pa.array(values))
    found = inverse(fitted, stored.to_numpy())
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_come_back_nearly(values: np.ndarray[Any, Any]) -> None:
    field = Field(name="x", dtype="float32")
    policy = Scaling(method="min_max", dtype="float64")
    fitted = fit_affine(policy, summary(field, values), "write")
    stored = apply(fitted, transformed(field, policy), pa.array(values))
    assert ((stored.to_numpy() >= 0) & (stored.to_numpy() <= 1 + 1e-12)).all()
    np.testing.assert_allclose(inverse(fitted, stored.to_numpy()), values, rtol=1e-6, atol=1e-9 * np.abs(values).max())


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_what_is_beyond_the_dtype_stays_at_its_end(dtype: DType) -> None:
    limits = np.iinfo(dtype)
    fitted = MinMax(field="x", at="write", original=Field(name="x", dtype=dtype), min=(0.0,), max=(1.0,))
    assert inverse(fitted, np.array([-1e30, 1e30, 3.4])).tolist() == [limits.min, limits.max, 3]


def test_inverse_refuses_what_was_not_done_at_write() -> None:
    with pytest.raises(SchemaError, match="field 'x' was not transformed at write, its stored values are the original"):
        inverse(Standardisation(field="x", mean=(0.0,), std=(1.0,)), np.zeros(2))
    fitted = Standardisation(field="x", at="write", original=TABLE["image"], mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(SchemaError, match=r"expected 3 channels in the last axis, found values of shape \(2, 4\)"):
        inverse(fitted, np.zeros((2, 4)))


def test_in_words() -> None:
    words = Vocabulary(field="x", at="write", original=TABLE["country"], values=("a", "b", "c", "d"), unknown=True)
    assert describe(words) == "vocabulary of 4 values ('a', 'b', 'c', …; any other is unknown; applied at write)"
    assert describe(Standardisation(field="x", mean=(1.5,), std=(2.0,))) == "mean 1.5, std 2.0 (applied when read)"
    robust = Robust(field="x", at="write", original=TABLE["image"], median=(1.0, 2.0), iqr=(0.5, 1.0))
    assert describe(robust) == "median [1.0, 2.0], iqr [0.5, 1.0] (applied at write)"


@pytest.mark.parametrize("field", [Field(name="x", dtype="int16", shape=(2,)), Field(name="x", dtype="int16", shape=(None,))])
def test_values_between_arrow_and_numpy(field: Field) -> None:
    from shardwright.format.layout import column

    values = np.array([[1, 2], [3, 4]], "i2")
    stored = pack(field, values if field.fixed else [values[0], None, values[1]], column(field))
    back = unpack(field, stored)
    if field.fixed:
        assert isinstance(back, np.ndarray)
        assert np.array_equal(back, values)
    else:
        assert isinstance(back, list)
        assert [None if value is None else value.tolist() for value in back] == [[1, 2], None, [3, 4]]


def test_a_missing_whole_number_comes_back_as_the_reader_has_it() -> None:
    original = Field(name="age", dtype="int32", nullable=True)
    fitted = Standardisation(field="age", at="write", original=original, mean=(40.0,), std=(10.0,))
    back = inverse(fitted, np.array([1.0, np.nan, -1.0], np.float32))
    assert back.dtype == np.int32
    assert back.tolist() == [50, 0, 30]
