"""A configuration is checked whole, and every problem says where it is and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shardwright.config import Config, Recipe, load_config
from shardwright.errors import ConfigError
from shardwright.schema import CodecSpec, Field, Schema
from shardwright.stages.clean import CleanOptions
from shardwright.stages.compress import CompressOptions
from shardwright.stages.map import MapOptions
from shardwright.stages.shard import ShardOptions
from shardwright.stages.split import SplitOptions
from shardwright.stages.standardise import StandardiseOptions
from tests.conftest import ROOT

GOOD = """
name = "digits"
[read]
format = "idx"
path = "in"
[shard]
count = 4
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def loaded(text: str, *overrides: str, output: str | None = None) -> Config:
        (tmp_path / "c.toml").write_text(text)
        return load_config(tmp_path / "c.toml", overrides, output=output)

    return loaded


def problems(load: Any, text: str, *overrides: str) -> list[str]:
    """What is said, without the name of the file, which every line has."""
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    assert str(caught.value).endswith("\n".join(f"  {line}" for line in caught.value.problems))
    return [line.partition("c.toml: ")[2] or line for line in caught.value.problems]


def test_what_is_not_said_has_a_default(load: Any) -> None:
    config = load(GOOD)
    assert config.output == "build/datasets/digits"
    assert config.read.paths == ("in",)
    assert (config.shard.remainder, config.clean.max_rejected, config.split.fractions) == ("drop", 0.01, None)


@pytest.mark.parametrize(
    "before, after, problem",
    [
        ("[shard]", "[shrad]\n[shard]", "shrad: unknown key; did you mean 'shard'? known: name, read, clean, map,"),
        ("count = 4", "count = 4\nreminder = 'pad'", "[shard] reminder: unknown key; did you mean 'remainder'? known: count,"),
        ('format = "idx"', "", "[read] format: missing; add it"),
        ('name = "digits"', "", "name: missing; add it"),
        ('"idx"', '"idxx"', "[read] format: no input format 'idxx'; did you mean 'idx'? known: "),
        (
            "count = 4",
            'count = "four"',
            "[shard] count: input should be a valid integer, unable to parse string as an integer,",
        ),
        ("count = 4", "count = 0", "[shard] count: input should be greater than or equal to 1, found 0"),
        ('path = "in"', "path = 5", "[read] path: expected a path, or a list of paths, found 5"),
        ('path = "in"', 'path = ["a", 5]', "[read] path: expected a path, or a list of paths"),
        ('path = "in"', "path = []", "[read] path: expected a path, or a list of paths"),
        ("[shard]", '[standardise]\nfields = "image"\n[shard]', "[standardise] fields: expected a list, found 'image'"),
        ("[shard]\ncount = 4", "", "shard: missing; add it"),
        ('"digits"', '"a/b"', "name: string should match pattern"),
        (
            "[shard]",
            "[split]\nfractions = { a = 0.5 }\n[shard]",
            "split: expected fractions that sum to 1, found {'a': 0.5} = 0.5",
        ),
        (
            "[shard]",
            "[[map]]\nfunction = 'a.b'\n[shard]",
            '[map.0] function: expected "pkg.mod:fn", a module and a function in it',
        ),
        (
            "[shard]",
            "[[map]]\nfnction = 'a:b'\nfunction = 'a:b'\n[shard]",
            "[map.0] fnction: unknown key; did you mean 'function'?",
        ),
        ('path = "in"', "", "[read] path: missing; add it"),
        ('path = "in"', "path = 'in'\nquery = 'select 1'", '[read] query: only format = "sql" takes a query'),
        ("[shard]", "[split]\nfractions = { a = nan }\n[shard]", "split: expected fractions above 0, found {'a': nan}"),
        ("[shard]", "[split]\nfractions = { a = 'x' }\n[shard]", "[split.fractions] a: input should be a valid number,"),
        ("[shard]", "[clean]\nrange = { x = [3, 1] }\n[shard]", "[clean] range: x: expected [smallest, largest], found [3, 1]"),
        (
            "[shard]",
            "[clean]\nmax_rejected = 2\n[shard]",
            "[clean] max_rejected: input should be less than or equal to 1, found 2",
        ),
    ],
)
def test_each_kind_of_problem(load: Any, before: str, after: str, problem: str) -> None:
    assert GOOD.count(before) == 1
    (found,) = problems(load, GOOD.replace(before, after))
    assert found.startswith(problem)


