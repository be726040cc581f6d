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
    local answer
    answer=$({ sleep 1; echo 'echo $((40 + 2)) on $(tty)'; sleep 0.5; echo 'exit 3'; sleep 1; } |
        on_terminal 'docker run --rm -it busybox sh' || echo "status $?")
    contains "42 on /dev/pts/0" "$answer"
    contains "status 3" "$answer"
}

it_interrupts_a_program_from_its_terminal() {
    local answer
    answer=$({ sleep 1; printf '\003'; sleep 1; } |
        on_terminal "docker run --rm -it busybox sh -c 'trap \"echo interrupted; exit 5\" INT; while :; do sleep 0.1; done'" || echo "status $?")
    contains interrupted "$answer"
    contains "status 5" "$answer"
}

it_gives_exec_a_terminal() {
    in_background --name exec-terminal
    contains "/dev/pts" "$(on_terminal 'docker exec -it exec-terminal tty' </dev/null)"
    contains "33 101" "$(on_terminal 'docker exec -it exec-terminal sh -c "sleep 0.5; stty size"' </dev/null)"
    contains "42" "$({ sleep 0.7; echo 'echo $((40 + 2))'; sleep 0.3; echo exit; sleep 0.5; } | on_terminal 'docker exec -it exec-terminal sh')"
    remove exec-terminal
}

it_attaches_to_a_container() {
    docker run -di --name attached busybox sh -c 'read line; echo "$line, and fro"' >/dev/null
    equal "to, and fro" "$({ echo to; sleep 0.5; } | docker attach attached)"
    equal 0 "$(docker wait attached)"
    remove attached
}

it_follows_the_log() {
    docker run -d --name talker busybox sh -c 'for i in 1 2 3; do echo line $i; sleep 0.3; done' >/dev/null
    equal "line 1 line 2 line 3" "$(docker logs -f talker | tr '\n' ' ' | sed 's/ $//')"
    remove talker
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
    contains "running container" "$output"
    docker rm -f stays
    status 1 docker inspect stays
}

it_pauses_and_resumes() {
    docker run -d --name sleeper busybox sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/tick; usleep 20000; done' >/dev/null
    eventually docker exec sleeper test -s /tick
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

it_checks_health() {
    docker run -d --name patient --health-cmd 'test -f /well' --health-interval 200ms --health-retries 1 busybox sleep 1000 >/dev/null
    eventually is unhealthy field patient .State.Health.Status
    docker exec patient touch /well
    eventually is healthy field patient .State.Health.Status
    remove patient
}

