"""Explanations of decisions: neurons ranked, located in the image and silenced. This room imports only `model`."""
