"""What lies on disk: layout of columns and files, index, manifest, statistics, Petastorm's metadata."""

FORMAT_VERSION = 2
