"""For tests of code that takes a reader, by Petastorm's names."""
