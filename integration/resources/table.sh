# Cases: each resource is in the kernel's file after create and after update.
#
# A row is one case; the rows of a group are one container. Its columns:
#
#   title | group | place in linux.resources | at create | in update
#     | v1: CONTROLLER/FILE=CREATED>UPDATED | v2: FILE=CREATED>UPDATED | systemd: PROPERTY=CREATED>UPDATED
#
# "-" is for what that side does not have. What is expected are words of the file.
# @DEV, @MAJOR and @MINOR are a block device; @MEMS>@MEMS2 the memory nodes.

table() {
    cat <<'END'
cpu.shares | cpu | cpu.shares | 1024 | 262144 | cpu/cpu.shares=1024>262144 | cpu.weight=100>10000 | CPUWeight=100>10000
cpu.quota | cpu | cpu.quota | 50000 | 25000 | cpu/cpu.cfs_quota_us=50000>25000 | cpu.max=50000 100000>25000 50000 | CPUQuotaPerSecUSec=500ms>500ms
cpu.period | cpu | cpu.period | 100000 | 50000 | cpu/cpu.cfs_period_us=100000>50000 | cpu.max=50000 100000>25000 50000 | CPUQuotaPeriodUSec=100ms>50ms
cpu.burst | cpu | cpu.burst | 10000 | 5000 | cpu/cpu.cfs_burst_us=10000>5000 | cpu.max.burst=10000>5000 | -
cpu.quota without end | no-quota | cpu.quota | 20000 | -1 | cpu/cpu.cfs_quota_us=20000>-1 | cpu.max=20000 100000>max 100000 | CPUQuotaPerSecUSec=200ms>infinity
cpu.idle | idle | cpu.idle | 1 | 0 | cpu/cpu.idle=1>0 | cpu.idle=1>0 | -
cpu.realtimeRuntime | realtime | cpu.realtimeRuntime | 5000 | 2000 | cpu/cpu.rt_runtime_us=5000>2000 | - | -
cpu.cpus | cpuset | cpu.cpus | "0-1" | "1" | cpuset/cpuset.cpus=0-1>1 | cpuset.cpus=0-1>1 | AllowedCPUs=0-1>1
cpu.mems | cpuset | cpu.mems | "@MEMS" | "@MEMS2" | cpuset/cpuset.mems=@MEMS>@MEMS2 | cpuset.mems=@MEMS>@MEMS2 | AllowedMemoryNodes=@MEMS>@MEMS2
memory.limit raised | raised | memory.limit | 67108864 | 268435456 | memory/memory.limit_in_bytes=67108864>268435456 | memory.max=67108864>268435456 | MemoryMax=67108864>268435456
memory.swap raised | raised | memory.swap | 134217728 | 402653184 | memory/memory.memsw.limit_in_bytes=134217728>402653184 | memory.swap.max=67108864>134217728 | MemorySwapMax=67108864>134217728
memory.reservation | raised | memory.reservation | 33554432 | 50331648 | memory/memory.soft_limit_in_bytes=33554432>50331648 | memory.low=33554432>50331648 | MemoryLow=33554432>50331648
memory.swappiness | raised | memory.swappiness | 10 | 70 | memory/memory.swappiness=10>70 | - | -
memory.disableOOMKiller | raised | memory.disableOOMKiller | true | false | memory/memory.oom_control=oom_kill_disable 1>oom_kill_disable 0 | - | -
memory.useHierarchy | raised | memory.useHierarchy | true | true | memory/memory.use_hierarchy=1>1 | - | -
memory.kernel is ignored | raised | memory.kernel | 1048576 | 1048576 | memory/memory.limit_in_bytes=67108864>268435456 | memory.max=67108864>268435456 | -
memory.limit lowered | lowered | memory.limit | 268435456 | 67108864 | memory/memory.limit_in_bytes=268435456>67108864 | memory.max=268435456>67108864 | MemoryMax=268435456>67108864
memory.swap lowered | lowered | memory.swap | 402653184 | 67108864 | memory/memory.memsw.limit_in_bytes=402653184>67108864 | memory.swap.max=134217728>0 | MemorySwapMax=134217728>0
memory.limit without end | endless | memory.limit | 67108864 | -1 | memory/memory.limit_in_bytes=67108864>9223372036854771712 | memory.max=67108864>max | MemoryMax=67108864>infinity
memory.swap without end | swap | memory.swap | 134217728 | -1 | memory/memory.memsw.limit_in_bytes=134217728>9223372036854771712 | memory.swap.max=67108864>max | MemorySwapMax=67108864>infinity
memory.limit beside swap | swap | memory.limit | 67108864 | 67108864 | memory/memory.limit_in_bytes=67108864>67108864 | memory.max=67108864>67108864 | MemoryMax=67108864>67108864
pids.limit | cpu | pids.limit | 100 | 50 | pids/pids.max=100>50 | pids.max=100>50 | TasksMax=100>50
pids.limit of 0, and -1 | cpuset | pids.limit | 0 | -1 | pids/pids.max=1>max | pids.max=1>max | TasksMax=1>infinity
blockIO.weight | weight | blockIO.weight | 500 | 300 | blkio/@WEIGHT=500>300 | @WEIGHT=default @WEIGHT1>default @WEIGHT2 | IOWeight=4950>2930
blockIO.weightDevice | weight | blockIO.weightDevice | [{"major":@MAJOR,"minor":@MINOR,"weight":200}] | [{"major":@MAJOR,"minor":@MINOR,"weight":400}] | blkio/blkio.bfq.weight_device=@DEV 200>@DEV 400 | io.bfq.weight=@DEV 200>@DEV 400 | -
blockIO.leafWeight | leaf | blockIO.leafWeight | 500 | 300 | blkio/blkio.leaf_weight=500>300 | - | -
blockIO.throttleReadBpsDevice | throttle | blockIO.throttleReadBpsDevice | [{"major":@MAJOR,"minor":@MINOR,"rate":1048576}] | [{"major":@MAJOR,"minor":@MINOR,"rate":2097152}] | blkio/blkio.throttle.read_bps_device=@DEV 1048576>@DEV 2097152 | io.max=@DEV rbps=1048576>@DEV rbps=2097152 | -
blockIO.throttleWriteBpsDevice | throttle | blockIO.throttleWriteBpsDevice | [{"major":@MAJOR,"minor":@MINOR,"rate":1000000}] | [{"major":@MAJOR,"minor":@MINOR,"rate":3000000}] | blkio/blkio.throttle.write_bps_device=@DEV 1000000>@DEV 3000000 | io.max=wbps=1000000>wbps=3000000 | -
blockIO.throttleReadIOPSDevice | throttle | blockIO.throttleReadIOPSDevice | [{"major":@MAJOR,"minor":@MINOR,"rate":100}] | [{"major":@MAJOR,"minor":@MINOR,"rate":200}] | blkio/blkio.throttle.read_iops_device=@DEV 100>@DEV 200 | io.max=riops=100>riops=200 | -
blockIO.throttleWriteIOPSDevice | throttle | blockIO.throttleWriteIOPSDevice | [{"major":@MAJOR,"minor":@MINOR,"rate":300}] | [{"major":@MAJOR,"minor":@MINOR,"rate":0}] | blkio/blkio.throttle.write_iops_device=@DEV 300> | io.max=wiops=300>wiops=max | -
hugepageLimits | hugetlb | hugepageLimits | [{"pageSize":"2MB","limit":4194304}] | [{"pageSize":"2MB","limit":8388608}] | hugetlb/hugetlb.2MB.limit_in_bytes=4194304>8388608 | hugetlb.2MB.max=4194304>8388608 | -
hugepageLimits of reservations | hugetlb | hugepageLimits | [{"pageSize":"2MB","limit":4194304}] | [{"pageSize":"2MB","limit":8388608}] | hugetlb/hugetlb.2MB.rsvd.limit_in_bytes=4194304>8388608 | hugetlb.2MB.rsvd.max=4194304>8388608 | -
network.classID | network | network.classID | 1048577 | 1048578 | net_cls/net_cls.classid=1048577>1048578 | - | -
network.priorities | network | network.priorities | [{"name":"lo","priority":3}] | [{"name":"lo","priority":5}] | net_prio/net_prio.ifpriomap=lo 3>lo 5 | - | -
rdma | rdma | rdma | {"@RDMA":{"hcaHandles":2,"hcaObjects":100}} | {"@RDMA":{"hcaHandles":3,"hcaObjects":200}} | rdma/rdma.max=@RDMA hca_handle=2 hca_object=100>@RDMA hca_handle=3 hca_object=200 | rdma.max=@RDMA hca_handle=2 hca_object=100>@RDMA hca_handle=3 hca_object=200 | -
unified memory.high | unified | unified | {"memory.high":"104857600","pids.max":"77"} | {"memory.high":"209715200","pids.max":"max"} | - | memory.high=104857600>209715200 | MemoryHigh=104857600>209715200
unified pids.max | unified | unified | {"memory.high":"104857600","pids.max":"77"} | {"memory.high":"209715200","pids.max":"max"} | - | pids.max=77>max | TasksMax=77>infinity
END
}

