"""Weights of torchvision's networks from other training programs, converted to weights files of this package."""
