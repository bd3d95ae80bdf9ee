#!/usr/bin/env bash
# Runs the tests that are not slow, with --slow only these, and with --all both. Other arguments are passed to pytest and
# select among all tests. There are two parts: tests without a ROS graph, and tests with one. In the first part, tests that
# follow one another run in the same process, because they share fixtures. The tests of the second part wait for other
# processes most of the time, so that more of them run at once than there are cores; the tests of a file stay together,
# because they share nodes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export ROS_PYTHON_CHECK_FIELDS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
# The tests start hundreds of Python processes. Without bytecode, each of them would compile the package.
unset PYTHONDONTWRITEBYTECODE

case ${1-} in
"") speed="not slow" ;;
--slow) speed=slow && shift ;;
--all) speed="slow or not slow" && shift ;;
*) speed="slow or not slow" ;;
esac

# part MARKERS OPTION...: pytest's status 5 means that no test was selected, which is no error in one of the parts.
part() {
    local status=0
    python -m pytest -m "($1) and ($speed)" "${@:2}" || status=$?
    [ $status -eq 5 ] && empty=$((empty + 1)) && return 0
    return $status
}

empty=0
part "not ros" -n logical --maxprocesses 4 --dist worksteal "$@"
part ros -n 4 --dist loadfile "${@:-test/ros}"  # All tests with a graph are in this folder.
if [ $empty -eq 2 ]; then
    echo "no test was selected: $*" >&2
    exit 5
fi
