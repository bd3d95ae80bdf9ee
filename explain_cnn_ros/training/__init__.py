"""Training the classifier: data sets, augmentation, hard negatives, the training loop."""
