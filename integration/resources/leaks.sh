# Cases: many containers at once, and that nothing is left of containers, nor of creates that were killed.

# Below an ancestor that is new: the kernel lists the controllers of a cgroup before their files are there. And it goes
# with the first container of the round that is deleted while no other one is there.
it_limits_each_of_many_made_at_once() {
    [ "$DRIVER" != systemd ] || skip "systemd makes one scope after the other"
    local round number id
    config crowd '.linux.cgroupsPath |= sub("crowd"; "crowd-@ROUND@/@ID@") | .linux.resources = {pids: {limit: 30}, memory: {limit: 33554432}}'
    for round in $(seq "${ROUNDS:-4}"); do
        for number in 1 2 3 4 5 6 7 8; do
            id=crowd-$round-$number
            mkdir "$WORK/bundles/$id"
            sed "s|@ROUND@|$round|; s|@ID@|$id|" "$WORK/bundles/crowd/config.json" >"$WORK/bundles/$id/config.json"
            one_of_many &
        done
        wait
    done >"$WORK/crowd"
    equal "$(seq $((8 * ${ROUNDS:-4})) | sed 's/.*/30/')" "$(cat "$WORK/crowd")"
}

# one_of_many : the limit that the container $id has got.
one_of_many() {
    oci create --bundle "$WORK/bundles/$id" --pid-file "$WORK/bundles/$id/pid" "$TAG-$id" </dev/null 2>&1 || return
    value "$id" pids/pids.max
    echo "$value"
    remove "$id" 2>&1
}

# traces : what the containers of this suite have on this machine.
traces() {
    find /sys/fs/cgroup -name "*$TAG-*" 2>/dev/null
    ls -A "$WORK/state"
    grep -F "$TAG-" /proc/self/mountinfo || true
    [ "$DRIVER" != systemd ] || systemctl $SYSTEMD list-units --all --plain --no-legend "*$TAG-*"
    pgrep -f "$TAG-leak" || true
}

# born_and_removed NUMBER MILLISECONDS : an odd one's create is killed after a while.
born_and_removed() {
    local id=$TAG-leak-$1 pid try
    mkdir "$WORK/bundles/leak-$1"
    sed "s|@ID@|leak-$1|" "$WORK/bundles/leak/config.json" >"$WORK/bundles/leak-$1/config.json"
    "$RUNTIME" "${GLOBAL[@]}" create --bundle "$WORK/bundles/leak-$1" "$id" >"$WORK/bundles/leak-$1/log" 2>&1 &
    pid=$!
    if [ $(($1 % 2)) = 1 ]; then
        sleep "$(printf '0.%03d' "$2")"
        kill -KILL $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
    elif ! wait $pid; then
        cat "$WORK/bundles/leak-$1/log"
    fi
    "$RUNTIME" "${GLOBAL[@]}" delete --force "$id" 2>&1 || echo "delete $id: status $?"
    rm -rf "$WORK/bundles/leak-$1"
}

# Last, so that it sees what all the others have left, too.
it_leaves_nothing_behind() {
    local number count=${CONTAINERS:-500} at_once=${AT_ONCE:-20} began took trouble
    config leak '.linux.cgroupsPath |= sub("leak"; "@ID@") | .linux.resources += {pids: {limit: 30}, memory: {limit: 33554432}}'
    # How long a create takes among as many others says when to kill them.
    began=${EPOCHREALTIME/./}
    for number in $(seq 2 2 $((2 * at_once))); do born_and_removed "$number" 0 & done >"$WORK/trouble"
    wait
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
    [ $took -lt 950 ] || took=950
    for number in $(seq 101 $((100 + count - at_once))); do
        born_and_removed "$number" $((RANDOM % took)) &
        [ $((number % at_once)) != 0 ] || wait
    done >>"$WORK/trouble"
    wait
    trouble=$(cat "$WORK/trouble")
    equal "" "$trouble"
    # A dying process and systemd's notice of it take a moment.
    (eventually is "" traces) || fail "$(traces)"
}
