# Cases: the limits, as the kernel knows them.

it_limits_memory() {
    in_background --name memory --memory 64m --memory-reservation 32m
    limit "$(group memory)" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    limit "$(group memory)" memory/memory.soft_limit_in_bytes=33554432 memory.low=33554432
    remove memory
}

it_reports_a_container_out_of_memory() {
    status 137 run --rm --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=64M
}

it_limits_cpu() {
    in_background --name cpu --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0
    limit "$(group cpu)" cpu/cpu.cfs_quota_us=50000 cpu.max="50000 100000"
    limit "$(group cpu)" cpuset/cpuset.cpus=0 cpuset.cpus=0
    [ $CGROUP_VERSION = 2 ] || limit "$(group cpu)" cpu/cpu.shares=512 none
    remove cpu
}

it_limits_the_number_of_processes() {
    in_background --name pids --pids-limit 7
    limit "$(group pids)" pids/pids.max=7 pids.max=7
    status 2 podman exec pids sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 3 & done; wait'
    contains "can't fork" "$output"
    remove pids
}

it_updates_limits() {
    in_background --name updated --memory 64m --cpus 0.5
    podman update --memory 128m --memory-swap 256m --cpus 1.5 updated
    limit "$(group updated)" memory/memory.limit_in_bytes=134217728 memory.max=134217728
    limit "$(group updated)" cpu/cpu.cfs_quota_us=150000 cpu.max="150000 100000"
    remove updated
}

