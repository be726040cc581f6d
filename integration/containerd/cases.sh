# Cases: what ctr asks of the runtime.

it_runs_in_the_foreground_and_removes() {
    equal "hello there" "$(run --rm fore echo hello there)"
    equal "" "$(ctr container ls -q)"
    equal "" "$(ctr task ls -q)"
}

it_runs_in_the_background() {
    run -d back sleep 1000
    equal RUNNING "$(state back)"
    equal 1 "$(ctr task ls -q | grep -c '^back$')"
    contains "sleep 1000" "$(tr '\0' ' ' <"/proc/$(pid_of back)/cmdline")"
    remove back
}

it_creates_before_it_starts() {
    # This command has no --runc-binary, so it is the runc in the daemon's PATH.
    ctr container create "$IMAGE" later echo started
    equal "" "$(state later)"
    equal started "$(ctr task start later)"
    remove later
}

it_separates_output_and_errors() {
    equal out "$(once 'echo out; echo err >&2' 2>/dev/null)"
    equal err "$(once 'echo out; echo err >&2' 2>&1 >/dev/null)"
}

it_passes_standard_input_on() {
    equal HELLO "$({ echo hello; sleep 0.7; } | once 'tr a-z A-Z')"
}

it_passes_large_output_on_whole() {
    equal 8388608 "$(once 'head -c 8388608 /dev/zero' | wc -c)"
}

it_gives_a_terminal() {
    local answer
    answer=$(on_terminal "ctr run --runc-binary $RUNTIME --rm -t $IMAGE terminal sh -c 'tty; sleep 0.5; stty size'" </dev/null)
    contains /dev/pts/0 "$answer"
    contains "33 101" "$answer"
}

it_talks_with_a_shell_on_a_terminal() {
    status 3 converse "ctr run --runc-binary $RUNTIME --rm -t $IMAGE shell sh" '# ' 'echo $((40 + 2))\n' 42 'exit 3\n'
}

it_passes_the_exit_status_on() {
    status 42 once 'exit 42'
    status 0 once true
    # The first process of a pid namespace can be killed from without only.
    status 137 once 'sleep 1000 & kill -KILL $!; wait $!'
}

it_says_what_cannot_be_executed() {
    status 1 run --rm missing no-such-command
    contains 'OCI runtime create failed' "$output"
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
    status 1 run --rm unexecutable /etc/motd
    contains '"/etc/motd": permission denied' "$output"
    equal "" "$(ctr task ls -q | grep -x -e missing -e unexecutable || true)"
}

it_says_what_cannot_be_mounted() {
    status 1 run --rm "--mount=type=bind,src=$WORK/config.toml,dst=/etc,options=rbind" unmounted true
    contains "error mounting \"$WORK/config.toml\" to rootfs at \"/etc\"" "$output"
    contains "not a directory" "$output"
}

it_refuses_a_name_that_is_in_use() {
    run -d twice sleep 1000
    status 1 run -d twice sleep 1000
    contains "already exists" "$output"
    remove twice
}

it_executes_in_a_task() {
    run -d --env=FROM_CONTAINER=yes executed sleep 1000
    equal hello "$(ctr task exec --exec-id a executed echo hello)"
    equal yes "$(ctr task exec --exec-id b executed sh -c 'echo $FROM_CONTAINER')"
    equal piped "$(echo piped | ctr task exec --exec-id c executed cat)"
    equal /tmp "$(ctr task exec --exec-id d --cwd /tmp executed pwd)"
    equal "1000 1000" "$(ctr task exec --exec-id e --user app executed sh -c 'echo $(id -u) $(id -g)')"
    equal "1234:2000" "$(ctr task exec --exec-id f --user 1234:2000 executed sh -c 'echo $(id -u):$(id -g)')"
    status 5 ctr task exec --exec-id g executed sh -c 'exit 5'
    status 1 ctr task exec --exec-id h executed no-such-command
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
    equal "sleep 1000 " "$(ctr task exec --exec-id i executed cat /proc/1/cmdline | tr '\0' ' ')"
    remove executed
}

