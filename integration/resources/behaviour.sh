# Cases: what limits do to what runs under them, and how update fails.

# usage NAME : sets $usage to the microseconds of processor time that a container has had.
usage() {
    if [ "$CGROUP_VERSION" = 1 ]; then
        value "$1" cpuacct/cpuacct.usage
        usage=$((value / 1000))
    else
        value "$1" cpu/cpu.stat
        usage=${value#usage_usec }
        usage=${usage%%$'\n'*}
    fi
}

needs_controller() {
    local hierarchy=/sys/fs/cgroup/cgroup.controllers
    [ "$(id -u)" = 0 ] || hierarchy=/sys/fs/cgroup/user.slice/user-$(id -u).slice/user@$(id -u).service/cgroup.controllers
    if [ "$CGROUP_VERSION" = 1 ]; then
        [ -d "/sys/fs/cgroup/$1" ] || skip "no $1 controller"
    else
        grep -qw "$1" "$hierarchy" || skip "no $1 controller"
    fi
}

it_gives_a_quotas_share_of_a_processor() {
    create quota '.linux.resources.cpu = {quota: 20000, period: 100000}' 'while :; do :; done'
    oci start "$TAG-quota"
    local before began share
    usage quota
    before=$usage began=${EPOCHREALTIME/./}
    sleep 3
    usage quota
    share=$(((usage - before) * 100 / (${EPOCHREALTIME/./} - began)))
    remove quota
    # A busy machine may give less than the quota; nothing gives much more.
    [ $share -ge 5 ] && [ $share -le 26 ] || fail "20 % were allowed, $share % used"
}

it_kills_what_needs_more_memory_than_its_limit() {
    status 137 run oom '.linux.resources.memory = {limit: 33554432, swap: 33554432}' 'exec tail /dev/zero'
    lacks "$TAG-oom" "$(oci list -q)"
}

it_tells_limit_and_usage_when_init_is_killed_in_create() {
    status 1 create low '.linux.resources.memory = {limit: 4096, swap: 4096}'
    remove low
    # systemd may have removed the scope, with what it counted, before anybody could read all or some of it.
    if [ "$DRIVER" = systemd ]; then
        matches 'OOM-killed .*limit 4096 bytes|the memory limit of 4096 bytes may be too low' "$output"
    else
        contains "OOM-killed" "$output"
        matches 'limit 4096 bytes, used up to [1-9][0-9]* bytes' "$output"
    fi
}

it_starts_in_one_mebibyte() {
    status 0 run small '.linux.resources.memory = {limit: 1048576, swap: 1048576}' 'exec true'
}

it_stops_a_fork_bomb() {
    local limit=12
    create bomb ".linux.resources.pids = {limit: $limit}" 'bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000'
    oci start "$TAG-bomb"
    at_limit() {
        value bomb pids/pids.events
        [[ $value != "max 0"* ]]
    }
    eventually at_limit
    value bomb pids/pids.current
    remove bomb
    [ "$value" -le $limit ] || fail "$value processes, $limit allowed"
}

it_denies_devices_that_are_not_allowed() {
    [ "$(id -u)" = 0 ] || skip "a user can make no devices"
    local devices='.linux.devices = [{path: "/dev/kmsg", type: "c", major: 1, minor: 11, fileMode: 438}]'
    # Reading it would take a capability.
    local kmsg='exec 3>/dev/kmsg && echo opened'
    local rule='{allow: true, type: "c", major: 1, minor: 11, access: "w"}'
    status 0 run allowed "$devices | .linux.resources.devices = [{allow: false, access: \"rwm\"}, $rule]" "$kmsg"
    contains opened "$output"
    run denied "$devices | .linux.resources.devices = [{allow: false, access: \"rwm\"}]" "$kmsg" >"$WORK/denied" 2>&1 && fail "it was opened"
    contains "Operation not permitted" "$(cat "$WORK/denied")"
    status 0 run usual '.linux.resources.devices = [{allow: false, access: "rwm"}]' 'echo gone >/dev/null && head -c 1 /dev/zero >/dev/null'
}

it_keeps_denied_devices_closed_after_update() {
    [ "$(id -u)" = 0 ] || skip "a user can make no devices"
    create closed '.linux.devices = [{path: "/dev/kmsg", type: "c", major: 1, minor: 11, fileMode: 438}]'
    oci start "$TAG-closed"
    oci update --pids-limit 50 "$TAG-closed"
    [ "$DRIVER" != systemd ] || systemctl daemon-reload
    status 1 oci exec "$TAG-closed" sh -c 'true >/dev/kmsg'
    status 0 oci exec "$TAG-closed" sh -c 'true </dev/zero'
    remove closed
}

# timed_on_disk COMMAND_LINE BLOCK_IO : sets $took to the milliseconds that it takes in a container that has the disk.
timed_on_disk() {
    local major=${DEVICE%:*} minor=${DEVICE#*:} began ended
    run disk ".linux.devices = [{path: \"/dev/disk\", type: \"b\", major: $major, minor: $minor, fileMode: 438}]
        | .linux.resources.devices += [{allow: true, type: \"b\", major: $major, minor: $minor, access: \"rw\"}]
        | .linux.resources.blockIO = $2" "read began rest </proc/uptime; $1 2>&1; read ended rest </proc/uptime; echo \$began \$ended" >"$WORK/times"
    read -r began ended < <(tail -n 1 "$WORK/times")
    took=$((10 * (${ended/./} - ${began/./})))
}

it_throttles_block_io() {
    [ "$(id -u)" = 0 ] || skip "a user can make no devices"
    if [ "$CGROUP_VERSION" = 1 ]; then needs_controller blkio; else needs_controller io; fi
    # shellcheck disable=SC1091
    . "$WORK/disk.sh"
    [ -e "$WORK/loop" ] || skip "no loop device"
    local rate="[{major: ${DEVICE%:*}, minor: ${DEVICE#*:}, rate: "
    # Four mebibytes at one a second, and a hundred writes at twenty-five.
    timed_on_disk 'dd if=/dev/disk of=/dev/null iflag=direct bs=64k count=64' "{throttleReadBpsDevice: ${rate}1048576}]}"
    [ "$took" -ge 3000 ] || fail "read in $took ms: $(cat "$WORK/times")"
    timed_on_disk 'dd if=/dev/zero of=/dev/disk oflag=direct bs=4k count=100' "{throttleWriteIOPSDevice: ${rate}25}]}"
    [ "$took" -ge 3000 ] || fail "written in $took ms: $(cat "$WORK/times")"
    timed_on_disk 'dd if=/dev/disk of=/dev/null iflag=direct bs=64k count=64' '{}'
    [ "$took" -lt 3000 ] || fail "without a limit read in $took ms"
}

it_changes_only_what_update_names() {
    create named '.linux.resources += {memory: {limit: 67108864, swap: 67108864, reservation: 33554432},
        cpu: {shares: 1024, quota: 50000, period: 100000}, pids: {limit: 60}}'
    everything named >"$WORK/before"
    oci update --pids-limit 40 "$TAG-named"
    everything named >"$WORK/after"
    remove named
    equal "< pids/pids.max 60 > pids/pids.max 40" "$(echo $(diff "$WORK/before" "$WORK/after" | grep '^[<>]'))"
}

# everything NAME : the limits in the files of a container.
everything() {
    local file files='memory/memory.max memory/memory.swap.max memory/memory.low memory/memory.high cpu/cpu.weight cpu/cpu.max pids/pids.max'
    [ "$CGROUP_VERSION" = 2 ] || files='memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes
        memory/memory.soft_limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max'
    for file in $files; do
        value "$1" "$file"
        echo "$file $value"
    done
}

it_rolls_back_an_update_that_is_refused() {
    needs_controller cpuset
    create refused '.linux.resources += {memory: {limit: 67108864, swap: 67108864}, cpu: {shares: 1024, cpus: "0"}, pids: {limit: 60}}'
    everything refused >"$WORK/before"
    echo '{"pids": {"limit": 50}, "memory": {"limit": 134217728, "swap": 134217728}, "cpu": {"shares": 512, "cpus": "4000"}}' >"$WORK/bad.json"
    status 1 oci update --resources "$WORK/bad.json" "$TAG-refused"
    everything refused >"$WORK/after"
    equal "" "$(diff "$WORK/before" "$WORK/after")"
    [ "$DRIVER" != systemd ] || equal "TasksMax=60" "$(systemctl $SYSTEMD show -p TasksMax "orlop-$TAG-refused.scope")"
    remove refused
}

it_refuses_a_limit_below_the_usage_when_asked_to_look_first() {
    create looking '.linux.resources.memory = {limit: 67108864, swap: 67108864}' 'dd if=/dev/zero of=/dev/shm/held bs=1024k count=16; sleep 1000'
    oci start "$TAG-looking"
    eventually holds looking 16777216
    echo '{"memory": {"limit": 4194304, "swap": 4194304, "checkBeforeUpdate": true}}' >"$WORK/check.json"
    status 1 oci update --resources "$WORK/check.json" "$TAG-looking"
    everything looking >"$WORK/after"
    remove looking
    contains 67108864 "$(grep -E 'memory.(max|limit_in_bytes)' "$WORK/after")"
}

# holds NAME BYTES : whether a container uses that much memory.
holds() {
    if [ "$CGROUP_VERSION" = 1 ]; then value "$1" memory/memory.usage_in_bytes; else value "$1" memory/memory.current; fi
    [ "$value" -ge "$2" ]
}
