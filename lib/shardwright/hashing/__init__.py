"""Sample keys, keyed hashes and permutations: everything that decides where and when a sample comes."""

from shardwright.hashing.keyed import keyed_hash, mix64
from shardwright.hashing.permutation import Permutation, permuted
from shardwright.hashing.places import place_keys
from shardwright.hashing.sample_key import KEY_BYTES, path_keys, sample_keys

__all__ = ["KEY_BYTES", "Permutation", "keyed_hash", "mix64", "path_keys", "permuted", "place_keys", "sample_keys"]
