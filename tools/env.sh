# Source this file in bash or zsh: `source tools/env.sh`. Then python, rclpy, the messages and the executables of this
# package (explain_node, explain-cnn, play_bag) work in this shell, with ROS 2 from apt or from wheels.
# `make setup` must have been run before. ROS_DISTRO selects the distribution; see tools/distribution.sh.

_explain_env() {
    local here root venv install world prefix shell site had_nounset=""
    if [ -n "${BASH_VERSION:-}" ]; then
        shell=bash here="${BASH_SOURCE[0]}"
    elif [ -n "${ZSH_VERSION:-}" ]; then
        shell=zsh here="$_explain_env_file"
    else
        echo "tools/env.sh: source this from bash or zsh" >&2
        return 1
    fi
    root="$(cd "$(dirname "$here")/.." && pwd)"
    . "$root/tools/distribution.sh"
    if ! _explain_choose; then
        _explain_forget
        return 1
    fi
    venv="$root/.venv$_explain_suffix" install="$root/install$_explain_suffix"
    if [ ! -f "$venv/.world" ] || [ ! -d "$install/explain_cnn_ros" ]; then
        echo "tools/env.sh: the package is not built yet for ROS 2 $_explain_distribution ($_explain_why)." \
            "Run \`make setup\` in $root first. ROS_DISTRO selects another distribution." >&2
        _explain_forget
        return 1
    fi
    IFS=' ' read -r world prefix <"$venv/.world"
    _explain_drop_others

    # Prepend a folder to a path variable, unless it is there already.
    _explain_prepend() {
        local value
        eval "value=\${$1:-}"
        case ":$value:" in
        *":$2:"*) ;;
        *) export "$1=$2${value:+:$value}" ;;
        esac
    }

    if [ "$world" = apt ]; then
        # ROS's setup files read variables that may be unset.
        case $- in *u*) had_nounset=1 && set +u ;; esac
        case ":${AMENT_PREFIX_PATH:-}:" in
        *":$prefix:"*) ;;
        *) . "$prefix/setup.$shell" ;;
        esac
        . "$install/local_setup.$shell"
        [ -z "$had_nounset" ] || set -u
    else
        export ROS_DISTRO="$_explain_distribution" # as the setup files of ROS do
        if [ -n "${RMW_IMPLEMENTATION:-}" ] && [ ! -e "$venv/lib/lib$RMW_IMPLEMENTATION.so" ]; then
            echo "tools/env.sh: the wheels do not have $RMW_IMPLEMENTATION, so RMW_IMPLEMENTATION is unset" >&2
            unset RMW_IMPLEMENTATION
        fi
        _explain_prepend AMENT_PREFIX_PATH "$venv"
        _explain_prepend AMENT_PREFIX_PATH "$install/explain_cnn_ros"
        _explain_prepend LD_LIBRARY_PATH "$install/explain_cnn_ros/lib"
        # There is no `ros2 run` in the wheels, so the executables must be on the path.
        for site in "$install"/explain_cnn_ros/lib/python*/site-packages; do
            _explain_prepend PYTHONPATH "$site"
        done
    fi
    _explain_prepend PATH "$install/explain_cnn_ros/lib/explain_cnn_ros"
    # The sources precede the overlay, so that edits take effect at once. The overlay adds the generated msg and srv, see
    # explain_cnn_ros/__init__.py.
    _explain_prepend PYTHONPATH "$root"
    _explain_prepend PATH "$venv/bin"
    export VIRTUAL_ENV="$venv"
    unset -f _explain_prepend
    _explain_forget
}
# zsh knows the name of the sourced file only outside of functions, and other shells cannot parse the expansion.
[ -z "${ZSH_VERSION:-}" ] || eval '_explain_env_file="${(%):-%x}"'
_explain_env