it_executes_on_a_terminal() {
    run -d exec-terminal sleep 1000
    contains "/dev/pts/" "$(on_terminal 'ctr task exec --exec-id a -t exec-terminal tty' </dev/null)"
    contains "33 101" "$(on_terminal 'ctr task exec --exec-id b -t exec-terminal sh -c "sleep 0.5; stty size"' </dev/null)"
    remove exec-terminal
}

it_executes_in_the_background() {
    run -d exec-detached sleep 1000
    ctr task exec --exec-id a --detach exec-detached sh -c 'echo done >/tmp/detached; exec sleep 1003'
    eventually is "done" ctr task exec --exec-id b exec-detached cat /tmp/detached
    equal 2 "$(ctr task ps exec-detached | tail -n +2 | wc -l)"
    # It alone is killed.
    ctr task kill -s SIGKILL --exec-id a exec-detached
    eventually is 1 eval 'ctr task ps exec-detached | tail -n +2 | wc -l'
    equal RUNNING "$(state exec-detached)"
    remove exec-detached
}

it_executes_many_at_once() {
    run -d busy sleep 1000
    local i
    for i in 1 2 3 4 5 6; do
        ctr task exec --exec-id "many-$i" busy echo "answer $i" >"$WORK/tmp/answer-$i" &
    done
    wait
    equal "1 2 3 4 5 6 " "$(cat "$WORK"/tmp/answer-* | sed 's/answer //' | sort -n | tr '\n' ' ')"
    remove busy
}

it_kills_with_the_signal_asked_for() {
    run -d signalled sh -c 'trap "exit 7" TERM; trap "touch /tmp/hup" HUP; touch /tmp/ready; while :; do sleep 0.1; done'
    eventually ctr task exec --exec-id ready signalled test -e /tmp/ready
    ctr task kill -s SIGHUP signalled
    eventually ctr task exec --exec-id hup signalled test -e /tmp/hup
    equal RUNNING "$(state signalled)"
    ctr task kill signalled
    eventually is STOPPED state signalled
    contains "non-zero exit code 7" "$(ctr task rm signalled 2>&1)"
    ctr container rm signalled
}

it_kills_all_processes() {
    run -d all sh -c 'sleep 1001 & sleep 1002 & wait'
    eventually is 3 eval 'ctr task ps all | tail -n +2 | wc -l'
    ctr task kill --all -s SIGKILL all
    eventually is STOPPED state all
    contains "non-zero exit code 137" "$(ctr task rm all 2>&1)"
    ctr container rm all
}

it_deletes_only_what_has_stopped_unless_forced() {
    run -d stays sleep 1000
    status 1 ctr task rm stays
    contains "stopped" "$output"
    ctr task rm -f stays || true
    equal "" "$(state stays)"
    ctr container rm stays
}

it_pauses_and_resumes() {
    run -d sleeper sh -c 'n=0; while :; do n=$((n + 1)); echo $n >>/tmp/tick; usleep 20000; done'
    eventually ctr task exec --exec-id ready sleeper test -s /tmp/tick
    ctr task pause sleeper
    equal PAUSED "$(state sleeper)"
    local tick
    tick=/proc/$(pid_of sleeper)/root/tmp/tick
    local before
    before=$(cat "$tick")
    sleep 0.3
    equal "$before" "$(cat "$tick")"
    ctr task resume sleeper
    equal RUNNING "$(state sleeper)"
    sleep 0.3
    # And it goes on.
    differs "$before" "$(cat "$tick")"
    remove sleeper
}

it_lists_processes() {
    run -d listed sh -c 'sleep 1001 & exec sleep 1002'
    eventually is 2 eval 'ctr task ps listed | tail -n +2 | wc -l'
    contains "$(pid_of listed)" "$(ctr task ps listed)"
    remove listed
}

it_shows_metrics() {
    run -d --memory-limit=67108864 measured sleep 1000
    local metrics
    metrics=$(ctr task metrics measured)
    contains measured "$metrics"
    if [ $CGROUP_VERSION = 1 ]; then
        matches 'memory.usage_in_bytes +[1-9][0-9]*' "$metrics"
        matches 'memory.limit_in_bytes +67108864' "$metrics"
        matches 'pids.current +1' "$metrics"
    else
        matches 'memory.usage +[1-9][0-9]*' "$metrics"
        matches 'pids.current +1' "$metrics"
    fi
    remove measured
}

