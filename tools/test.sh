#!/usr/bin/env bash
# Runs all tests in two parts. Tests that start nodes depend on time and run alone; the others run on several cores.
# Arguments are passed to pytest.
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
part ros "$@"
if [ $empty -eq 2 ]; then
    echo "no test was selected: $*" >&2
    exit 5
fi
