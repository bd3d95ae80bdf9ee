# The choice of the ROS 2 distribution, for tools/setup.sh (bash) and tools/env.sh (bash or zsh). Source it after `root`
# is set to the folder of the checkout.
#
# The first of these that applies is taken:
#   1. ROS_DISTRO. The setup files of ROS set it.
#   2. The ROS 2 that is sourced in this shell.
#   3. Jazzy: the ROS 2 that .venv was created for, or /opt/ros/jazzy.
#   4. The newest ROS 2 in /opt/ros that is not older than Jazzy.
#   5. Jazzy from wheels.
# Distributions do not share files that are built: Jazzy has .venv, build and install, Kilted has .venv-kilted,
# build-kilted and install-kilted, and so on.

# Print the distribution of a ROS 2 that is installed in a folder, or that .venv was created for. Print nothing if it is
# not known.
_explain_distribution_of() {
    local hook
    for hook in "$1/share/ros_environment/environment/1.ros_distro.sh" \
        "$1/../ros_environment/share/ros_environment/environment/1.ros_distro.sh" \
        "$1/ros_environment/share/ros_environment/environment/1.ros_distro.sh"; do
        if [ -f "$hook" ]; then
            sed -n 's/^export ROS_DISTRO=//p' "$hook" | tr -d '"' | head -n 1
            return
        fi
    done
    case "$1" in
    "$root/.venv" | "$root/install" | "$root/install/"*) echo jazzy ;;
    "$root/.venv-"*) echo "${1#"$root/.venv-"}" ;;
    "$root/install-"*)
        hook="${1#"$root/install-"}"
        echo "${hook%%/*}"
        ;;
    "$_explain_opt/"*)
        hook="${1#"$_explain_opt/"}"
        echo "${hook%%/*}"
        ;;
    esac
}

# Print the folder of the ROS 2 that is sourced in this shell, from apt or built from source. Print nothing if there is
# none.
_explain_sourced() {
    local rest="${AMENT_PREFIX_PATH:-}:" prefix
    while [ -n "$rest" ]; do
        prefix="${rest%%:*}"
        rest="${rest#*:}"
        [ -n "$prefix" ] && [ -d "$prefix/share/rclpy" ] || continue
        if [ -f "$prefix/setup.bash" ]; then
            echo "$prefix"
            return
        fi
        # ROS 2 built from source has a folder for each package.
        if [ -f "$prefix/../setup.bash" ]; then
            dirname "$prefix"
            return
        fi
    done
}

# _explain_remembered VENV DISTRIBUTION: print the folder of the ROS 2 from apt or built from source that a virtual
# environment was created for, unless it is of another distribution.
_explain_remembered() {
    local world prefix found
    [ -f "$1/.world" ] || return 0
    IFS=' ' read -r world prefix <"$1/.world"
    [ "$world" = apt ] && [ -f "$prefix/setup.bash" ] || return 0
    found="$(_explain_distribution_of "$prefix")"
    [ "${found:-$2}" != "$2" ] || echo "$prefix"
}

# Set _explain_distribution, _explain_suffix (of the folders), _explain_ros (the folder of ROS 2; "" for wheels) and
# _explain_why.
_explain_choose() {
    local sourced of_sourced name newest=""
    _explain_opt="${EXPLAIN_OPT_ROS:-/opt/ros}"
    _explain_ros="" _explain_suffix=""
    sourced="$(_explain_sourced)"
    of_sourced=""
    [ -z "$sourced" ] || of_sourced="$(_explain_distribution_of "$sourced")"
    if [ -n "${ROS_DISTRO:-}" ]; then
        case "$ROS_DISTRO" in
        *[!a-z]*)
            echo "ROS_DISTRO is '$ROS_DISTRO'. Set it to the name of a ROS 2 distribution in lower case, or unset it." >&2
            return 1
            ;;
        esac
        _explain_distribution="$ROS_DISTRO" _explain_why="ROS_DISTRO is $ROS_DISTRO"
    elif [ -n "$sourced" ]; then
        _explain_distribution="${of_sourced:-jazzy}" _explain_why="it is sourced"
    elif [ -n "$(_explain_remembered "$root/.venv" jazzy)" ]; then
        _explain_distribution=jazzy _explain_why=".venv was created for it"
    elif [ -f "$_explain_opt/jazzy/setup.bash" ]; then
        _explain_distribution=jazzy _explain_why="it is the default"
    else
        for name in $(_explain_installed); do
            newest="$name"
        done
        _explain_distribution="${newest:-jazzy}"
        _explain_why="it is the newest in $_explain_opt"
        [ -n "$newest" ] || _explain_why="none is sourced, and none is in $_explain_opt"
    fi
    [ "$_explain_distribution" = jazzy ] || _explain_suffix="-$_explain_distribution"
    # A sourced ROS 2 whose distribution is not known is assumed to be the requested one.
    if [ -n "$sourced" ] && [ "${of_sourced:-$_explain_distribution}" = "$_explain_distribution" ]; then
        _explain_ros="$sourced"
    else
        _explain_ros="$(_explain_remembered "$root/.venv$_explain_suffix" "$_explain_distribution")"
        if [ -z "$_explain_ros" ] && [ -f "$_explain_opt/$_explain_distribution/setup.bash" ]; then
            _explain_ros="$_explain_opt/$_explain_distribution"
        fi
    fi
}

