"""Groups of windows in which the same neurons push: hierarchical clustering by the angle between their pushes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

#: Maximum number of groups of one kind of wrong decisions.
GROUPS_MAX = 8

#: Minimum number of windows of a group. The windows of smaller groups have no common cause.
MEMBERS_MIN = 3

#: Minimum silhouette of a division into groups. With less, all windows are one group.
SILHOUETTE_MIN = 0.1

#: Number of the windows without a group.
ALONE = -1


def angles(pushes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances between windows: 1 minus the cosine of the angle between their pushes, [N, N].

    Args:
        pushes: Pushes of each window, [N, D].
    """
    lengths = np.linalg.norm(pushes, axis=1, keepdims=True)
    directions = pushes.astype(np.float64) / np.where(lengths > 0, lengths, 1)
    distances = np.clip(1 - directions @ directions.T, 0, 2)
    np.fill_diagonal(distances, 0)
    return (distances + distances.T) / 2


def silhouette(distances: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return the mean silhouette of a division into groups (Rousseeuw 1987), between -1 and 1.

    The silhouette of a window is (b - a) / max(a, b), where a is its mean distance to its own group and b that to the
    nearest other group. It is 0 for a window that is alone.

    Args:
        distances: Distances between the windows, [N, N].
        groups: Number of the group of each window, [N].
    """
    numbers = np.unique(groups)
    if len(numbers) < 2:
        return 0.0
    members = groups[:, None] == numbers
    sizes = members.sum(axis=0)
    sums = distances @ members
    own = members.argmax(axis=1)
    rows = np.arange(len(groups))
    inside = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    means = sums / sizes
    means[rows, own] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    values = np.where((sizes[own] > 1) & (larger > 0), (outside - inside) / np.where(larger > 0, larger, 1), 0.0)
    return float(values.mean())


def group(pushes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Divide windows into groups with similar pushes.

    Average linkage of the angles between pushes; the number of groups is the one with the best silhouette.

    Args:
        pushes: Pushes of each window, [N, D].

    Returns:
        Number of the group of each window, [N]: 0 is the largest group, and ALONE means no group.
    """
    count = len(pushes)
    if count < 2 * MEMBERS_MIN:
        return np.zeros(count, np.int64)
    distances = angles(pushes)
    tree = linkage(squareform(distances, checks=False), method="average")
    divisions = [fcluster(tree, k, criterion="maxclust") for k in range(2, min(GROUPS_MAX + 1, count))]
    scores = [silhouette(distances, division) for division in divisions]
    best = int(np.argmax(scores))
    if scores[best] < SILHOUETTE_MIN:
        return np.zeros(count, np.int64)
    return _by_size(divisions[best].astype(np.int64))


def _by_size(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups by their size, the largest first, and dissolve small ones."""
    numbers, sizes = np.unique(groups, return_counts=True)
    result = np.full(len(groups), ALONE, np.int64)
    for rank, index in enumerate(np.argsort(-sizes, kind="stable")):
        if sizes[index] >= MEMBERS_MIN:
            result[groups == numbers[index]] = rank
    return result


def central(pushes: NDArray[np.float32], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the members of a group, those in the middle first: by their mean angle to the other members.

    Args:
        pushes: Pushes of each window, [N, D].
        members: Indices of the members.
    """
    order = angles(pushes[members]).mean(axis=1).argsort(kind="stable")
    return np.asarray(members[order], np.int64)
