# The part that the integration suites share: a sandbox, a busybox root
# filesystem, assertions and a runner. A suite is a bash script that sources this
# file, names its packages, defines
#
#   setup       which starts the caller's daemon, if it has one
#   it_...      the cases, which run in the order of the file
#   teardown    which stops the daemon again
#
# and ends with `suite "$@"`. A case is a function in which every command has to
# succeed; its name is the fact it states. It may call `skip REASON`.
#
#   RUNTIME=/usr/sbin/runc integration/docker/run [PATTERN]
#
# runs a suite, or those of its cases whose name contains PATTERN, through another
# runtime than the release binary. KEEP=1 keeps the temporary folder. CRIU_FOLDER is
# where criu is, when the installed one does not work with this kernel (hack/criu).
#
#   integration/fetch-callers FOLDER forky
#   CALLERS=FOLDER integration/docker/run
#
# runs it with the callers of another Debian release.

HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
SUITE=$(basename "$HERE")
REPOSITORY=$(cd "$HERE/../.." && pwd)
# Whoever has several patterns gives them one by one. SLOWNESS=5 is for a machine where
# everything takes five times as long.
SLOWNESS=${SLOWNESS:-1}
# The names and values of limits differ between the versions of cgroups.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then CGROUP_VERSION=2; else CGROUP_VERSION=1; fi

die() {
    echo "$SUITE: $*" >&2
    exit 1
}

# packages NAME... : installs those that are missing.
packages() {
    local missing=()
    local name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "# installing ${missing[*]}"
    # A package must not start its daemons: the suites start their own.
    local policy=/usr/sbin/policy-rc.d
    local ours=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        ours=1
    fi
    local options=(-y -q -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false)
    local status=0
    DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "${missing[@]}" >/dev/null; } ||
        status=$?
    [ -z "$ours" ] || rm -f $policy
    [ $status -eq 0 ] || die "cannot install ${missing[*]}"
}