# Print the distributions in /opt/ros that are not older than Jazzy, one per line, the newest one last. Their names are
# in the order of the alphabet. ROS 1 has no rclpy.
_explain_installed() {
    [ -d "$_explain_opt" ] || return 0
    find "$_explain_opt/" -mindepth 2 -maxdepth 2 -name setup.bash | LC_ALL=C sort | while IFS= read -r name; do
        name="${name%/setup.bash}"
        [ -d "$name/share/rclpy" ] || continue
        name="${name##*/}"
        case "$name" in
        *[!a-z]* | [a-i]*) ;;
        *) echo "$name" ;;
        esac
    done
}

# Remove a ROS 2 of another distribution, and what this checkout has built for it, from the variables of this shell.
_explain_drop_others() {
    local variable entry rest left prefixes="" found
    # If a folder of ROS in AMENT_PREFIX_PATH belongs to another distribution, so does everything that extends it.
    rest="${AMENT_PREFIX_PATH:-}:"
    while [ -n "$rest" ]; do
        entry="${rest%%:*}"
        rest="${rest#*:}"
        [ -n "$entry" ] || continue
        found="$(_explain_distribution_of "$entry")"
        if [ -n "$found" ] && [ "$found" != "$_explain_distribution" ]; then
            prefixes="$AMENT_PREFIX_PATH:"
            break
        fi
    done
    for variable in AMENT_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH PATH; do
        eval "rest=\${$variable:-}"
        [ -n "$rest" ] || continue
        rest="$rest:" left="" found=""
        while [ -n "$rest" ]; do
            entry="${rest%%:*}"
            rest="${rest#*:}"
            if _explain_is_other "$entry" "$prefixes"; then
                found=yes
            elif [ "$entry" != "$root" ]; then # tools/env.sh adds the sources again, before the overlay
                left="$left:$entry"
            fi
        done
        [ -n "$found" ] || continue
        left="${left#:}"
        if [ -n "$left" ]; then
            export "$variable=$left"
        else
            unset "$variable"
        fi
        # Python from wheels does not look for its libraries again while this is set.
        unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
    done
}

# Return whether a folder is in the virtual environment or overlay of another distribution, or below one of the prefixes.
_explain_is_other() {
    local rest="$2" prefix
    case "$1/" in
    "$root/.venv$_explain_suffix/"* | "$root/install$_explain_suffix/"*) return 1 ;;
    "$root/.venv/"* | "$root/.venv-"* | "$root/install/"* | "$root/install-"*) return 0 ;;
    esac
    while [ -n "$rest" ]; do
        prefix="${rest%%:*}"
        rest="${rest#*:}"
        [ -n "$prefix" ] || continue
        case "$1/" in
        "$prefix/"*) return 0 ;;
        esac
    done
    return 1
}

_explain_forget() {
    unset -f _explain_distribution_of _explain_sourced _explain_remembered _explain_choose _explain_installed \
        _explain_drop_others _explain_is_other _explain_forget
    unset _explain_opt _explain_ros _explain_distribution _explain_suffix _explain_why
}
