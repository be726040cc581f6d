# Cases: the commands that make, watch, change and end containers.

it_runs_a_program_and_removes_the_container() {
    equal "hello there" "$(run --rm --name once busybox echo hello there)"
    equal "" "$(podman ps -aq)"
}

it_accepts_the_path_of_the_runtime() {
    equal hello "$(podman --runtime "$RUNTIME" run --cgroup-parent "$CGROUP" --rm busybox echo hello)"
}

it_runs_a_container_in_the_background() {
    run -d --name background busybox sh -c 'echo started; exec sleep 1000' >/dev/null
    equal running "$(field background .State.Status)"
    equal orlop "$(field background .OCIRuntime)"
    eventually is started podman logs background
    contains background "$(podman ps --format '{{.Names}}')"
    remove background
}

it_separates_output_and_errors() {
    equal out "$(run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null)"
    equal err "$(run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"
}

it_passes_standard_input_on() {
    equal HELLO "$(echo hello | run --rm -i busybox tr a-z A-Z)"
}

it_gives_run_a_terminal() {
    local answer
    answer=$(on_terminal "podman run --cgroup-parent $CGROUP --rm -it busybox sh -c 'tty; sleep 0.5; stty size'" </dev/null)
    contains /dev/pts/0 "$answer"
    contains "33 101" "$answer"
}

it_talks_with_a_shell_on_a_terminal() {
    status 3 converse "podman run --cgroup-parent $CGROUP --rm -it busybox sh" '# ' 'echo $((40 + 2)) on $(tty)\n' '42 on' 'exit 3\n'
    contains "42 on /dev/pts/0" "$output"
}

it_attaches_to_a_container() {
    run -di --name attached busybox sh -c 'read line; echo "$line, and fro"; exit 6' >/dev/null
    contains "to, and fro" "$({ echo to; sleep 0.5; } | podman attach attached || true)"
    equal 6 "$(podman wait attached)"
    run -di -t --name terminal busybox sh >/dev/null
    converse 'podman attach terminal' '' 'echo $((40 + 2)) on $(tty)\n' '42 on /dev/pts/0' 'exit 3\n' || true
    equal 3 "$(podman wait terminal)"
    remove attached terminal
}

it_gives_exec_a_terminal() {
    in_background --name exec-terminal
    local answer
    answer=$(on_terminal "podman exec -it exec-terminal sh -c 'tty; sleep 0.5; stty size'" </dev/null)
    contains /dev/pts/ "$answer"
    contains "33 101" "$answer"
    remove exec-terminal
}

it_follows_the_log() {
    run -d --name talker busybox sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done' >/dev/null
    equal "line 1 line 2 line 3 " "$(podman logs -f talker | tr '\n' ' ')"
    remove talker
}

it_stops_with_sigterm() {
    run -d --name polite busybox sh -c 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready podman logs polite
    podman stop polite
    equal "exited 7" "$(field polite '.State.Status}} {{.State.ExitCode')"
    contains bye "$(podman logs polite)"
    remove polite
}

it_kills_what_ignores_sigterm() {
    run -d --name stubborn busybox sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready podman logs stubborn
    podman stop -t 1 stubborn
    equal 137 "$(field stubborn .State.ExitCode)"
    remove stubborn
}

it_kills_a_container() {
    in_background --name victim
    podman kill victim
    equal 137 "$(podman wait victim)"
    remove victim
}

it_sends_a_signal_by_name() {
    run -d --name signalled busybox sh -c 'trap "echo got hup" HUP; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready podman logs signalled
    podman kill -s HUP signalled
    eventually says "got hup" podman logs signalled
    equal running "$(field signalled .State.Status)"
    remove signalled
}

it_removes_only_stopped_containers_unless_forced() {
    in_background --name stays
    status 2 podman rm stays
    contains "running" "$output"
    podman rm -f -t 0 stays
    status 1 podman container exists stays
}

it_pauses_and_resumes() {
    run -d --name sleeper busybox sh -c 'n=0; while :; do n=$((n + 1)); echo $n >>/tick; usleep 20000; done' >/dev/null
    eventually podman exec sleeper test -s /tick
    local tick
    tick=/proc/$(field sleeper .State.Pid)/root/tick
    podman pause sleeper
    equal paused "$(field sleeper .State.Status)"
    local before
    before=$(cat "$tick")
    sleep 0.3
    equal "$before" "$(cat "$tick")"
    podman unpause sleeper
    equal running "$(field sleeper .State.Status)"
    sleep 0.3
    # And it goes on.
    differs "$before" "$(cat "$tick")"
    remove sleeper
}

