# systemd as the first process, in cgroups of its own, with the servers as its services.

# What it needs beyond the other servers: it mounts, makes cgroups, and gives its
# services namespaces.
# shellcheck disable=SC2016
SYSTEMD='(["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_ADMIN",
           "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE",
           "SYS_PTRACE"] | map("CAP_" + .)) as $capabilities
    | .process.capabilities = {bounding: $capabilities, effective: $capabilities, permitted: $capabilities}
    | .process.env += ["container=oci"]
    | .mounts |= map(if .type == "cgroup" then .options |= map(if . == "ro" then "rw" else . end) else . end)
    | .linux |= del(.seccomp, .maskedPaths, .readonlyPaths)'
# SIGRTMIN+3, at which systemd halts; not every runtime knows its name.
HALT=37

# boot NAME : until all services of the container are up.
boot() {
    launch "$1"
    eventually inside "$1" test -S /run/systemd/private
    local state
    state=$(inside "$1" timeout $((40 * SLOWNESS)) systemctl is-system-running --wait) || true
    [ "$state" = running ] || fail "the system is ${state:-not up in time}:
$(inside "$1" systemctl --no-pager list-units --failed; inside "$1" systemctl --no-pager list-jobs)"
}

# serves NAME : its services answer, and are where systemd puts them.
serves() {
    equal $'active\nactive\nactive' "$(inside "$1" systemctl is-active nginx redis-server mariadb)"
    contains 'Welcome to nginx' "$(fetch "$1" http://127.0.0.1/)"
    equal OK "$(inside "$1" redis-cli set ship orlop)"
    equal 42 "$(inside "$1" mariadb --batch --skip-column-names --execute 'SELECT 6 * 7')"
    contains 'Started nginx.service' "$(inside "$1" journalctl --no-pager --unit nginx)"
    # The container's own cgroup is the root of what it sees.
    contains "$2:/init.scope" "$(inside "$1" cat /proc/1/cgroup)"
    local pid
    pid=$(inside "$1" systemctl show --property MainPID --value nginx)
    contains "$2:/system.slice/nginx.service" "$(inside "$1" cat "/proc/$pid/cgroup")"
}

# halts NAME : and its services have ended in order; redis saves its data then.
halts() {
    ends "$1" $HALT 0
    grep -q orlop "$rootfs/var/lib/redis/dump.rdb" || fail "redis was not stopped in order"
}

it_systemd_boots_with_its_services_in_delegated_cgroups_and_halts() {
    bundle systemd "$SYSTEMD" /sbin/init
    boot systemd
    if [ $CGROUP_VERSION = 1 ]; then serves systemd name=systemd; else serves systemd 0:; fi
    # What it has been delegated it divides: the limit of a service is the kernel's.
    inside systemd systemd-run --quiet --unit limited --property TasksMax=7 sleep 1000
    limit "$CGROUP/systemd/system.slice/limited.service" pids/pids.max=7 pids.max=7
    halts systemd
}

it_systemd_boots_with_cgroup_version_2_alone() {
    [ $CGROUP_VERSION = 1 ] || skip "this machine has version 2 alone anyway"
    bundle unified "$SYSTEMD" /sbin/init
    # The runtime sees nothing of version 1 in this mount namespace.
    unshare --mount sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec sleep 1000' &
    local holder=$!
    ENTER=(nsenter "--mount=/proc/$holder/ns/mnt")
    eventually "${ENTER[@]}" test -e /sys/fs/cgroup/cgroup.controllers
    boot unified
    serves unified 0:
    equal cgroup2fs "$(inside unified stat --file-system --format %T /sys/fs/cgroup)"
    halts unified
    kill $holder
}