# Sets what the placeholders stand for.
look_around() {
    MEMS=0 MEMS2=0
    [ ! -d /sys/devices/system/node/node1 ] || MEMS=0-1 MEMS2=1
    WEIGHT=io.weight WEIGHT1=4950 WEIGHT2=2930
    [ "$CGROUP_VERSION" = 1 ] && WEIGHT=blkio.bfq.weight
    if [ "$CGROUP_VERSION" = 2 ] && [ -d /sys/module/bfq ]; then WEIGHT=io.bfq.weight WEIGHT1=500 WEIGHT2=300; fi
    RDMA=
    local device
    for device in /sys/class/infiniband/*; do
        if [ -e "$device" ]; then RDMA=${device##*/}; fi
    done
    # The controllers that a container can have, and on version 1 a cgroup that shows which files there are.
    local hierarchy
    CONTROLLERS=' '
    if [ "$CGROUP_VERSION" = 1 ]; then
        for hierarchy in /sys/fs/cgroup/*; do
            if mkdir "$hierarchy$CGROUP" 2>/dev/null; then CONTROLLERS+="${hierarchy##*/} "; fi
        done
        # A cgroup's realtime is taken from that of the one above it, which begins without any.
        echo 100000 >"/sys/fs/cgroup/cpu$CGROUP/cpu.rt_runtime_us" || true
    elif [ "$(id -u)" = 0 ]; then
        CONTROLLERS+="$(cat /sys/fs/cgroup/cgroup.controllers) "
    else
        CONTROLLERS+="$(cat "/sys/fs/cgroup/user.slice/user-$(id -u).slice/user@$(id -u).service/cgroup.controllers") "
    fi
}

