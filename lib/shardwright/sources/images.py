"""Pictures: JPEG, PNG and WebP files, kept as they are; the folder is the class, or a CSV says what each shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from shardwright.errors import InputError
from shardwright.sources.base import REJECT, InputFile
from shardwright.sources.columns import PICTURE, Asked, Declaration
from shardwright.sources.csv import CsvOptions
from shardwright.sources.files import select_files
from shardwright.sources.labels import LabelledFiles, Labels, open_labels
from shardwright.sources.whole_files import WholeFiles, open_whole

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class ImagesOptions(BaseModel):
    """Keys of ``[read.options]`` of the format ``images``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: str | None = None
    """A CSV with a row for each picture, absolute or relative to the root of the input; then folders are no classes."""
    path_column: str | None = None
    """The column of `labels` that names the picture, relative to the root; "path", "file", "filename" or "image" by default."""
    labels_options: CsvOptions = CsvOptions()
    """How that CSV is written: the options of the format ``csv``."""


@dataclass(frozen=True)
class ClassFolders:
    """`image` (the bytes) and, where pictures lie in class folders, `label` and `class_name`.

    `label` is int32, the index of the class in the sorted list of classes: a class added later can move it; `class_name` stays.
    """

    classes: tuple[str, ...]

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:
        """The columns of these pictures."""
        if not self.classes:
            return {"image": contents}
        label = {name: index for index, name in enumerate(self.classes)}
        names = [_class(file) for file in files]
        return {
            "image": contents,
            "label": pa.array([label[name] for name in names], pa.int32()),
            "class_name": pa.array(names, pa.string()),
        }


@dataclass(frozen=True)
class Labelled:
    """`image` (the bytes), and the columns of the labels file."""

    labels: Labels

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:
        """The columns of these pictures; one without exactly one row is rejected."""
        rows, reasons = self.labels.look_up(files)
        columns = {name: rows[name].combine_chunks() for name in self.labels.fields}
        return {**columns, "image": contents, REJECT: pa.array(reasons, pa.string())}


def open_images(files: Sequence[InputFile], asked: Asked, options: ImagesOptions) -> WholeFiles:
    """The pictures among `files`, by extension. The first folder of a name below the root is the class: `<class>/…/x.jpg`.

    Raises InputError when there is no picture, when some lie in class folders and some do not, for
    one name under two roots, and for a labels file that is none.
    """
    labels = None
    if options.labels is not None:
        labels = open_labels(options.labels, options.path_column, options.labels_options, files, asked)
        files = [file for file in files if file.path != labels.file.path]
    usable = select_files(
        files, lambda file: file.name.lower().endswith(_SUFFIXES), expected=f"pictures ({', '.join(_SUFFIXES)})"
    )
    inferred: dict[str, Declaration] = {"image": PICTURE}
    if labels:
        if "image" in labels.fields:
            raise InputError(
                f"{labels.file.path}: expected another name than 'image' for a column, that is the picture's field; give it "
                "one by read.rename"
            )
        rename = {name: column for name, column in asked.rename.items() if column not in labels.header}
        pictures = open_whole(usable, Labelled(labels), {**inferred, **labels.fields}, replace(asked, rename=rename))
        return LabelledFiles.of(pictures, labels)
    classes = _classes(usable)
    if classes:
        inferred |= {"label": {"dtype": "int32"}, "class_name": {"dtype": "string"}}
    return open_whole(usable, ClassFolders(classes), inferred, asked)


def _classes(files: Sequence[InputFile]) -> tuple[str, ...]:
    classes = tuple(sorted({_class(file) for file in files} - {""}))
    flat = next((file for file in files if not _class(file)), None)
    if classes and flat:
        raise InputError(
            f"{flat.path}: expected every picture in a class folder such as {classes[0]!r}, found one beside them; move it, or "
            "read the class folders alone by a glob such as */*.jpg"
        )
    return classes


def _class(file: InputFile) -> str:
    """The class folder in a file's name; empty where it lies directly in the root."""
    return file.name.partition("/")[0] if "/" in file.name else ""