it_writes_the_pid_file() {
    run -d "--pid-file=$WORK/tmp/pid" with-pid sleep 1000
    equal "$(pid_of with-pid)" "$(cat "$WORK/tmp/pid")"
    remove with-pid
}

it_keeps_its_state_where_asked() {
    mkdir -p "$WORK/runc-root"
    run -d "--runc-root=$WORK/runc-root" rooted sleep 1000
    equal rooted "$(ls "$WORK/runc-root/$CONTAINERD_NAMESPACE")"
    equal hello "$(ctr task exec --exec-id a rooted echo hello)"
    remove rooted
    equal "" "$(ls "$WORK/runc-root/$CONTAINERD_NAMESPACE")"
}

it_lists_and_describes_what_containerd_has_made() {
    [ -d /run/containerd/runc ] || skip "the state is not where this containerd keeps it"
    run -d known sleep 1000
    local root=/run/containerd/runc/$CONTAINERD_NAMESPACE
    equal "known running $(pid_of known)" "$("$RUNTIME" --root "$root" state known | jq -r '"\(.id) \(.status) \(.pid)"')"
    contains "known running" "$("$RUNTIME" --root "$root" list -f json | jq -r '.[] | "\(.id) \(.status)"')"
    remove known
}

it_limits_memory() {
    run -d --memory-limit=67108864 memory sleep 1000
    limit "$CGROUP/memory" memory/memory.limit_in_bytes=67108864 memory.max=67108864
    remove memory
}

it_reports_a_container_out_of_memory() {
    status 137 once --memory-limit=16777216 'exec dd if=/dev/zero of=/dev/null bs=64M'
}

it_limits_cpu() {
    run -d --cpus=0.5 --cpu-shares=512 cpu sleep 1000
    limit "$CGROUP/cpu" cpu/cpu.cfs_quota_us=50000 cpu.max="50000 100000"
    [ $CGROUP_VERSION = 2 ] || limit "$CGROUP/cpu" cpu/cpu.shares=512 none
    remove cpu
}

it_is_placed_in_the_cgroup_asked_for() {
    run -d "--cgroup=$CGROUP/elsewhere" placed sleep 1000
    contains "$CGROUP/elsewhere" "$(cat "/proc/$(pid_of placed)/cgroup")"
    ctr task exec --exec-id a --detach placed sleep 1004
    eventually is 2 eval "wc -l <$(cgroup_of "$CGROUP/elsewhere" pids)/cgroup.procs"
    remove placed
}

it_sets_the_environment_and_the_working_directory() {
    printf 'FROM_FILE=yes\n' >"$WORK/tmp/environment"
    equal "a b=c yes /tmp" "$(once --env=PLAIN='a b=c' "--env-file=$WORK/tmp/environment" --cwd=/tmp 'echo $PLAIN $FROM_FILE $PWD')"
    equal /made/for/it "$(once --cwd=/made/for/it pwd)"
}

it_mounts_a_folder() {
    mkdir -p "$WORK/share"
    once "--mount=type=bind,src=$WORK/share,dst=/shared,options=rbind:rw" 'echo from within >/shared/note'
    equal "from within" "$(cat "$WORK/share/note")"
    status 1 once "--mount=type=bind,src=$WORK/share,dst=/shared,options=rbind:ro" 'echo again >/shared/note'
    contains "Read-only file system" "$output"
    equal "from within" "$(once "--mount=type=bind,src=$WORK/share/note,dst=/a/new/path,options=bind:ro" 'cat /a/new/path')"
}

it_mounts_a_tmpfs() {
    local line
    line=$(once '--mount=type=tmpfs,src=tmpfs,dst=/scratch,options=nosuid:noexec:size=65536k:mode=1770' 'grep " /scratch " /proc/mounts')
    contains "tmpfs /scratch tmpfs rw,nosuid,noexec" "$line"
    contains size=65536k "$line"
    contains mode=1770 "$line"
}

it_is_read_only_when_asked() {
    status 1 once --read-only 'touch /file'
    contains "Read-only file system" "$output"
}

it_has_namespaces_of_its_own() {
    local namespace
    for namespace in mnt pid net ipc uts; do
        differs "$(readlink "/proc/self/ns/$namespace")" "$(once "readlink /proc/self/ns/$namespace")"
    done
    equal "$(readlink /proc/self/ns/net)" "$(once --net-host 'readlink /proc/self/ns/net')"
}

