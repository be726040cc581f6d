# Cases: the process that runs inside, its identity and its end; and exec.

it_passes_the_exit_status_on() {
    status 42 run --rm busybox sh -c 'exit 42'
}

it_reports_a_missing_command_as_127() {
    status 127 run --rm busybox no-such-command
    contains no-such-command "$output"
    contains "not found" "$output"
}

it_reports_what_cannot_be_executed_as_126() {
    status 126 run --rm busybox /etc/motd
    contains "permission denied" "${output,,}"
}

it_reports_a_container_that_cannot_be_made() {
    status 126 run --name unmade -v "$WORK/containers.conf:/etc" busybox true ||
        status 127 run --name unmade -v "$WORK/containers.conf:/etc" busybox true
    contains "not a directory" "${output,,}"
    remove unmade
}

it_sets_the_environment() {
    local environment
    environment=$(HANDED_ON=too run --rm -e PLAIN='a b=c' -e HANDED_ON busybox env)
    contains "PLAIN=a b=c" "$environment"
    contains "HANDED_ON=too" "$environment"
    contains "HOME=/root" "$environment"
}

it_changes_to_the_working_directory() {
    equal /tmp "$(run --rm --workdir /tmp busybox pwd)"
}

it_runs_as_a_user() {
    equal "1000 1000 2000" "$(run --rm --user app busybox sh -c 'echo $(id -u) $(id -G)')"
    equal "1234 2000" "$(run --rm --user 1234:extra busybox sh -c 'echo $(id -u) $(id -g)')"
    equal "1000 2000 3000" "$(run --rm --user app --group-add 3000 busybox id -G)"
}

it_sets_the_umask() {
    equal 0077 "$(run --rm --umask 0077 busybox sh -c umask)"
    equal 0022 "$(run --rm busybox sh -c umask)"
}

it_names_the_host() {
    equal harbour "$(run --rm --hostname harbour busybox hostname)"
}

it_shares_the_pid_namespace() {
    in_background --name shared-pid
    contains "sleep 1000" "$(run --rm --pid container:shared-pid busybox ps)"
    equal running "$(field shared-pid .State.Status)"
    remove shared-pid
    [ "$(run --rm --pid host busybox sh -c 'echo $$')" -gt 1 ] || fail "has a pid namespace of its own"
}

it_limits_resources_of_the_process() {
    # Podman adds a limit of processes that not every root may set.
    equal "100 200" "$(run --rm --ulimit nofile=100:200 --ulimit nproc=90:100 busybox sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)')"
}

it_leaks_no_descriptors_and_ignores_no_signals() {
    equal "0 1 2 3 " "$(run --rm busybox ls /proc/self/fd | sort -n | tr '\n' ' ')"
    local masks
    masks=$(run --rm busybox grep ^Sig /proc/self/status)
    contains $'SigBlk:\t0000000000000000' "$masks"
    contains $'SigIgn:\t0000000000000000' "$masks"
}

it_preserves_the_descriptors_asked_for() {
    echo through >"$WORK/tmp/third"
    equal through "$(run --rm --preserve-fds 1 busybox cat /proc/self/fd/3 3<"$WORK/tmp/third")"
}

it_executes_in_a_container() {
    in_background --name executed -e FROM_CONTAINER=yes
    equal hello "$(podman exec executed echo hello)"
    equal yes "$(podman exec executed sh -c 'echo $FROM_CONTAINER')"
    equal piped "$(echo piped | podman exec -i executed cat)"
    equal "1000 2000 /tmp added" "$(podman exec -u app -w /tmp -e NEW=added executed sh -c 'echo $(id -G) $PWD $NEW')"
    status 5 podman exec executed sh -c 'exit 5'
    status 127 podman exec executed no-such-command
    status 126 podman exec executed /etc/motd
    remove executed
}

it_executes_in_the_background() {
    in_background --name exec-detached
    podman exec -d exec-detached sh -c 'echo done >/tmp/detached; exec sleep 1003'
    eventually is "done" podman exec exec-detached cat /tmp/detached
    contains "sleep 1003" "$(podman top exec-detached args)"
    remove exec-detached
}

it_executes_many_at_once() {
    in_background --name busy
    local i
    for i in 1 2 3 4 5 6; do
        podman exec busy echo "answer $i" >"$WORK/tmp/answer-$i" &
    done
    wait
    equal "1 2 3 4 5 6 " "$(cat "$WORK"/tmp/answer-* | sed 's/answer //' | sort -n | tr '\n' ' ')"
    remove busy
}
