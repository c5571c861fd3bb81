"""Shuffling buffers, by Petastorm's names."""
