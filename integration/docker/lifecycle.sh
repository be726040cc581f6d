# Cases: the commands that make, watch, change and end containers.

it_runs_a_program_and_removes_the_container() {
    equal "hello there" "$(docker run --rm --name once busybox echo hello there)"
    equal "" "$(docker ps -aq --filter name=once)"
}

it_runs_a_container_in_the_background() {
    docker run -d --name background busybox sh -c 'echo started; exec sleep 1000' >/dev/null
    equal running "$(field background .State.Status)"
    equal orlop "$(field background .HostConfig.Runtime)"
    eventually is started docker logs background
    contains background "$(docker ps --format '{{.Names}}')"
    remove background
}

it_separates_output_and_errors() {
    equal out "$(docker run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null)"
    equal err "$(docker run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)"
}

it_passes_standard_input_on() {
    equal "4 HELLO" "$(echo hello | docker run --rm -i busybox sh -c 'tr a-z A-Z | sed "s/^/$((2 + 2)) /"')"
}

it_passes_large_output_on_whole() {
    equal 8388608 "$(docker run --rm busybox head -c 8388608 /dev/zero | wc -c)"
}

it_gives_run_a_terminal() {
    contains /dev/pts/0 "$(on_terminal 'docker run --rm -it busybox tty' </dev/null)"
}

it_gives_the_terminal_its_size() {
    contains "33 101" "$(on_terminal 'docker run --rm -it busybox sh -c "sleep 0.5; stty size"' </dev/null)"
}

it_talks_with_a_shell_on_a_terminal() {
    status 3 converse 'docker run --rm -it busybox sh' '# ' 'echo $((40 + 2)) on $(tty)\n' '42 on' 'exit 3\n'
    contains "42 on /dev/pts/0" "$output"
}

it_interrupts_a_program_from_its_terminal() {
    status 5 converse 'docker run --rm -it busybox sh -c "trap \"echo interrupted; exit 5\" INT; echo ready; while :; do sleep 0.1; done"' ready '\003'
    contains interrupted "$output"
}

it_gives_exec_a_terminal() {
    in_background --name exec-terminal
    status 4 converse 'docker exec -it exec-terminal sh' '# ' 'until test "$(stty size)" = "33 101"; do usleep 20000; done; echo $((40 + 2)) on $(tty)\n' '42 on' 'exit 4\n'
    contains "42 on /dev/pts/" "$output"
    remove exec-terminal
}

it_attaches_to_a_container() {
    docker run -di --name attached busybox sh -c 'read line; echo "$line, and fro"' >/dev/null
    equal "to, and fro" "$({ echo to; sleep 0.5; } | docker attach attached)"
    equal 0 "$(docker wait attached)"
    remove attached
}

it_attaches_on_a_terminal_and_detaches() {
    docker run -dit --name terminal busybox sh >/dev/null
    # The keys that detach are Ctrl-P and Ctrl-Q.
    converse 'docker attach terminal' '' 'echo $((40 + 2)) on $(tty)\n' '42 on /dev/pts/0' '\020\021' || true
    equal running "$(field terminal .State.Status)"
    status 3 converse 'docker attach terminal' '' 'stty size; exit 3\n'
    contains "33 101" "$output"
    equal 3 "$(docker wait terminal)"
    remove terminal
}

it_detaches_from_exec_and_leaves_it_running() {
    in_background --name left
    converse 'docker exec -it left sh' '# ' 'echo $((40 + 2)); exec sleep 1005\n' 42 '\020\021' || true
    contains "sleep 1005" "$(docker top left)"
    remove left
}

it_follows_the_log() {
    docker run -d --name talker busybox sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done' >/dev/null
    equal "line 1 line 2 line 3" "$(docker logs -f talker | tr '\n' ' ' | sed 's/ $//')"
    remove talker
}

it_follows_the_end_of_a_log() {
    docker run -d --name chronicler busybox sh -c 'seq 100; while ! test -e /more; do sleep 0.1; done; echo more; echo error >&2' >/dev/null
    eventually says 100 docker logs --tail 1 chronicler
    equal "99 100 " "$(docker logs --tail 2 chronicler | tr '\n' ' ')"
    docker logs -f --tail 1 chronicler >"$WORK/tmp/end" 2>"$WORK/tmp/errors" &
    eventually is 100 cat "$WORK/tmp/end"
    docker exec chronicler touch /more
    wait $!
    equal "100 more error " "$(cat "$WORK/tmp/end" "$WORK/tmp/errors" | tr '\n' ' ')"
    remove chronicler
}