# rows : reads the table, with a number for each row and its cells trimmed.
rows() {
    local line cells cell number=0
    while read -r line; do
        number=$((number + 1))
        line=${line//@WEIGHT1/${WEIGHT1:-}} line=${line//@WEIGHT2/${WEIGHT2:-}} line=${line//@WEIGHT/${WEIGHT:-}}
        line=${line//@MEMS2/${MEMS2:-}} line=${line//@MEMS/${MEMS:-}} line=${line//@DEV/${DEVICE:-}}
        line=${line//@MAJOR/${DEVICE%:*}} line=${line//@MINOR/${DEVICE#*:}} line=${line//@RDMA/${RDMA:-}}
        printf '%s | %s\n' "$number" "$line"
    done < <(table) | sed 's/ *| */|/g'
}

# why_not FILE TITLE : sets $why_not if this machine has no such file.
why_not() {
    why_not=
    local controller=${1%%[./]*}
    if [[ $CONTROLLERS != *" $controller "* ]]; then
        why_not="no $controller controller"
        [ "$(id -u)" = 0 ] || why_not+=" delegated to users"
    elif [ "$CGROUP_VERSION" = 1 ] && [ ! -e "/sys/fs/cgroup/$controller$CGROUP/${1#*/}" ]; then
        why_not="this kernel has no ${1#*/}"
    elif [ "$controller" = rdma ] && [ -z "$RDMA" ]; then
        why_not="no RDMA device"
    elif [[ $2 == *weightDevice ]] && [ "$DISK_SCHEDULER" != bfq ]; then
        why_not="no disk with the BFQ scheduler"
    elif [ "$controller" = io ] && [ -z "$DISK" ]; then
        why_not="no disk"
    fi
}

# Makes the containers of all groups, and keeps what is in the files for the cases.
fill_table() {
    mkdir "$WORK/rows"
    local group number title path created updated v1 v2 property file list
    rows >"$WORK/table"
    for group in $(cut -d '|' -f 3 "$WORK/table" | sort -u); do
        list=()
        while IFS='|' read -r number title of path created updated v1 v2 property; do
            file=$v2
            [ "$CGROUP_VERSION" = 2 ] || file=$v1
            [ "$of" = "$group" ] && [ "$file" != - ] || continue
            why_not "${file%%=*}" "$title"
            if [ -n "$why_not" ]; then echo "$why_not" >"$WORK/rows/$number.skip"; else list+=("$number"); fi
        done <"$WORK/table"
        # What one row of a group spoils is looked for in containers of their own.
        [ ${#list[@]} = 0 ] || probe "${list[@]}" || for number in "${list[@]}"; do probe "$number" || true; done
    done
}

# probe NUMBER... : one container with the resources of these rows.
probe() {
    local name=row-$1 number
    resources 5 "$@" >"$WORK/resources.json"
    resources 6 "$@" >"$WORK/update.json"
    if create "$name" ".linux.resources += $(cat "$WORK/resources.json")" >"$WORK/probe.log" 2>&1 && keep "$name" 1 "$@" &&
        oci update --resources "$WORK/update.json" "$TAG-$name" >"$WORK/probe.log" 2>&1 && keep "$name" 2 "$@"; then
        remove "$name"
        return 0
    fi
    for number in "$@"; do cat "$WORK/resources.json" "$WORK/update.json" "$WORK/probe.log" >"$WORK/rows/$number.error"; done
    remove "$name"
    return 1
}

# resources COLUMN NUMBER... : the JSON of those rows.
resources() {
    local column=$1
    shift
    jq -nRc --argjson column "$column" --arg numbers " $* " '[inputs | split("|") | select(.[0] as $n | $numbers | contains(" \($n) "))]
        | reduce .[] as $row ({}; setpath($row[3] | split("."); $row[$column - 1] | fromjson))' <"$WORK/table"
}

# keep NAME TIME NUMBER... : the files of those rows, and the properties of systemd.
keep() {
    local name=$1 time=$2 number title of path created updated v1 v2 property file
    shift 2
    while IFS='|' read -r number title of path created updated v1 v2 property; do
        [[ " $* " == *" $number "* ]] || continue
        file=$v2
        [ "$CGROUP_VERSION" = 2 ] || file=$v1
        value "$name" "${file%%=*}"
        echo "$value" >"$WORK/rows/$number.file.$time"
    done <"$WORK/table"
    [ "$DRIVER" != systemd ] || systemctl $SYSTEMD show "orlop-$TAG-$name.scope" >"$WORK/rows/$1.properties.$time"
    for number in "$@"; do
        rm -f "$WORK/rows/$number.error"
        echo "$1" >"$WORK/rows/$number.first"
    done
}

# check_row NUMBER : the case.
check_row() {
    local number title of path created updated v1 v2 property file expected first
    [ ! -e "$WORK/rows/$1.skip" ] || skip "$(cat "$WORK/rows/$1.skip")"
    [ ! -e "$WORK/rows/$1.error" ] || fail "$(cat "$WORK/rows/$1.error")"
    IFS='|' read -r number title of path created updated v1 v2 property < <(grep "^$1|" "$WORK/table")
    file=$v2
    [ "$CGROUP_VERSION" = 2 ] || file=$v1
    expected=${file#*=}
    has_words "${expected%>*}" "$(cat "$WORK/rows/$1.file.1")"
    has_words "${expected##*>}" "$(cat "$WORK/rows/$1.file.2")"
    [ "$DRIVER" = systemd ] && [ "$property" != - ] || return 0
    expected=${property#*=}
    first=$(cat "$WORK/rows/$1.first")
    equal "${property%%=*}=${expected%>*}" "$(grep "^${property%%=*}=" "$WORK/rows/$first.properties.1")"
    equal "${property%%=*}=${expected#*>}" "$(grep "^${property%%=*}=" "$WORK/rows/$first.properties.2")"
}

# has_words WORDS TEXT : none at all are of an empty text.
has_words() {
    local text=${2//$'\n'/ }
    [ -n "$1" ] || equal "" "$text"
    [[ " $text " == *" $1 "* ]] || fail "expected the words: $1
  actual: $2"
}

# A function for each row that this version of cgroups has.
while IFS='|' read -r number title _ _ _ _ v1 v2 _; do
    if [ "$CGROUP_VERSION" = 1 ]; then file=$v1; else file=$v2; fi
    [ "$file" = - ] || eval "it_sets_and_updates_${title// /_}() { check_row $number; }"
done < <(rows)
