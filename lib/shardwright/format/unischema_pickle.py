"""A Unischema as the pickle that stock Petastorm stores it as, written opcode by opcode; the reading half is
`format.unischema`.

Source: petastorm 0.13.1, ``unischema.py`` and ``codecs.py``; its class and attribute names are what the pickle spells out.
Neither petastorm, nor pyspark, nor a pickle module is needed, and the bytes depend on the schema alone.
"""

from __future__ import annotations

from shardwright.errors import SchemaError
from shardwright.format import pickle_opcodes as op
from shardwright.format.unischema import StoredCodec, StoredField, StoredUnischema

_CODECS = {"ndarray": "NdarrayCodec", "compressed_ndarray": "CompressedNdarrayCodec"}

# A Unischema also offers its fields as attributes. One with the name of a method would replace the method.
_MEMBERS = frozenset(
    {"as_spark_schema", "create_schema_view", "fields", "from_arrow_schema", "make_namedtuple", "make_namedtuple_tf"}
)


def dump_unischema(schema: StoredUnischema) -> bytes:
    """The pickled `petastorm.unischema.Unischema`; the same bytes for the same schema.

    Raises SchemaError for a name that is no identifier: Petastorm makes a namedtuple of it.
    """
    if not schema.name.isidentifier():
        raise SchemaError(f"Unischema name {schema.name!r}: expected a Python identifier; Petastorm names a class after it")
    numbers = {field.name: number for number, field in enumerate(schema.fields)}
    fields = ((op.text(field.name), _field(field) + op.remember(numbers[field.name])) for field in schema.fields)
    attributes = ((op.text(field), op.recall(number)) for field, number in numbers.items() if field not in _MEMBERS)
    state = (
        (op.text("_name"), op.text(schema.name)),
        (op.text("_fields"), op.call(op.named("collections", "OrderedDict")) + op.set_items(fields)),
        *attributes,
    )
    return op.program(op.instance(op.named("petastorm.unischema", "Unischema"), state=op.mapping(state)))


def _field(field: StoredField) -> bytes:
    dtype = op.named("decimal", "Decimal") if field.dtype == "Decimal" else op.named("numpy", field.dtype)
    shape = op.sequence(op.NONE if size is None else op.integer(size) for size in field.shape)
    arguments = (op.text(field.name), dtype, shape, _codec(field.codec), op.boolean(field.nullable))
    return op.instance(op.named("petastorm.unischema", "UnischemaField"), op.sequence(arguments))


def _codec(codec: StoredCodec | None) -> bytes:
    if codec is None:
        return op.NONE
    if codec.kind == "image":
        extension, quality = f".{codec.image_format or 'png'}", 80 if codec.quality is None else codec.quality
        state = op.mapping([(op.text("_image_codec"), op.text(extension)), (op.text("_quality"), op.integer(quality))])
        return op.instance(op.named("petastorm.codecs", "CompressedImageCodec"), state=state)
    if codec.kind == "scalar":
        state = op.mapping([(op.text("_spark_type"), _spark_type(codec))])
        return op.instance(op.named("petastorm.codecs", "ScalarCodec"), state=state)
    return op.instance(op.named("petastorm.codecs", _CODECS[codec.kind]))


def _spark_type(codec: StoredCodec) -> bytes:
    cls = op.named("pyspark.sql.types", codec.spark_type or "StringType")
    if codec.precision is None:
        return op.instance(cls)
    numbers = [(op.text("precision"), op.integer(codec.precision)), (op.text("scale"), op.integer(codec.scale or 0))]
    return op.instance(cls, state=op.mapping([*numbers, (op.text("hasPrecisionInfo"), op.boolean(True))]))
