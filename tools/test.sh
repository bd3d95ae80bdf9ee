#!/usr/bin/env bash
# Runs all tests in two parts: those without a ROS graph, and those with one. Tests with a ROS graph wait for other
# processes most of the time, so that more of them run at once than there are cores; the tests of a file stay together,
# because they share nodes. Arguments are passed to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export ROS_PYTHON_CHECK_FIELDS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

# part MARKERS OPTION...: pytest's status 5 means that no test was selected, which is no error in one of the parts.
part() {
    local status=0
    python -m pytest -m "$@" || status=$?
    [ $status -eq 5 ] && empty=$((empty + 1)) && return 0
    return $status
}

empty=0
part "not ros" -n logical --maxprocesses 4 "$@"
part ros -n 3 --dist loadfile "$@"
if [ $empty -eq 2 ]; then
    echo "no test was selected: $*" >&2
    exit 5
fi
