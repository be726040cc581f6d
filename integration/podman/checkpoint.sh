# Cases: checkpoints, also as a file for another machine.

counting() {
    run -d --name "$1" -v "$WORK/share:/share" "${@:2}" busybox \
        sh -c 'i=0; while :; do i=$((i+1)); echo $i >/share/new; mv /share/new /share/count; sleep 0.05; done' >/dev/null
    eventually counts_beyond 3
}

counts_beyond() {
    [ "$(cat "$WORK/share/count" 2>/dev/null || echo 0)" -gt "$1" ]
}

it_checkpoints_and_restores() {
    local count
    needs_criu
    rm -f "$WORK/share/count"
    counting checkpointed
    podman container checkpoint checkpointed
    equal false "$(field checkpointed .State.Running)"
    equal true "$(field checkpointed .State.Checkpointed)"
    count=$(cat "$WORK/share/count")
    sleep 0.3
    equal "$count" "$(cat "$WORK/share/count")"
    podman container restore checkpointed
    equal running "$(field checkpointed .State.Status)"
    eventually counts_beyond "$count"
    [ "$(cat "$WORK/share/count")" -lt $((count + 2000)) ] || fail "$count, then $(cat "$WORK/share/count")"
    contains count "$(podman exec checkpointed ls /share)"
    remove checkpointed
}

it_lets_a_checkpointed_container_run_on() {
    needs_criu
    rm -f "$WORK/share/count"
    counting left-running
    podman container checkpoint --leave-running left-running
    equal running "$(field left-running .State.Status)"
    eventually counts_beyond "$(cat "$WORK/share/count")"
    remove left-running
}

it_exports_a_checkpoint_and_imports_it_under_another_name() {
    local count
    needs_criu
    rm -f "$WORK/share/count"
    counting exported
    run_in_container_file exported
    podman container checkpoint --export "$WORK/exported.tar.gz" exported
    remove exported
    count=$(cat "$WORK/share/count")
    podman container restore --import "$WORK/exported.tar.gz" --name imported
    equal running "$(field imported .State.Status)"
    eventually counts_beyond "$count"
    # What the container has written comes along.
    equal kept "$(podman exec imported cat /kept)"
    remove imported
}

run_in_container_file() {
    podman exec "$1" sh -c 'echo kept >/kept'
}