it_creates_starts_and_restarts() {
    podman create --cgroup-parent "$CGROUP" --name again busybox sh -c 'echo run >>/runs; wc -l </runs; exec sleep 1000' >/dev/null
    equal created "$(field again .State.Status)"
    podman start again
    eventually says 1 podman logs again
    podman restart -t 0 again
    eventually says 2 podman logs again
    remove again
}

it_initializes_without_starting() {
    podman create --cgroup-parent "$CGROUP" --name ready busybox sh -c 'echo started; exec sleep 1000' >/dev/null
    podman init ready
    equal initialized "$(field ready .State.Status)"
    [ "$(field ready .State.Pid)" -gt 0 ] || fail "no process"
    equal "" "$(podman logs ready)"
    podman start ready
    eventually is started podman logs ready
    remove ready
}

it_waits_for_the_exit_status() {
    run -d --name waited busybox sh -c 'sleep 0.3; exit 4' >/dev/null
    equal 4 "$(podman wait waited)"
    remove waited
}

it_lists_the_processes() {
    run -d --name listed busybox sh -c 'sleep 1001 & exec sleep 1002' >/dev/null
    eventually says "sleep 1001" podman top listed pid args
    contains "sleep 1002" "$(podman top listed pid args)"
    remove listed
}

it_shows_statistics() {
    in_background --name measured --memory 64m
    local stats
    stats=$(podman stats --no-stream --format '{{.Name}} {{.PIDS}} {{.MemUsage}}' measured)
    matches '^measured 1 [0-9.]+[kM]B / 67.11MB$' "$stats"
    remove measured
}

it_commits_a_container_to_an_image() {
    run --name author busybox sh -c 'echo kept >/page'
    podman commit -q author committed >/dev/null
    equal kept "$(run --rm committed cat /page)"
    remove author
    podman rmi committed >/dev/null
}

it_copies_in_and_out() {
    in_background --name copied
    echo inward >"$WORK/tmp/inward"
    podman cp "$WORK/tmp/inward" copied:/tmp/
    equal inward "$(podman exec copied cat /tmp/inward)"
    podman exec copied sh -c 'echo outward >/tmp/outward'
    podman cp copied:/tmp/outward "$WORK/tmp/"
    equal outward "$(cat "$WORK/tmp/outward")"
    remove copied
}

it_builds_an_image() {
    mkdir -p "$WORK/context"
    cat >"$WORK/context/Dockerfile" <<'END'
FROM localhost/busybox
RUN echo "built by $(id -u) in $PWD" >/built
USER app
WORKDIR /home/app
RUN test "$(id -un)" = app && echo mine >note
CMD cat /built note
END
    podman build -q --isolation oci --cgroup-parent "$CGROUP/build" -t built "$WORK/context"
    equal "built by 0 in / mine " "$(run --rm built | tr '\n' ' ')"
    podman rmi built >/dev/null
}

it_restarts_what_fails() {
    run -d --name failing --restart on-failure:2 busybox sh -c 'echo >>/tries; exit 3' >/dev/null
    eventually is "exited 3" field failing '.State.Status}} {{.State.ExitCode'
    eventually is 3 eval 'podman cp failing:/tries - | tar -xO | wc -l'
    remove failing
}

it_restarts_what_always_runs() {
    run -d --name tireless --restart always busybox sleep 1000 >/dev/null
    kill -KILL "$(field tireless .State.Pid)"
    eventually is "1 running" field tireless '.RestartCount}} {{.State.Status'
    podman stop -t 0 tireless
    equal exited "$(field tireless .State.Status)"
    remove tireless
}

it_shows_what_has_changed_and_exports_it() {
    run --name changed busybox sh -c 'echo new >/added; rm /etc/motd'
    local diff
    diff=$(podman diff changed)
    contains "A /added" "$diff"
    contains "D /etc/motd" "$diff"
    equal new "$(podman export changed | tar -xO added)"
    remove changed
}

it_saves_and_loads_an_image() {
    podman tag busybox localhost/saved
    podman save -q -o "$WORK/tmp/saved.tar" localhost/saved
    podman rmi localhost/saved >/dev/null
    podman load -q -i "$WORK/tmp/saved.tar"
    equal loaded "$(run --rm localhost/saved echo loaded)"
    podman rmi localhost/saved >/dev/null
}

it_checks_health() {
    run -d --name patient --health-cmd 'test -f /well' --health-interval disable --health-retries 1 busybox sleep 1000 >/dev/null
    status 1 podman healthcheck run patient
    podman exec patient touch /well
    status 0 podman healthcheck run patient
    remove patient
}