it_stops_with_sigterm() {
    docker run -d --name polite busybox sh -c 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready docker logs polite
    docker stop polite
    equal "exited 7" "$(field polite '.State.Status}} {{.State.ExitCode')"
    contains bye "$(docker logs polite)"
    remove polite
}

it_kills_what_ignores_sigterm() {
    docker run -d --name stubborn busybox sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready docker logs stubborn
    docker stop -t 1 stubborn
    equal 137 "$(field stubborn .State.ExitCode)"
    remove stubborn
}

it_stops_with_the_signal_asked_for() {
    docker run -d --name quits --stop-signal QUIT busybox sh -c 'trap "exit 9" QUIT; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready docker logs quits
    docker stop quits
    equal 9 "$(field quits .State.ExitCode)"
    remove quits
}

it_kills_a_container() {
    in_background --name victim
    docker kill victim
    equal 137 "$(docker wait victim)"
    remove victim
}

it_sends_a_signal_by_name_and_number() {
    docker run -d --name signalled busybox sh -c 'trap "echo got hup" HUP; trap "echo got usr1" USR1; echo ready; while :; do sleep 0.1; done' >/dev/null
    eventually is ready docker logs signalled
    docker kill -s HUP signalled
    eventually says "got hup" docker logs signalled
    docker kill -s 10 signalled
    eventually says "got usr1" docker logs signalled
    equal running "$(field signalled .State.Status)"
    remove signalled
}

it_removes_only_stopped_containers_unless_forced() {
    in_background --name stays
    status 1 docker rm stays
    matches "running container|is running" "$output"
    docker rm -f stays
    status 1 docker inspect stays
}

it_pauses_and_resumes() {
    ticking --name sleeper
    eventually docker exec sleeper test -e /tick
    docker pause sleeper
    equal paused "$(field sleeper .State.Status)"
    status 1 docker exec sleeper true
    contains "is paused" "$output"
    local before
    before=$(docker cp sleeper:/tick - | tar -xO)
    sleep 0.3
    equal "$before" "$(docker cp sleeper:/tick - | tar -xO)"
    docker unpause sleeper
    equal running "$(field sleeper .State.Status)"
    # And it goes on.
    differs "$before" "$(docker exec sleeper sh -c 'sleep 0.2; cat /tick')"
    remove sleeper
}

it_removes_a_paused_container() {
    in_background --name frozen
    docker pause frozen
    docker rm -f frozen
    status 1 docker inspect frozen
}

it_creates_starts_and_restarts() {
    docker create --name again busybox sh -c 'echo run >>/runs; wc -l </runs; exec sleep 1000' >/dev/null
    equal created "$(field again .State.Status)"
    docker start again
    equal running "$(field again .State.Status)"
    eventually is 1 docker logs again
    docker restart -t 0 again
    eventually says 2 docker logs again
    remove again
}

it_starts_attached_with_the_exit_status() {
    docker create --name attach-start busybox sh -c 'echo hello; exit 6' >/dev/null
    status 6 docker start -a attach-start
    equal hello "$output"
    remove attach-start
}

it_waits_for_the_exit_status() {
    docker run -d --name waited busybox sh -c 'sleep 0.3; exit 4' >/dev/null
    equal 4 "$(docker wait waited)"
    remove waited
}

it_lists_the_processes() {
    docker run -d --name listed busybox sh -c 'sleep 1001 & exec sleep 1002' >/dev/null
    eventually says "sleep 1001" docker top listed
    contains "sleep 1002" "$(docker top listed)"
    equal 2 "$(docker top listed -o pid | tail -n +2 | wc -l)"
    remove listed
}

