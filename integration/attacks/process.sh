# What the processes of the runtime show to those of a container, before they become its own.

# watcher NAME SECONDS : a container that watches its pid namespace; see spy.c.
watcher() {
    bundle "$1" 'echo watching'
    jq --arg file "$DECOY/secret" --arg seconds "$2" '.process.args = ["spy", $file, "word-of-the-caller", $seconds]' \
        "$bundle/config.json" >"$bundle/new" && mv "$bundle/new" "$bundle/config.json"
    in_background "$1"
    watched=$bundle/output
    eventually grep watching "$watched"
    # What callers have in their environment is often secret.
    export SECRET=word-of-the-caller
}

# the_spy_is_able : it has to get everything of a runtime that hides nothing, which nsenter is here.
# Only copies of programs are executed where it sees them, as it overwrites them.
the_spy_is_able() {
    local careless=$WORK/careless spy finding
    mkdir "$careless"
    cp /usr/bin/nsenter /bin/busybox "$careless/"
    unshare --mount --pid --fork --kill-child sh -c "mount -t proc none '$WORK/rootfs/proc' &&
        exec chroot '$WORK/rootfs' /bin/spy '$DECOY/secret' word-of-the-caller 50" >"$careless/output" &
    spy=$!
    eventually grep -q watching "$careless/output"
    SECRET=word-of-the-caller "$careless/nsenter" "--pid=/proc/$(cat "/proc/$spy/task/$spy/children" | tr -d ' ')/ns/pid" \
        "$careless/busybox" sleep 0.5 7<"$WORK"
    eventually grep -q overwritten "$careless/output"
    kill "$spy"
    for finding in seen root cwd descriptor environment memory binary; do contains "$finding" "$(cat "$careless/output")"; done
}

# neighbour NAME SCRIPT [FILTER] : a bundle that joins the pid namespace of the watcher named `watcher`.
neighbour() {
    local pid
    pid=$(runtime state watcher | jq .pid)
    bundle "$1" "$2" '.linux.namespaces |= map(if .type == "pid" then .path = "/proc/'"$pid"'/ns/pid" else . end) | '"${3:-.}"
}

# brings_libraries : gives the image what the runtime's binary needs to run in it.
brings_libraries() {
    local file
    for file in $(ldd "$RUNTIME" 2>/dev/null | grep -o '/[^ )]*' || true); do
        mkdir -p "$rootfs$(dirname "$file")"
        cp -L "$file" "$rootfs$file"
    done
}

# nothing_was_shown FINDING... : the watcher has seen the runtime, and got none of this of it.
nothing_was_shown() {
    runtime delete --force watcher
    echo "# watched: $(tr '\n' ' ' <"$watched")"
    local finding
    for finding in "$@"; do lacks "$finding" "$(cat "$watched")"; done
    equal "$hash" "$(sha256sum "$WORK/runtime/"*)"
    grep -q seen "$watched" || skip "the runtime was too quick to be seen"
}

# CVE-2016-9962: a process of the container traced the one that exec was about to put in.
it_shows_nothing_of_itself_while_it_executes() {
    local hash n
    hash=$(sha256sum "$WORK/runtime/"*)
    watcher watcher 100
    for n in $(seq 30); do runtime exec watcher true || true; done
    nothing_was_shown root cwd descriptor environment memory overwritten
}

# The same when the container joins a pid namespace with others, as those of a pod do.
it_shows_nothing_of_itself_while_it_creates_and_starts() {
    local hash n
    hash=$(sha256sum "$WORK/runtime/"*)
    watcher watcher 100
    for n in $(seq 6); do
        neighbour "victim-$n" true
        runtime create --bundle "$bundle" "victim-$n" >/dev/null 2>&1 || true
        sleep 0.05
        runtime start "victim-$n" || true
        runtime delete --force "victim-$n"
        rm -rf "$bundle"
    done
    nothing_was_shown root cwd descriptor environment memory overwritten
}

# CVE-2019-5736: the container's program is the runtime's own binary, which a neighbour
# holds by an O_PATH descriptor, to write it as soon as it runs no more.
it_lets_nobody_overwrite_its_binary_on_create_and_run() {
    local hash program n
    hash=$(sha256sum "$WORK/runtime/"*)
    watcher watcher 100
    for program in /proc/self/exe /link /script; do
        neighbour self true '.process.args = ["'$program'", "--version"]'
        brings_libraries
        ln -s /proc/self/exe "$rootfs/link"
        printf '#!/proc/self/exe\n' >"$rootfs/script"
        chmod +x "$rootfs/script"
        for n in 1 2 3; do
            runtime run --bundle "$bundle" self || true
            runtime delete --force self 2>/dev/null || true
            runtime create --bundle "$bundle" self >/dev/null 2>&1 || true
            runtime start self || true
            runtime delete --force self || true
        done
        rm -rf "$bundle"
    done
    sleep 0.2
    # Its memory is no secret any more: the binary is now the container's program.
    nothing_was_shown root cwd descriptor overwritten
}