find_runtime() {
    if [ -z "${RUNTIME:-}" ]; then
        local host
        host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')
        local target=${CARGO_TARGET_DIR:-$REPOSITORY/target}
        for RUNTIME in "$target"/*-musl/release/orlop "$target/$host/release/orlop" "$target/release/orlop"; do
            [ -x "$RUNTIME" ] && break
        done
    fi
    RUNTIME=$(realpath -m -- "$(command -v -- "$RUNTIME" || echo "$RUNTIME")")
    [ -x "$RUNTIME" ] || die "no runtime at $RUNTIME: run cargo build --release, or set RUNTIME"
}

# ---- the sandbox -------------------------------------------------------------

# Everything happens in mount, network and pid namespaces of its own. When the
# first process of the pid namespace ends, the kernel kills the daemons, shims and
# containers with it, and their mounts and networks vanish with the namespaces. What
# is left for the outer process is the temporary folder and the cgroups.
sandbox() {
    [ "$(id -u)" = 0 ] || die "has to be run by root"
    find_runtime
    [ -z "${CALLERS:-}" ] || CALLERS=$(realpath -e -- "$CALLERS") || die "no folder $CALLERS"
    packages "${PACKAGES[@]}"
    WORK=$(mktemp -d "/var/tmp/orlop-$SUITE.XXXXXX")
    # Containers of unprivileged users reach their root filesystems through it.
    chmod 755 "$WORK"
    CGROUP=/orlop-$SUITE-${WORK##*.}
    export RUNTIME WORK CGROUP CALLERS
    unset XDG_RUNTIME_DIR DOCKER_HOST DOCKER_CONTEXT CONTAINER_HOST CONTAINERD_ADDRESS CONTAINERD_NAMESPACE
    local child=
    trap 'clean_up "$child"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # A shell's background jobs ignore SIGINT and SIGQUIT, and so would everything
    # started from here, down to the containers.
    ORLOP_SANDBOX=1 unshare --mount --net --pid --fork --kill-child --mount-proc \
        env --default-signal=INT,QUIT bash "$HERE/run" "$@" </dev/null &
    child=$!
    wait "$child"
}

clean_up() {
    trap '' INT TERM
    if [ -n "$1" ] && kill -KILL "$1" 2>/dev/null; then
        wait "$1" 2>/dev/null
    fi
    remove_cgroups
    if [ -n "${KEEP:-}" ]; then
        echo "# kept $WORK" >&2
    else
        rm -rf --one-file-system -- "$WORK"
    fi
}

# The cgroups that the suite may have made: those below $CGROUP in any hierarchy.
cgroup_folders() {
    local hierarchy
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -d "$hierarchy$CGROUP" ] && find "$hierarchy$CGROUP" -depth -type d
    done
    return 0
}

remove_cgroups() {
    local attempt folder
    # A dying process holds its cgroup for a moment after it has been killed.
    for attempt in $(seq 50); do
        cgroup_folders | while read -r folder; do rmdir "$folder" 2>/dev/null; done
        [ -z "$(cgroup_folders)" ] && return
        sleep 0.1
    done
    echo "# cannot remove $(cgroup_folders | tr '\n' ' ')" >&2
}

prepare_sandbox() {
    if [ -n "${CALLERS:-}" ]; then
        # Its programs, with their libraries, hide those of the host, for the suite.
        mount -t overlay -o "ro,lowerdir=$CALLERS/usr:/usr" callers /usr || die "cannot lay $CALLERS/usr over /usr"
        hash -r
    fi
    ip link set lo up
    # Daemons and shims have fixed places for sockets, keys and plugins here.
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock
    mount -t tmpfs -o mode=755 tmpfs /opt
    # conmon leaves a socket here when the runtime does not come for it. What is tried may itself lie here.
    [[ $RUNTIME == /tmp/* || $HERE == /tmp/* ]] || mount -t tmpfs -o mode=1777 tmpfs /tmp
    mkdir -p "$WORK/home" "$WORK/tmp"
    export HOME=$WORK/home TMPDIR=$WORK/tmp
    # The distribution's programs, not what else a person has installed.
    export PATH=${CRIU_FOLDER:+$CRIU_FOLDER:}/usr/sbin:/usr/bin:/sbin:/bin
    cd "$WORK" || exit 1
}

# busybox_rootfs FOLDER : busybox with all its applets, root, and the user app
# (1000) of the groups app (1000) and extra (2000).
busybox_rootfs() {
    mkdir -p "$1"/{bin,dev,etc,home/app,proc,root,sys,tmp,mnt,var}
    cp /bin/busybox "$1/bin/busybox"
    local applet
    for applet in $(/bin/busybox --list); do
        [ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"
    done
    chmod 1777 "$1/tmp"
    chown 1000:1000 "$1/home/app"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'app:x:1000:1000:app:/home/app:/bin/sh' >"$1/etc/passwd"
    printf '%s\n' 'root:x:0:' 'app:x:1000:' 'extra:x:2000:app' >"$1/etc/group"
    echo 'not a program' >"$1/etc/motd"
}

# docker_archive ROOTFS NAME FILE [COMMAND] : an image of one layer, as `docker save`
# writes it; what it runs is a list of JSON.
docker_archive() {
    local folder=$WORK/archive layer config
    mkdir -p "$folder"
    tar -C "$1" -cf "$folder/layer.tar" .
    layer=$(sha256sum "$folder/layer.tar" | cut -d ' ' -f 1)
    jq -n --arg layer "sha256:$layer" --arg architecture "$(dpkg --print-architecture)" --argjson command "[${4:-\"sh\"}]" '{
        $architecture, os: "linux", rootfs: {type: "layers", diff_ids: [$layer]},
        config: {Cmd: $command, Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}}' >"$folder/config.json"
    config=$(sha256sum "$folder/config.json" | cut -d ' ' -f 1)
    mv "$folder/config.json" "$folder/$config.json"
    jq -n --arg config "$config.json" --arg name "$2" \
        '[{Config: $config, RepoTags: [$name], Layers: ["layer.tar"]}]' >"$folder/manifest.json"
    tar -C "$folder" -cf "$3" manifest.json "$config.json" layer.tar
    rm -rf "$folder"
}

# Some machines withhold capabilities from root; callers that hand on "all" of
# them then ask for more than there is.
needs_all_capabilities() {
    local all bounding
    all=$(printf '%016x' $(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1)))
    bounding=$(sed -n 's/^CapBnd:\t//p' /proc/self/status)
    [ "$all" = "$bounding" ] || skip "root has not all capabilities here: $bounding of $all"
}

# Checkpoints need a criu that works with this kernel.
needs_criu() {
    command -v criu >/dev/null || skip "criu is not installed"
    criu check >/dev/null 2>&1 || skip "this criu does not work with this kernel: $(criu check 2>&1 | head -n1)"
}

# ---- assertions: the end of a case when they do not hold ------------------------

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

skip() {
    printf '%s' "$*" >"$WORK/skipped"
    exit 77
}

# equal EXPECTED ACTUAL
equal() {
    [ "$1" = "$2" ] || fail "expected: $1
  actual: $2"
}

# contains PART TEXT
contains() {
    [[ $2 == *"$1"* ]] || fail "expected a text with: $1
              actual: $2"
}

# lacks PART TEXT
lacks() {
    [[ $2 != *"$1"* ]] || fail "expected a text without: $1
                 actual: $2"
}

# differs FORBIDDEN ACTUAL : it is something, and something else.
differs() {
    [ -n "$2" ] || fail "expected anything but: $1
  actual: nothing"
    [ "$1" != "$2" ] || fail "expected anything but: $1"
}

# matches REGULAR_EXPRESSION TEXT
matches() {
    [[ $2 =~ $1 ]] || fail "expected a match of: $1
             actual: $2"
}

# status EXPECTED COMMAND... : the command ends with that status. What it printed,
# on either stream, is in $output.
status() {
    local expected=$1 actual=0
    shift
    output=$("$@" 2>&1) || actual=$?
    [ "$actual" = "$expected" ] || fail "expected status $expected of: $*
     actual status $actual: $output"
}

# eventually COMMAND... : it succeeds within ten seconds.
eventually() {
    local patience=$((10 * SLOWNESS))
    local deadline=$((SECONDS + patience))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "still not true after $patience seconds: $*"
        sleep 0.05
    done
}

# is EXPECTED COMMAND... : a condition for `eventually`.
is() {
    local expected=$1
    shift
    [ "$("$@" 2>&1)" = "$expected" ]
}

# says PART COMMAND... : likewise.
says() {
    local part=$1
    shift
    [[ $("$@" 2>&1) == *"$part"* ]]
}

# on_terminal COMMAND_LINE : runs it with a pseudoterminal of 33 rows and 101
# columns, and passes standard input on to it.
on_terminal() {
    SHELL=/bin/bash script -qec "stty rows 33 cols 101; $1" /dev/null | tr -d '\r'
    return "${PIPESTATUS[0]}"
}

# converse COMMAND_LINE [EXPECTED WORDS]... : runs it with such a terminal, types each
# WORDS (of printf) as soon as EXPECTED has been printed, and prints all at the end.
# What is typed too early, before a program has set its terminal, is not understood.
converse() {
    local keys=$WORK/tmp/keys.$BASHPID printed=$WORK/tmp/printed.$BASHPID keyboard terminal code=0
    mkfifo "$keys"
    exec {keyboard}<>"$keys"
    SHELL=/bin/bash script -qefc "stty rows 33 cols 101; $1" /dev/null <"$keys" >"$printed" &
    terminal=$!
    shift
    while [ $# -gt 0 ]; do
        [ -z "$1" ] || eventually grep -q -F -e "$1" "$printed"
        # shellcheck disable=SC2059
        printf "$2" >&"$keyboard"
        shift 2
    done
    wait $terminal || code=$?
    exec {keyboard}<&-
    tr -d '\r' <"$printed"
    rm "$keys" "$printed"
    return $code
}

# cgroup_of CONTAINER_CGROUP V1_CONTROLLER : its folder.
cgroup_of() {
    if [ $CGROUP_VERSION = 1 ]; then echo "/sys/fs/cgroup/$2$1"; else echo "/sys/fs/cgroup$1"; fi
}

# limit CONTAINER_CGROUP V1_CONTROLLER/FILE=VALUE V2_FILE=VALUE : what the kernel
# says the container may use.
limit() {
    local setting=$3
    [ $CGROUP_VERSION = 2 ] || setting=$2
    local file=${setting%%=*} expected=${setting#*=} path
    if [ $CGROUP_VERSION = 1 ]; then
        path=$(cgroup_of "$1" "${file%%/*}")/${file#*/}
    else
        path=$(cgroup_of "$1")/$file
    fi
    local actual
    actual=$(cat "$path") || fail "no file $path"
    [ "$actual" = "$expected" ] || fail "expected in $path: $expected
  actual: $actual"
}

