# Cases: checkpoints, which the daemon counts among its experimental features.

# counting NAME OPTION... : a container that counts, once in $SHARE/count.
counting() {
    docker run -d --name "$1" -v "$WORK/share:/share" "${@:2}" busybox \
        sh -c 'i=0; while :; do i=$((i+1)); echo $i >/share/new; mv /share/new /share/count; sleep 0.05; done' >/dev/null
    eventually counts_beyond 3
}

counts_beyond() {
    [ "$(cat "$WORK/share/count" 2>/dev/null || echo 0)" -gt "$1" ]
}

needs_checkpoints() {
    needs_criu
    equal true "$(docker version --format '{{.Server.Experimental}}')"
    rm -f "$WORK/share/count"
}

# checkpoint_and_start NAME OPTION...
checkpoint_and_start() {
    local name=$1 count
    needs_checkpoints
    counting "$@"
    docker checkpoint create "$name" first
    eventually is false field "$name" .State.Running
    contains first "$(docker checkpoint ls "$name")"
    count=$(cat "$WORK/share/count")
    sleep 0.3
    equal "$count" "$(cat "$WORK/share/count")"
    docker start --checkpoint first "$name"
    equal true "$(field "$name" .State.Running)"
    eventually counts_beyond "$count"
    # Not from its beginning.
    [ "$(cat "$WORK/share/count")" -lt $((count + 2000)) ] || fail "$count, then $(cat "$WORK/share/count")"
    contains count "$(docker exec "$name" ls /share)"
    remove "$name"
}

it_checkpoints_and_starts_from_the_checkpoint() {
    checkpoint_and_start checkpointed
}

it_checkpoints_without_a_network() {
    checkpoint_and_start without-network --network none
}

it_lets_a_checkpointed_container_run_on() {
    needs_checkpoints
    counting left-running
    docker checkpoint create --leave-running left-running first
    equal true "$(field left-running .State.Running)"
    eventually counts_beyond "$(cat "$WORK/share/count")"
    remove left-running
}
