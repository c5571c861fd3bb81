"""Writing of datasets, by Petastorm's names."""
