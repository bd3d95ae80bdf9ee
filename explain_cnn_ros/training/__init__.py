"""Training of the classifier: data sets, augmentation, hard negatives and the training loop."""
