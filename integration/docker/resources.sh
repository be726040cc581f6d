# Cases: the limits, as the kernel knows them.

it_limits_memory() {
    in_background --name memory --memory 64m --memory-reservation 32m
    limit "$(group memory)" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    limit "$(group memory)" memory/memory.soft_limit_in_bytes=33554432 memory.low=33554432
    remove memory
}

it_limits_memory_and_swap() {
    [ $CGROUP_VERSION = 2 ] || [ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ] || skip "the kernel does not account for swap"
    in_background --name swap --memory 64m --memory-swap 128m
    limit "$(group swap)" memory/memory.memsw.limit_in_bytes=134217728 memory.swap.max=67108864
    remove swap
}

it_reports_a_container_out_of_memory() {
    docker run --name greedy --memory 16m --memory-swap 16m busybox sh -c 'dd if=/dev/zero of=/dev/null bs=64M' >/dev/null 2>&1 || true
    equal 137 "$(field greedy .State.ExitCode)"
    equal true "$(field greedy .State.OOMKilled)"
    remove greedy
}

it_limits_cpu() {
    in_background --name cpu --cpus 0.5
    limit "$(group cpu)" cpu/cpu.cfs_quota_us=50000 cpu.max="50000 100000"
    remove cpu
}

it_limits_cpu_by_period_and_quota() {
    in_background --name quota --cpu-period 50000 --cpu-quota 20000
    limit "$(group quota)" cpu/cpu.cfs_quota_us=20000 cpu.max="20000 50000"
    limit "$(group quota)" cpu/cpu.cfs_period_us=50000 cpu.max="20000 50000"
    remove quota
}

it_weighs_cpu() {
    in_background --name shares --cpu-shares 512
    [ $CGROUP_VERSION = 2 ] || limit "$(group shares)" cpu/cpu.shares=512 none
    # Two conversions of shares to weights are in use.
    [ $CGROUP_VERSION = 1 ] || matches '^(20|59)$' "$(cat "$(cgroup_of "$(group shares)")/cpu.weight")"
    remove shares
}

it_chooses_cpus() {
    in_background --name cpuset --cpuset-cpus 0 --cpuset-mems 0
    limit "$(group cpuset)" cpuset/cpuset.cpus=0 cpuset.cpus=0
    equal 0 "$(docker exec cpuset sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)"
    remove cpuset
}

it_limits_the_number_of_processes() {
    in_background --name pids --pids-limit 7
    limit "$(group pids)" pids/pids.max=7 pids.max=7
    # Two run already; the shell is the third.
    status 2 docker exec pids sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 3 & done; wait'
    contains "can't fork" "$output"
    remove pids
}

it_limits_block_devices() {
    local device
    device=$(lsblk -dnpo NAME,TYPE 2>/dev/null | awk '$2 == "disk" { print $1; exit }')
    [ -n "$device" ] || skip "no disk on this host"
    local number
    number=$(lsblk -dno MAJ:MIN "$device" | tr -d ' ')
    in_background --name throttled --device-read-bps "$device:1mb" --device-write-bps "$device:2mb" \
        --device-read-iops "$device:100" --device-write-iops "$device:200"
    # Some versions drop these options on cgroup version 2, before a runtime sees them.
    if [ "$(docker inspect --format '{{len .HostConfig.BlkioDeviceReadBps}}' throttled)" = 0 ]; then
        remove throttled
        skip "Docker $(docker version --format '{{.Server.Version}}') has dropped the limits of block devices"
    fi
    local expected="$number rbps=1048576 wbps=2097152 riops=100 wiops=200"
    limit "$(group throttled)" blkio/blkio.throttle.read_bps_device="$number 1048576" io.max="$expected"
    limit "$(group throttled)" blkio/blkio.throttle.write_bps_device="$number 2097152" io.max="$expected"
    limit "$(group throttled)" blkio/blkio.throttle.read_iops_device="$number 100" io.max="$expected"
    limit "$(group throttled)" blkio/blkio.throttle.write_iops_device="$number 200" io.max="$expected"
    remove throttled
}

it_weighs_block_devices() {
    local group file weight
    in_background --name weighed --blkio-weight 500 2>"$WORK/tmp/warnings"
    group=$(cgroup_of "$(group weighed)" blkio)
    # Each kernel with a scheduler that weighs has one of these.
    for file in io.bfq.weight io.weight blkio.bfq.weight blkio.weight ""; do
        [ -z "$file" ] || [ ! -e "$group/$file" ] || break
    done
    weight=$(cat "$group/$file" 2>/dev/null || true)
    remove weighed
    [ -n "$weight" ] && ! grep -q -i "weight discarded" "$WORK/tmp/warnings" || skip "the kernel weighs no block devices"
    # io.weight has another scale: 1 to 10000, and not 10 to 1000.
    if [ "$file" = io.weight ]; then equal "default 4950" "$weight"; else equal 500 "${weight#default }"; fi
}

it_does_without_the_oom_killer() {
    [ $CGROUP_VERSION = 1 ] || skip "cgroup version 2 has no such setting"
    in_background --name unkilled --memory 64m --oom-kill-disable
    contains "oom_kill_disable 1" "$(cat "$(cgroup_of "$(group unkilled)" memory)/memory.oom_control")"
    remove unkilled
}

it_updates_limits() {
    in_background --name updated --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50
    docker update --memory 128m --memory-swap 256m --cpus 1.5 --pids-limit 60 updated
    limit "$(group updated)" memory/memory.limit_in_bytes=134217728 memory.max=134217728
    limit "$(group updated)" cpu/cpu.cfs_quota_us=150000 cpu.max="150000 100000"
    limit "$(group updated)" pids/pids.max=60 pids.max=60
    # What is not named keeps its value.
    docker update --cpu-shares 256 updated
    limit "$(group updated)" memory/memory.limit_in_bytes=134217728 memory.max=134217728
    limit "$(group updated)" cpu/cpu.cfs_quota_us=150000 cpu.max="150000 100000"
    docker update --memory 32m --memory-swap 32m updated
    limit "$(group updated)" memory/memory.limit_in_bytes=33554432 memory.max=33554432
    # And its processes have gone on.
    docker exec updated true
    remove updated
}

it_is_placed_in_the_cgroup_asked_for() {
    in_background --name placed --cgroup-parent "$CGROUP/berth"
    local id
    id=$(field placed .Id)
    contains "$CGROUP/berth/$id" "$(cat "/proc/$(field placed .State.Pid)/cgroup")"
    remove placed
    equal "" "$(cgroup_folders | grep "$id" || true)"
}

it_puts_what_exec_starts_in_the_cgroup_too() {
    in_background --name together
    docker exec -d together sleep 1004
    eventually says "sleep 1004" docker top together
    equal 3 "$(wc -l <"$(cgroup_of "$(group together)" pids)/cgroup.procs")"
    remove together
}