# ---- the runner ----------------------------------------------------------------

cases() {
    shopt -s extdebug
    # declare -F prints a name, a line and a file; `run` sorts last of the files.
    declare -F | sed -n 's/^declare -f \(it_.*\)/\1/p' | while read -r name; do declare -F "$name"; done |
        sort -k 3,3 -k 2,2n | cut -d ' ' -f 1
    shopt -u extdebug
}

suite() {
    if [ -z "${ORLOP_SANDBOX:-}" ]; then
        sandbox "$@"
        exit
    fi
    prepare_sandbox
    echo "# $SUITE with $RUNTIME, cgroup version $CGROUP_VERSION"
    bounded_setup
    local passed=0 failed=0 skipped=0 name title code began took
    # Each case gets a process group, so that a hanging one can be ended whole.
    set -m
    for name in $(cases); do
        title=${name#it_}
        title=${title//_/ }
        is_selected "$title" "$@" || is_selected "$name" "$@" || continue
        began=${EPOCHREALTIME/./}
        # A case is bounded, so that a container that hangs fails one case only.
        run_case "$name" &
        wait_bounded $! $((60 * SLOWNESS))
        code=$?
        took=$(((${EPOCHREALTIME/./} - began) / 1000))
        case $code in
        0) passed=$((passed + 1)); echo "ok    $title (${took} ms)" ;;
        77) skipped=$((skipped + 1)); echo "skip  $title: $(cat "$WORK/skipped")" ;;
        *)
            failed=$((failed + 1))
            echo "FAIL  $title (${took} ms)"
            sed 's/^/      | /' "$WORK/case.log"
            ;;
        esac
    done
    (teardown) >"$WORK/teardown.log" 2>&1
    echo "$passed passed, $failed failed, $skipped skipped"
    # Nothing run is no success: a pattern may be mistyped.
    [ $failed -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
    exit
}

