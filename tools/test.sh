#!/usr/bin/env bash
# All tests, in two parts: those that start nodes are about time, and have the machine to themselves; the rest runs on
# several cores. Arguments are pytest's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export ROS_PYTHON_CHECK_FIELDS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

# part WHICH OPTION...: pytest's 5 says that nothing was chosen, which may be so in one part.
part() {
    local status=0
    python -m pytest -m "$@" || status=$?
    [ $status -eq 5 ] && nothing=$((nothing + 1)) && return 0
    return $status
}

nothing=0
part "not ros" -n logical --maxprocesses 4 "$@"
part ros "$@"
if [ $nothing -eq 2 ]; then
    echo "no test was chosen: $*" >&2
    exit 5
fi
