"""Causes of wrong decisions: windows that the same neurons decided wrongly."""
