"""Frames: the search for persons, and the decision about a frame. This room imports only `model`."""
