"""Malformed input at scale: each input of the package must be read or refused, within a second and a gigabyte."""
