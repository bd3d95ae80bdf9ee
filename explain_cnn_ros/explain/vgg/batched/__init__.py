"""Explanations of VGGs in a few hundred large operations, for GPUs.

The host starts all operations without waiting for a result, and downloads one tensor in the end. All shapes follow from
the settings alone, so the operations can be captured as a CUDA graph. The results are those of the path that CPUs use
(`Ranker`, `locate`, `prove`), which remains the reference.
"""
