"""Pictures in folders: JPEG, PNG and WebP files, kept as they are, the folder as the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from shardwright.errors import InputError
from shardwright.schema import Schema
from shardwright.sources.base import BATCH_BYTES, InputFile, Task
from shardwright.sources.columns import Declaration, declare
from shardwright.sources.files import check_unique_names, select_files

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass
class ImagesSource:
    """One sample a picture: `image` (its bytes) and, where pictures lie in class folders, `label` and `class_name`.

    `label` is int32, the index of the class in the sorted list of classes: a class added later can move it; `class_name` stays.
    """

    schema: Schema
    files: tuple[InputFile, ...]
    classes: tuple[str, ...]
    sample_per_file: bool = True

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the files: a task names its own, and a list of millions would go to every executor."""
        return type(self), (self.schema, (), self.classes)

    @property
    def addressable(self) -> bool:
        """Never: a file has to be opened for each sample."""
        return False

    def unit(self, number: int) -> pa.RecordBatch:
        """Nothing can be taken from the input without reading it."""
        raise NotImplementedError

    def tasks(self, task_bytes: int) -> list[Task]:
        """Files in order, packed to about `task_bytes`."""
        out: list[Task] = []
        packed: list[InputFile] = []
        size = 0
        for file in self.files:
            if packed and size + file.bytes > task_bytes:
                out.append(Task(files=tuple(packed), start=0, stop=len(packed), bytes=size))
                packed, size = [], 0
            packed.append(file)
            size += file.bytes
        return [*out, Task(files=tuple(packed), start=0, stop=len(packed), bytes=size)]

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The pictures of a task's files. Raises InputError for a file that can't be read."""
        files: list[InputFile] = []
        pictures: list[bytes] = []
        size = 0
        for file in task.files:
            files.append(file)
            pictures.append(_read(file))
            size += len(pictures[-1])
            if size >= BATCH_BYTES:
                yield self._batch(files, pictures)
                files, pictures, size = [], [], 0
        if files:
            yield self._batch(files, pictures)

    def _batch(self, files: list[InputFile], pictures: list[bytes]) -> pa.RecordBatch:
        columns = {"image": pa.array(pictures, pa.binary())}
        if self.classes:
            label = {name: index for index, name in enumerate(self.classes)}
            names = [_class(file) for file in files]
            columns["label"] = pa.array([label[name] for name in names], pa.int32())
            columns["class_name"] = pa.array(names, pa.string())
        sources = pa.array([file.name for file in files], pa.string())
        return pa.RecordBatch.from_arrays(
            [*(columns[name] for name in self.schema.names), sources], names=[*self.schema.names, "_source"]
        )


def open_images(
    files: Sequence[InputFile], *, fields: Mapping[str, Declaration] | None = None, columns: Sequence[str] | None = None
) -> ImagesSource:
    """The pictures among `files`, by extension. The first folder of a name below the root is the class: `<class>/…/x.jpg`.

    Raises InputError when there is none, when some lie in class folders and some do not, and for one name under two roots.
    """
    expected = f"pictures ({', '.join(_SUFFIXES)})"
    usable = select_files(files, lambda file: file.name.lower().endswith(_SUFFIXES), expected=expected)
    check_unique_names(usable)
    classes = tuple(sorted({_class(file) for file in usable} - {""}))
    flat = next((file for file in usable if not _class(file)), None)
    if classes and flat:
        raise InputError(
            f"{flat.path}: expected every picture in a class folder such as {classes[0]!r}, found one beside them; move it, or "
            "read the class folders alone by a glob such as */*.jpg"
        )
    inferred: dict[str, Declaration] = {"image": {"dtype": "uint8", "shape": (None, None, 3), "codec": "image"}}
    if classes:
        inferred |= {"label": {"dtype": "int32"}, "class_name": {"dtype": "string"}}
    return ImagesSource(declare(inferred, fields, columns, where=usable[0].path), usable, classes)


def _class(file: InputFile) -> str:
    """The class folder in a file's name; empty where it lies directly in the root."""
    return file.name.partition("/")[0] if "/" in file.name else ""


def _read(file: InputFile) -> bytes:
    try:
        with open(file.path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{file.path}: can't be read ({error.strerror})") from error
