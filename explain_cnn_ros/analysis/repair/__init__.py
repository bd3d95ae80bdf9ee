"""Repair of a network by the wrong decisions of an analysis, and the proof of its effect."""