def test_all_problems_at_once(load: Any) -> None:
    text = GOOD.replace("count = 4", "count = -1\nseeed = 3").replace('"idx"', '"cvs"') + "[publish]\npath = 7\n"
    found = problems(load, text)
    assert [line.split(":")[0] for line in found] == ["[read] format", "[shard] count", "[shard] seeed", "[publish] path"]
    with pytest.raises(ConfigError, match=r"^4 problems in the configuration:\n  .*c.toml: "):
        load(text)
    with pytest.raises(ConfigError, match=r"^bad configuration:\n"):
        load(GOOD.replace('name = "digits"', ""))


def test_tables_that_are_values(load: Any) -> None:
    for key in ("shard", "publish"):
        text = f'{key} = "x"\n' + GOOD.replace("[shard]\ncount = 4", "")
        assert f"{key}: expected a table, found 'x'" in problems(load, text)
    with pytest.raises(ConfigError, match="publish: expected a table, found 'x'"):
        load('publish = "x"\n' + GOOD, output="elsewhere")


@pytest.mark.parametrize(
    "text, message",
    [
        ("name = \n", r"not TOML: Invalid value \(at line 1, column 8\)"),
        ("a = 1\na = 2\n", r"not TOML: Cannot overwrite a value \(at line 2, column 6\)"),
        ("[read", r"not TOML: Expected '\]' at the end of a table declaration \(at end of document\)"),
    ],
)
def test_bad_toml(load: Any, text: str, message: str) -> None:
    (found,) = problems(load, text)
    assert re.fullmatch(message, found)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.toml: can't be read \(No such file or directory\); expected a TOML file"):
        load_config(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(ConfigError, match=r"latin.toml: expected UTF-8 text"):
        load_config(tmp_path / "latin.toml")


def test_overrides(load: Any) -> None:
    config = load(
        GOOD, "shard.count=8", "read.format=parquet", "read.path=['a', \"b\"]", "split.fractions={train=0.5, test=0.5}",
        "publish.path=out", " clean.decode = false", "shard.remainder=pad", "shard.count=9", "name=a=b".replace("=b", ""),
    )  # fmt: skip
    assert config.shard == ShardOptions(count=9, remainder="pad")
    assert (config.read.format, config.read.paths) == ("parquet", ("a", "b"))
    assert config.split.fractions == {"train": 0.5, "test": 0.5}
    assert (config.output, config.clean.decode, config.name) == ("out", False, "a")
    assert load(GOOD, "publish.path=out", output="other").output == "other"
    assert load(GOOD + "[publish]\npath = 'out'\n", output="other").output == "other"


@pytest.mark.parametrize(
    "override, problem",
    [
        ("shard.count", "--set shard.count: expected TABLE.KEY=VALUE, such as shard.count=8"),
        ("=8", "--set =8: expected TABLE.KEY=VALUE"),
        ("shard..count=8", "--set shard..count=8: expected TABLE.KEY=VALUE"),
        ("name.first=x", "--set name.first=x: 'name' is a value, not a table"),
        ("shard.cuont=8", "[shard] cuont: unknown key; did you mean 'count'?"),
        ("shard.count=many", "[shard] count: input should be a valid integer"),
        ("shard=8", "shard: expected a table, found 8"),
    ],
)
def test_bad_overrides(load: Any, override: str, problem: str) -> None:
    (found,) = problems(load, GOOD, override)
    assert found.startswith(problem)


@pytest.mark.parametrize("path", sorted((ROOT / "conf/datasets").glob("*.toml")), ids=lambda path: path.stem)
def test_the_configurations_that_the_project_ships(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.output == f"build/datasets/{path.stem}"
    assert all((ROOT / entry).exists() for entry in config.read.paths) or path.stem == "own_images"  # yours


def test_fields_that_the_schema_lacks() -> None:
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(2,)), Field(name="word", dtype="string")))
    recipe = Recipe(
        key=("imagge",), clean=CleanOptions(range={"label": (0, 1)}), split=SplitOptions(column="fold"),
        standardise=StandardiseOptions(fields=("image", "word", "worb")), shard=ShardOptions(count=1),
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        recipe.check(schema)
    assert caught.value.problems == [
        "read.key: no field 'imagge'; did you mean 'image'? known: image, word",
        "clean.range: no field 'label'; known: image, word",
        "split.column: no field 'fold'; known: image, word",
        "standardise.fields: no field 'worb'; did you mean 'word'? known: image, word",
        "standardise.fields: 'word' is string; expected a field of numbers for mean_std",
    ]


def test_what_is_compressed_is_what_standardising_gives() -> None:
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(8, 8)), Field(name="word", dtype="string")))
    recipe = Recipe(
        standardise=StandardiseOptions.model_validate({"fields": ["image"], "at": "write", "features": {"word": "one_hot"}}),
        compress=CompressOptions.model_validate({"fields": {"image": "float16"}}), shard=ShardOptions(count=1),
    )  # fmt: skip
    stored = recipe.stored(recipe.check(schema))
    assert stored["image"] == Field(name="image", dtype="float32", shape=(8, 8), codec=CodecSpec(name="float16"))
    assert stored["word"] == Field(name="word", dtype="uint8", shape=(None,))
    bad = recipe.model_copy(update={"compress": CompressOptions.model_validate({"fields": {"image": "png", "img": "zstd"}})})
    with pytest.raises(ConfigError) as caught:
        bad.check(schema)
    assert caught.value.problems == [
        "compress.fields: no field 'img'; did you mean 'image'? known: image, word",
        (
            "compress.fields.image: png takes uint8 or uint16, grey, RGB or RGBA, of shape (height, width[, channels]); found "
            "float32 (8, 8)"
        ),
    ]


