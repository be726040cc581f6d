# Cases: checkpoints, which ctr keeps as images.

counting() {
    run -d --mount="type=bind,src=$WORK/share,dst=/share,options=rbind:rw" "$1" \
        sh -c 'i=0; while :; do i=$((i+1)); echo $i >/share/new; mv /share/new /share/count; sleep 0.05; done'
    eventually counts_beyond 3
}

counts_beyond() {
    [ "$(cat "$WORK/share/count" 2>/dev/null || echo 0)" -gt "$1" ]
}

it_checkpoints_and_restores() {
    local count
    needs_criu
    mkdir -p "$WORK/share"
    rm -f "$WORK/share/count"
    counting checkpointed
    ctr container checkpoint --rw --image --task checkpointed example.org/checkpoint:first
    remove checkpointed
    count=$(cat "$WORK/share/count")
    ctr container restore --rw --live restored example.org/checkpoint:first &
    eventually counts_beyond "$count"
    [ "$(cat "$WORK/share/count")" -lt $((count + 2000)) ] || fail "$count, then $(cat "$WORK/share/count")"
    equal RUNNING "$(state restored)"
    remove restored
    wait
}