it_shows_statistics() {
    in_background --name measured --memory 64m
    local stats
    stats=$(docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' measured)
    # docker-init and sleep.
    matches '^measured 2 [0-9.]+[KM]iB / 64MiB$' "$stats"
    remove measured
}

it_renames() {
    in_background --name former
    docker rename former latter
    equal /latter "$(field latter .Name)"
    docker exec latter true
    remove latter
}

it_inspects_the_process() {
    in_background --name inspected
    local pid
    pid=$(field inspected .State.Pid)
    contains docker-init "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
    equal "$(field inspected .Id)" "$(docker ps -q --no-trunc --filter name=inspected)"
    remove inspected
}

it_emits_the_events_of_a_life() {
    local since
    since=$(date +%s.%N)
    docker run --rm --name eventful busybox true
    local events
    events=$(docker events --since "$since" --until "$(date +%s.%N)" --filter container=eventful --filter type=container --format '{{.Action}}' | tr '\n' ' ')
    # --rm destroys a moment after run has returned.
    contains "create attach start die" "$events"
}

it_commits_a_container_to_an_image() {
    docker run --name author busybox sh -c 'echo kept >/page'
    docker commit --change 'CMD ["cat", "/page"]' author committed >/dev/null
    equal kept "$(docker run --rm committed)"
    remove author
    docker rmi committed >/dev/null
}

it_saves_and_loads_an_image() {
    docker tag busybox saved:1
    docker save -o "$WORK/tmp/saved.tar" saved:1
    contains manifest.json "$(tar -tf "$WORK/tmp/saved.tar")"
    docker rmi saved:1 >/dev/null
    contains "saved:1" "$(docker load -i "$WORK/tmp/saved.tar")"
    equal loaded "$(docker run --rm saved:1 echo loaded)"
    docker rmi saved:1 >/dev/null
}

it_exports_a_container_and_imports_it_as_an_image() {
    docker run --name exported busybox sh -c 'echo kept >/page'
    docker export exported | docker import --change 'CMD ["cat", "/page"]' - imported >/dev/null
    equal kept "$(docker run --rm imported)"
    remove exported
    docker rmi imported >/dev/null
}

it_shows_the_difference_to_the_image() {
    docker run --name changed busybox sh -c 'echo >/added; rm /etc/motd; echo >>/etc/passwd'
    local diff
    diff=$(docker diff changed)
    contains "A /added" "$diff"
    contains "D /etc/motd" "$diff"
    contains "C /etc/passwd" "$diff"
    remove changed
}

it_copies_in_and_out() {
    in_background --name copied
    echo inward >"$WORK/tmp/inward"
    docker cp "$WORK/tmp/inward" copied:/tmp/
    equal inward "$(docker exec copied cat /tmp/inward)"
    docker exec copied sh -c 'echo outward >/tmp/outward'
    docker cp copied:/tmp/outward "$WORK/tmp/"
    equal outward "$(cat "$WORK/tmp/outward")"
    remove copied
}

dockerfile() {
    mkdir -p "$WORK/context"
    cat >"$WORK/context/Dockerfile" <<'END'
FROM busybox
ARG WORD=none
RUN echo "built $WORD by $(id -u) in $PWD" >/built
WORKDIR /home/app
USER app
RUN test "$(id -un)" = app && echo mine >note
COPY page /page
CMD cat /built /page note
END
    echo page >"$WORK/context/page"
}

it_builds_an_image() {
    dockerfile
    DOCKER_BUILDKIT=0 docker build -q -t built --build-arg WORD=legacy "$WORK/context"
    equal "built legacy by 0 in / page mine" "$(docker run --rm built | tr '\n' ' ' | sed 's/ $//')"
    docker rmi built >/dev/null
}

it_builds_an_image_with_buildkit() {
    dockerfile
    DOCKER_BUILDKIT=1 docker build -q -t built --build-arg WORD=buildkit "$WORK/context"
    equal "built buildkit by 0 in / page mine" "$(docker run --rm built | tr '\n' ' ' | sed 's/ $//')"
    docker rmi built >/dev/null
}

it_fails_a_build_with_the_status_of_its_command() {
    printf 'FROM busybox\nRUN exit 23\n' >"$WORK/tmp/Dockerfile"
    status 23 env DOCKER_BUILDKIT=0 docker build "$WORK/tmp"
    contains "returned a non-zero code: 23" "$output"
}

it_restarts_what_fails() {
    docker run -d --name failing --restart on-failure:2 busybox sh -c 'echo >>/tries; exit 3' >/dev/null
    eventually is "2 exited 3" field failing '.RestartCount}} {{.State.Status}} {{.State.ExitCode'
    equal 3 "$(docker cp failing:/tries - | tar -xO | wc -l)"
    remove failing
}

it_restarts_what_always_runs() {
    docker run -d --name tireless --restart always busybox sh -c 'sleep 0.2' >/dev/null
    eventually is true eval '[ "$(field tireless .RestartCount)" -ge 2 ] && echo true'
    remove tireless
}

it_changes_when_to_restart() {
    docker run -d --name converted busybox sleep 1000 >/dev/null
    docker update --restart always converted >/dev/null
    # A killed process is restarted, unlike a container that one kills or stops.
    kill -KILL "$(field converted .State.Pid)"
    eventually is "1 running" field converted '.RestartCount}} {{.State.Status'
    docker update --restart no converted >/dev/null
    docker stop -t 0 converted >/dev/null
    equal exited "$(field converted .State.Status)"
    remove converted
}

it_checks_health() {
    docker run -d --name patient --health-cmd 'test -f /well' --health-interval 200ms --health-retries 1 busybox sleep 1000 >/dev/null
    eventually is unhealthy field patient .State.Health.Status
    docker exec patient touch /well
    eventually is healthy field patient .State.Health.Status
    remove patient
}

