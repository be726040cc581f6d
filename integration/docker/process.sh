# Cases: the process that runs inside, its identity and its end; and exec.

it_passes_the_exit_status_on() {
    status 42 docker run --rm busybox sh -c 'exit 42'
}

it_reports_death_by_signal_as_128_and_the_signal() {
    status 143 docker run --rm --init busybox sh -c 'kill -TERM $$'
    status 137 docker run --rm --init busybox sh -c 'kill -KILL $$'
}

it_reports_a_missing_command_as_127() {
    status 127 docker run --rm busybox no-such-command
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
}

it_reports_a_missing_path_as_127() {
    status 127 docker run --rm busybox /no/such/command
    contains '"/no/such/command"' "$output"
    contains 'no such file or directory' "$output"
}

it_reports_what_cannot_be_executed_as_126() {
    status 126 docker run --rm busybox /etc/motd
    contains '"/etc/motd": permission denied' "$output"
    # Docker 20 knows 126 for "permission denied" only, not for "is a directory".
    output=$(docker run --rm busybox /etc 2>&1) && fail "a folder was executed" || matches '^12[56]$' $?
    matches '"/etc": (permission denied|is a directory)' "$output"
}

it_reports_what_the_daemon_refuses_as_125() {
    status 125 docker run --rm --memory 1k busybox true
    contains "Minimum memory limit" "$output"
    status 125 docker run --rm --runtime none-such busybox true
    contains none-such "$output"
}

it_reports_a_container_that_cannot_be_made() {
    # A file over a folder.
    echo >"$WORK/tmp/file"
    status 125 docker run --name unmade -v "$WORK/tmp/file:/etc" busybox true ||
        status 127 docker run --name unmade -v "$WORK/tmp/file:/etc" busybox true
    contains "error mounting \"$WORK/tmp/file\" to rootfs at \"/etc\"" "$output"
    contains "not a directory" "$output"
    remove unmade
}

it_sets_the_environment() {
    printf 'FROM_FILE=yes\n' >"$WORK/tmp/environment"
    local environment
    environment=$(HANDED_ON=too docker run --rm -e PLAIN='a b=c' -e EMPTY= -e HANDED_ON --env-file "$WORK/tmp/environment" busybox env)
    contains "PLAIN=a b=c" "$environment"
    contains $'\nEMPTY=\n' $'\n'"$environment"$'\n'
    contains "HANDED_ON=too" "$environment"
    contains "FROM_FILE=yes" "$environment"
    contains "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$environment"
    contains "HOME=/root" "$environment"
}

it_changes_to_the_working_directory() {
    equal /tmp "$(docker run --rm --workdir /tmp busybox pwd)"
    equal /made/for/it "$(docker run --rm --workdir /made/for/it busybox pwd)"
}

it_replaces_the_entrypoint() {
    equal "a b" "$(docker run --rm --entrypoint echo busybox a b)"
}

it_runs_as_a_user() {
    equal "1000 1000" "$(docker run --rm --user app busybox sh -c 'echo $(id -u) $(id -g)')"
    equal "/home/app" "$(docker run --rm --user app busybox sh -c 'echo $HOME')"
    equal "1234 2000" "$(docker run --rm --user 1234:extra busybox sh -c 'echo $(id -u) $(id -g)')"
    equal "1000 2000" "$(docker run --rm --user app busybox id -G)"
    equal "1000 2000 3000" "$(docker run --rm --user app --group-add 3000 busybox id -G)"
    status 125 docker run --rm --user nobody-here busybox true
    contains "no matching entries in passwd file" "$output"
}

it_names_the_host() {
    equal harbour "$(docker run --rm --hostname harbour busybox hostname)"
    contains harbour "$(docker run --rm --hostname harbour busybox cat /etc/hosts)"
    equal harbour "$(docker run --rm --hostname harbour busybox cat /etc/hostname)"
}

it_runs_under_an_init() {
    # The init reaps the orphan, so that it is no zombie.
    contains docker-init "$(docker run --rm --init busybox cat /proc/1/cmdline | tr '\0' ' ')"
    equal 0 "$(docker run --rm --init busybox sh -c '(sleep 0.1 &) ; sleep 0.4; grep -c "^State:.Z" /proc/[0-9]*/status | grep -c :1$; true')"
}

it_is_the_first_process() {
    equal 1 "$(docker run --rm busybox sh -c 'echo $$')"
}

it_shares_the_pid_namespace_of_the_host() {
    local pid
    pid=$(docker run --rm --pid host busybox sh -c 'echo $$')
    [ "$pid" -gt 1 ] || fail "pid $pid"
}

it_shares_the_pid_namespace_of_another_container() {
    in_background --name shared-pid
    contains "sleep 1000" "$(docker run --rm --pid container:shared-pid busybox ps)"
    # Its end must not be the end of the other.
    equal running "$(field shared-pid .State.Status)"
    remove shared-pid
}