@pytest.mark.parametrize(
    "override, problem",
    [
        ("standardise.features.age=robusd", "[standardise.features] age: no method 'robusd'; did you mean 'robust'"),
        ("standardise.features.age.method=robust", None),
        ("standardise.metod=robust", "[standardise] metod: unknown key; did you mean 'method'"),
        ("compress.fields.image=jpg", "[compress.fields] image: no codec 'jpg'; did you mean 'jpeg'"),
        ("compress.columns=png", "[compress] columns: expected one of zstd, gzip"),
        ("shard.compress=['image']", "[shard] compress: unknown key"),
    ],
)
def test_tables_of_policies_and_codecs(load: Any, override: str, problem: str | None) -> None:
    if problem is None:
        assert load(GOOD, override).standardise.policies["age"].method == "robust"
    else:
        (found,) = problems(load, GOOD, override)
        assert problem in found


def test_how_the_input_is_cut_is_no_part_of_the_recipe(load: Any) -> None:
    """It may not make a new version: the result is the same."""
    one, other = (load(GOOD, f"read.task_bytes={size}").recipe() for size in (10, 10**6))
    assert one.model_dump() == other.model_dump()
    assert one.task_bytes != other.task_bytes


@pytest.mark.parametrize(
    "table, problem",
    [
        ("format = 'sql'", "[read] query: missing; add it"),
        (
            "format = 'sql'\npath = 'a'\nquery = 'select 1'",
            "[read] path: the query says what is read; leave path out, found 'a'",
        ),
        (
            "format = 'sql'\nquery = 'drop table x'",
            "[read] query: expected a query that reads: SELECT …, WITH …, FROM …, TABLE …",
        ),
        ("format = 'table'", "[read] path: missing; add it"),
        ("format = 'table'\npath = 'a'\noptions = { a = 1 }", "[read] options: what Spark reads takes no options here"),
        ("format = 'table'\npath = ['a', 'b']", "[read] path: expected the name of one table, such as db.table"),
    ],
)
def test_tables_and_queries(load: Any, table: str, problem: str) -> None:
    (found,) = problems(load, f"name = 'x'\n[read]\n{table}\n[shard]\ncount = 1")
    assert found.startswith(problem)


def test_a_query_needs_no_path(load: Any) -> None:
    config = load("name = 'x'\n[read]\nformat = 'sql'\nquery = ' (WITH a AS (SELECT 1) SELECT * FROM a)'\n[shard]\ncount = 1")
    assert config.read.by_spark
    assert config.read.paths == ()


def test_fields_after_the_functions_of_the_teams_own() -> None:
    """All at once: what a function is not, and what tables after it name that it dropped or never made."""
    schema = Schema(fields=(Field(name="x", dtype="float32"), Field(name="number", dtype="int64")))
    function = "tests.unit.own_functions:double"
    options = MapOptions(function=function, options={"buy": 1}, drop=("x",), fields={"v": {"dtype": "int8", "shape": [2]}})
    recipe = Recipe(
        key=("x",), map=(options,), split=SplitOptions(fractions={"a": 1.0}, stratify="x"),
        shard=ShardOptions(count=1, per_split={"b": 2}, order="keep", order_by=("number", "v", "w")),
        standardise=StandardiseOptions(split="trian"),
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        recipe.check(schema)
    assert caught.value.problems == [
        "split.stratify: no field 'x'; known: number, v",
        "shard.order_by: no field 'w'; known: number, v",
        "shard.order_by: 'v' is int8 (2,); expected numbers, bools, timestamps or strings",
        "shard.per_split: no split 'b'; known: a",
        "standardise.split: no split 'trian'; known: a",
        f"[[map]] {function}: options: got an unexpected keyword argument 'buy'",
    ]