it_joins_a_namespace() {
    run -d owner sleep 1000
    local pid
    pid=$(pid_of owner)
    equal "$(readlink "/proc/$pid/ns/net")" "$(once "--with-ns=network:/proc/$pid/ns/net" 'readlink /proc/self/ns/net')"
    equal "sleep 1000 " "$(once "--with-ns=pid:/proc/$pid/ns/pid" 'tr "\0" " " </proc/1/cmdline')"
    remove owner
}

it_maps_users() {
    equal "0 100000 65536" "$(echo $(once --uidmap=0:100000:65536 --gidmap=0:100000:65536 'cat /proc/self/uid_map'))"
    run -d --uidmap=0:100000:65536 --gidmap=0:100000:65536 mapped sleep 1000
    equal 100000 "$(stat -c %u "/proc/$(pid_of mapped)")"
    equal 0 "$(ctr task exec --exec-id a mapped id -u)"
    remove mapped
}

it_has_capabilities_and_no_new_privileges() {
    equal 00000000a80425fb "$(once "sed -n 's/^CapEff:\t//p' /proc/self/status")"
    equal 00000000a80435fa "$(once --cap-add=CAP_NET_ADMIN --cap-drop=CAP_CHOWN "sed -n 's/^CapEff:\t//p' /proc/self/status")"
    equal 1 "$(once "sed -n 's/^NoNewPrivs:\t//p' /proc/self/status")"
    equal 0 "$(once --allow-new-privs "sed -n 's/^NoNewPrivs:\t//p' /proc/self/status")"
}

it_applies_the_default_seccomp_profile_when_asked() {
    once 'unshare -U true'
    status 1 once --seccomp 'unshare -U true'
    contains "Operation not permitted" "$output"
}

it_is_privileged_when_asked() {
    needs_all_capabilities
    once --privileged 'mount -t tmpfs none /mnt'
}

it_gives_a_device() {
    [ -c /dev/fuse ] || skip "no /dev/fuse on this host"
    once --device=/dev/fuse ': <>/dev/fuse'
    status 1 once --cap-add=CAP_MKNOD 'mknod /node c 10 229; : <>/node'
    contains "Operation not permitted" "$output"
}

it_runs_a_configuration_that_was_written_by_hand() {
    cp -a "$WORK/rootfs" "$WORK/tmp/rootfs"
    ctr oci spec | jq --arg root "$WORK/tmp/rootfs" --arg cgroup "$CGROUP/by-hand" '
        .root.path = $root | .process.args = ["sh", "-c", "echo $(id -u) $(id -G) $(umask) $(hostname)"]
        | .process.env = ["PATH=/bin"] | .linux.cgroupsPath = $cgroup | .hostname = "by-hand"
        | .process.user = {uid: 1000, gid: 1000, additionalGids: [2000, 3000], umask: 7}' >"$WORK/tmp/spec.json"
    equal "1000 1000 2000 3000 0007 by-hand" "$(ctr run --runc-binary "$RUNTIME" --rm --config "$WORK/tmp/spec.json" by-hand)"
}

it_survives_the_end_of_the_daemon() {
    run -d survivor sleep 1000
    local pid
    pid=$(pid_of survivor)
    stop_daemon "$(cat "$WORK/containerd.pid")"
    start_containerd
    equal RUNNING "$(state survivor)"
    equal "$pid" "$(pid_of survivor)"
    equal hello "$(ctr task exec --exec-id a survivor echo hello)"
    remove survivor
}

it_cleans_up_after_a_shim_that_was_killed() {
    run -d orphan sleep 1000
    local pid shim
    pid=$(pid_of orphan)
    shim=$(pgrep -f "[c]ontainerd-shim-runc-v2 .*-id orphan ")
    kill -KILL "$shim"
    # containerd calls the runtime to kill and delete what the shim has left.
    eventually is "" state orphan
    eventually test ! -e "/run/containerd/runc/$CONTAINERD_NAMESPACE/orphan"
    [ ! -e "/proc/$pid" ] || eventually is Z eval "cut -d ' ' -f 3 /proc/$pid/stat"
    ctr container rm orphan
}