it_limits_resources_of_the_process() {
    equal "100 200" "$(docker run --rm --ulimit nofile=100:200 busybox sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)')"
    equal 0 "$(docker run --rm --ulimit core=0 busybox sh -c 'ulimit -c')"
}

it_adjusts_the_oom_score() {
    equal 500 "$(docker run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj)"
}

it_leaks_no_descriptors() {
    equal "0 1 2 3" "$(docker run --rm busybox ls /proc/self/fd | sort -n | tr '\n' ' ' | sed 's/ $//')"
    in_background --name descriptors
    equal "0 1 2 3" "$(docker exec descriptors ls /proc/self/fd | sort -n | tr '\n' ' ' | sed 's/ $//')"
    remove descriptors
}

it_leaves_no_signals_blocked_or_ignored() {
    local masks
    masks=$(docker run --rm busybox grep ^Sig /proc/self/status)
    contains $'SigBlk:\t0000000000000000' "$masks"
    contains $'SigIgn:\t0000000000000000' "$masks"
}

it_has_the_standard_streams_of_dev() {
    equal "through stdout" "$(docker run --rm busybox sh -c 'echo through stdout >/dev/stdout')"
    equal "through stderr" "$(docker run --rm busybox sh -c 'echo through stderr >/dev/stderr' 2>&1)"
    # Also when the process is not root's.
    equal "through fd" "$(docker run --rm --user app busybox sh -c 'echo through fd >/proc/self/fd/1')"
}

it_executes_in_a_container() {
    in_background --name executed -e FROM_CONTAINER=yes
    equal hello "$(docker exec executed echo hello)"
    equal yes "$(docker exec executed sh -c 'echo $FROM_CONTAINER')"
    equal "piped" "$(echo piped | docker exec -i executed cat)"
    status 5 docker exec executed sh -c 'exit 5'
    contains docker-init "$(docker exec executed cat /proc/1/cmdline | tr '\0' ' ')"
    remove executed
}

it_executes_as_a_user_elsewhere_with_an_environment() {
    in_background --name exec-options
    equal "1000 2000 /tmp added" "$(docker exec -u app -w /tmp -e NEW=added exec-options sh -c 'echo $(id -G) $PWD $NEW')"
    equal /home/app "$(docker exec -u app exec-options sh -c 'echo $HOME')"
    equal 1234:2000 "$(docker exec -u 1234:2000 exec-options sh -c 'echo $(id -u):$(id -g)')"
    remove exec-options
}

it_executes_in_the_background() {
    in_background --name exec-detached
    docker exec -d exec-detached sh -c 'echo done >/tmp/detached; exec sleep 1003'
    eventually is "done" docker exec exec-detached cat /tmp/detached
    contains "sleep 1003" "$(docker top exec-detached)"
    remove exec-detached
}

it_executes_privileged() {
    needs_all_capabilities
    in_background --name exec-privileged --security-opt apparmor=unconfined --security-opt seccomp=unconfined
    lacks "$(docker exec --privileged exec-privileged grep CapEff /proc/self/status)" "$(docker exec exec-privileged grep CapEff /proc/self/status)"
    docker exec --privileged exec-privileged mount -t tmpfs none /mnt
    status 1 docker exec exec-privileged mount -t tmpfs none /tmp
    remove exec-privileged
}

it_reports_what_exec_cannot_find_or_execute() {
    in_background --name exec-errors
    # 126 in Docker 20, 127 in later ones.
    output=$(docker exec exec-errors no-such-command 2>&1) && fail "no error" || matches '^12[67]$' $?
    contains 'exec: "no-such-command": executable file not found in $PATH' "$output"
    status 126 docker exec exec-errors /etc/motd
    contains "permission denied" "$output"
    # 126 in Docker 20, 1 in later ones.
    output=$(docker exec -u nobody-here exec-errors true 2>&1) && fail "no error" || matches '^(1|126)$' $?
    contains "no matching entries in passwd file" "$output"
    remove exec-errors
}

it_executes_many_at_once() {
    in_background --name busy
    local i
    for i in 1 2 3 4 5 6 7 8; do
        docker exec busy sh -c "echo answer $i" >"$WORK/tmp/answer-$i" &
    done
    wait
    equal "1 2 3 4 5 6 7 8" "$(cat "$WORK"/tmp/answer-* | sed 's/answer //' | sort -n | tr '\n' ' ' | sed 's/ $//')"
    remove busy
}

it_runs_many_at_once() {
    local i jobs=()
    for i in 1 2 3 4 5 6; do
        docker run --rm busybox sh -c "exit $((10 + i))" &
        jobs+=($!)
    done
    for i in 1 2 3 4 5 6; do
        local actual=0
        wait "${jobs[$((i - 1))]}" || actual=$?
        equal $((10 + i)) "$actual"
    done
}
