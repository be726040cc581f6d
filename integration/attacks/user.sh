# Users and groups: whoever is not root by the configuration must not become it.

# users NAME : a container whose image has users with the names of numbers, all of them root.
users() {
    bundle "$1" 'sleep 100' '.process.user = {uid: 1000, gid: 1000}'
    local name
    for name in 1 1000 4294967296 -1 1x 0x1 ''; do
        echo "$name:x:0:0::/:/bin/sh" >>"$rootfs/etc/passwd"
        echo "$name:x:0:" >>"$rootfs/etc/group"
    done
    in_background "$1"
}

# CVE-2026-30892: a user without a group was not read at all, and was 0.
it_executes_as_the_user_asked_for() {
    users user
    equal 1 "$(runtime exec --user 1 user id -u)"
    equal 1 "$(runtime exec -u 1 user id -u)"
    equal 7:8 "$(runtime exec --user 7:8 user sh -c 'echo $(id -u):$(id -g)')"
    runtime delete --force user
}

it_executes_as_root_for_no_user_that_is_not_root() {
    users names
    local user answer
    for user in 1 1000 4294967295 4294967296 4294967297 18446744073709551616 -1 -4294967296 1x 0x1 1e1 1.5 " 1" "1 " "1:4294967296" "1:-1" \
        "1:x" "1:" ":" ":1" no-such-user; do
        answer=$(runtime exec --user "$user" names sh -c 'echo "uid=$(id -u)" "gid=$(id -g)" "groups= $(id -G) "' 2>&1 || true)
        echo "# '$user': $answer"
        lacks uid=0 "$answer"
        # Without a group some runtimes take root's, with none but its name.
        [[ $user != 1:?* ]] || lacks gid=0 "$answer"
    done
    runtime delete --force names
}

it_runs_as_root_for_no_number_that_is_no_id() {
    local user
    for user in 4294967296 4294967295 -1 -4294967296 1e10 1.5; do
        bundle "uid$user" 'echo began; echo "uid=$(id -u)"' '.process.user.uid = '"$user"
        attack "uid$user"
        lacks uid=0 "$output"
        rm -rf "$bundle"
        bundle "gid$user" 'echo began; echo "gid=$(id -g)"' '.process.user = {uid: 1000, gid: '"$user}"
        attack "gid$user"
        lacks gid=0 "$output"
        rm -rf "$bundle"
        bundle "group$user" 'echo began; echo "groups= $(id -G) "' '.process.user = {uid: 1000, gid: 1000, additionalGids: ['"$user"']}'
        attack "group$user"
        lacks " 0 " "$output"
        rm -rf "$bundle"
    done
}

it_gives_no_group_of_the_caller() {
    bundle groups 'sleep 100' '.process.user = {uid: 1000, gid: 1000}'
    local groups
    # The caller has groups; the container has those of its configuration only.
    groups=$(setpriv --groups 0,4,27 "$WORK/runtime/$(basename "$RUNTIME")" --root "$WORK/state" run --detach --bundle "$bundle" groups \
        </dev/null >/dev/null 2>&1 && setpriv --groups 0,4,27 "$WORK/runtime/$(basename "$RUNTIME")" --root "$WORK/state" exec groups id -G)
    equal 1000 "$groups"
    equal "Groups:" "$(echo $(grep ^Groups: "/proc/$(runtime state groups | jq .pid)/status" | sed 's/\t1000//'))"
    runtime delete --force groups
}