it_lets_nobody_overwrite_its_binary_on_exec() {
    local hash program n
    hash=$(sha256sum "$WORK/runtime/"*)
    watcher watcher 100
    brings_libraries
    ln -s /proc/self/exe "$rootfs/link"
    printf '#!/proc/self/exe\n' >"$rootfs/script"
    chmod +x "$rootfs/script"
    for program in /proc/self/exe /link /script; do
        for n in 1 2 3; do runtime exec watcher $program --version || true; done
    done
    sleep 0.2
    # Its memory is no secret any more: the binary is now the container's program.
    nothing_was_shown root cwd descriptor overwritten
}

# climb : what a program prints whose working directory is not below the container's root.
CLIMB='echo began; cat "../../../../../../../../../../..'"$DECOY"'/secret"; cat ".'"$DECOY"'/secret"; cat secret; true'

# CVE-2024-21626: /proc/self/fd/N is a folder of the host for as long as the runtime has it open.
it_changes_to_no_working_directory_of_the_host() {
    local n
    for n in $(seq 3 14); do
        bundle "cwd-$n" "$CLIMB" '.process.cwd = "/proc/self/fd/'"$n"'"'
        attack "cwd-$n"
        lacks "host's secret" "$output"
        rm -rf "$bundle"
    done
}

it_changes_to_no_working_directory_of_the_host_on_exec() {
    local n
    bundle cwd-exec 'sleep 100'
    in_background cwd-exec
    for n in $(seq 3 14); do
        output=$(runtime exec --cwd "/proc/self/fd/$n" cwd-exec sh -c "$CLIMB" 2>&1 || true)
        echo "# $n: $output"
        lacks "host's secret" "$output"
    done
    runtime delete --force cwd-exec
}

# The same with what the caller has left open.
it_uses_no_descriptor_of_the_caller() {
    local n
    bundle leaked "$CLIMB; ls -l /proc/self/fd"
    exec 7<"$DECOY" 9<"$DECOY/secret" 33<"$DECOY"
    for n in 7 33; do
        jq '.process.cwd = "/proc/self/fd/'$n'"' "$bundle/config.json" >"$bundle/new" && mv "$bundle/new" "$bundle/config.json"
        attack leaked
        lacks "host's secret" "$output"
        lacks "$DECOY" "$(grep -e '->' <<<"$output" || true)"
    done
    bundle leaked-exec 'ls -l /proc/self/fd; sleep 100'
    exec 7<"$DECOY" 9<"$DECOY/secret" 33<"$DECOY"
    in_background leaked-exec
    for n in 7 33; do
        output=$(runtime exec --cwd "/proc/self/fd/$n" leaked-exec sh -c "$CLIMB" 2>&1 || true)
        lacks "host's secret" "$output"
    done
    output=$(runtime exec leaked-exec ls -l /proc/self/fd)
    lacks "$DECOY" "$output"
    lacks "$DECOY" "$(cat "$bundle/output")"
    runtime delete --force leaked-exec
}

it_gives_the_program_no_descriptor_of_its_own() {
    bundle descriptors 'ls /proc/self/fd'
    attack descriptors
    # 3 is the folder that ls reads.
    equal "0 1 2 3" "$(echo $output)"
    bundle descriptors-exec 'sleep 100'
    in_background descriptors-exec
    equal "0 1 2 3" "$(echo $(runtime exec descriptors-exec ls /proc/self/fd))"
    runtime delete --force descriptors-exec
}

it_gives_the_program_nothing_of_its_environment() {
    export SECRET=word-of-the-caller
    bundle environment 'cat /proc/1/environ /proc/self/environ; sleep 100'
    in_background environment
    eventually grep -q PATH "$bundle/output"
    names() { echo $(tr '\0' '\n' | sed 's/=.*//' | sort -u); }
    equal "HOME PATH PWD SHLVL" "$(cat "$bundle/output" <(printf 'HOME\0PWD\0SHLVL\0') | names)"
    equal "HOME PATH" "$(runtime exec environment cat /proc/self/environ | cat - <(printf 'HOME\0') | names)"
    runtime delete --force environment
}

# CVE-2022-29162, CVE-2022-27650: inheritable capabilities that nobody asked for.
it_gives_no_inheritable_capabilities() {
    bundle inheritable 'grep -E "^Cap(Inh|Amb)" /proc/self/status; sleep 100'
    in_background inheritable
    local none=$'CapInh:\t0000000000000000\nCapAmb:\t0000000000000000'
    eventually grep CapAmb "$bundle/output"
    equal "$none" "$(cat "$bundle/output")"
    equal "$none" "$(runtime exec inheritable grep -E '^Cap(Inh|Amb)' /proc/self/status)"
    equal "$none" "$(runtime exec --cap CAP_NET_ADMIN inheritable grep -E '^Cap(Inh|Amb)' /proc/self/status)"
    runtime delete --force inheritable
}