# A daemon that does not come up ends the suite, with a status that says that nothing has been tried.
bounded_setup() {
    local status=0
    set -m
    (set -eE; setup) >"$WORK/setup.log" 2>&1 &
    wait_bounded $! $((30 * SLOWNESS)) "the setup" || status=$?
    set +m
    [ $status != 0 ] || return 0
    cat "$WORK"/case.log "$WORK/setup.log" "$WORK"/*d.log 2>/dev/null
    echo "$(basename "$0"): setup failed" >&2
    exit 75
}

# is_selected NAME PATTERN... : no pattern selects all.
is_selected() {
    local name=$1 pattern
    shift
    [ $# -gt 0 ] || return 0
    for pattern in "$@"; do
        [[ $name != *"$pattern"* ]] || return 0
    done
    return 1
}

run_case() {
    exec >"$WORK/case.log" 2>&1
    set -eE
    trap 'echo "line ${BASH_LINENO[0]}, status $?: $BASH_COMMAND" >&2' ERR
    "$1"
}

# wait_bounded PID SECONDS [WHAT] : waits for a process group's leader, and ends the group when the time is up.
wait_bounded() {
    local pid=$1 deadline=$((SECONDS + $2))
    while kill -0 "$pid" 2>/dev/null; do
        if [ $SECONDS -ge $deadline ]; then
            echo "${3:-the case} took longer than $2 seconds" >>"$WORK/case.log"
            kill -KILL -- "-$pid"
            wait "$pid" 2>/dev/null
            return 124
        fi
        sleep 0.02
    done
    wait "$pid"
}

# stop_daemon PID : SIGTERM, and SIGKILL when that has not sufficed.
stop_daemon() {
    local deadline=$((SECONDS + 10))
    kill -TERM "$1" 2>/dev/null || return 0
    while kill -0 "$1" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || kill -KILL "$1" 2>/dev/null
        sleep 0.05
    done
}
