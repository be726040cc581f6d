# Names that are paths: container ids, cgroups, files of cgroups.

# Every command with an id that leads out of the state folder.
it_takes_no_path_for_a_container() {
    local id command
    for id in ../decoy ../../../../../../../../../.."$DECOY" "$DECOY" x/../../decoy . .. ../bundles/ids; do
        bundle ids 'echo began'
        # What a record of some runtime could look like.
        echo '{"id": "decoy", "pid": 1, "bundle": "/", "status": "stopped", "ociVersion": "1.0.2"}' |
            tee "$DECOY/state.json" "$DECOY/config.json" "$DECOY/container.json" >"$DECOY/status"
        mkdir -p "$WORK/state/kept"
        fingerprint=$(decoys)
        for command in "run --bundle $bundle" "create --bundle $bundle" start state pause resume "kill --all" ps "delete --force" delete; do
            # shellcheck disable=SC2086
            output=$(runtime $command "$id" 2>&1 || true)
            decoys_are_untouched
            [ -d "$WORK/state/kept" ] || fail "$command $id has removed what is not its own"
        done
        output=$(runtime exec "$id" true 2>&1 || true)
        decoys_are_untouched
        [ -e "$bundle/config.json" ] || fail "the bundle is gone: $id"
        rm -rf "$bundle"
    done
}

# neighbouring_cgroup : $CGROUP/sibling, in each hierarchy that takes processes at once.
neighbouring_cgroup() {
    local folder
    if [ $CGROUP_VERSION = 2 ]; then
        mkdir -p "/sys/fs/cgroup$CGROUP/sibling"
    else
        for folder in pids memory devices freezer systemd unified; do
            [ ! -d /sys/fs/cgroup/$folder ] || mkdir -p "/sys/fs/cgroup/$folder$CGROUP/sibling"
        done
    fi
}

it_executes_in_no_cgroup_beside_the_containers() {
    bundle sub-cgroup 'sleep 100'
    in_background sub-cgroup
    neighbouring_cgroup
    local path answer
    for path in ../sibling /../sibling x/../../sibling pids:../sibling memory:/../sibling ../../.. "..$CGROUP/sibling"; do
        answer=$(runtime exec --cgroup "$path" sub-cgroup cat /proc/self/cgroup 2>&1) || { echo "# refused: $answer"; continue; }
        echo "# $path: $answer"
        # In the hierarchies that the container has cgroups in, it is there or below.
        lacks "$CGROUP/sibling" "$answer"
        ! grep -E ':(pids|memory)?:' <<<"$answer" | grep -vE ":$CGROUP/sub-cgroup(/|$)" || fail "left the container's cgroup: $answer"
    done
    runtime delete --force sub-cgroup
}

it_makes_no_cgroup_outside_of_the_hierarchies() {
    local path
    for path in "/../../../../../../../..$DECOY/made" "../../../../../../../..$DECOY/made" "$CGROUP/x/../../../../../../../..$DECOY/made"; do
        bundle cgroup-path 'echo began' '.linux.cgroupsPath = "'"$path"'"'
        attack cgroup-path
        decoys_are_untouched
        # What a runtime has made of it inside of the hierarchies.
        find /sys/fs/cgroup -depth -type d -path "*$DECOY/made*" -exec rmdir {} + 2>/dev/null || true
        rm -rf "$bundle"
    done
    remove_cgroup_copies
}

# remove_cgroup_copies : the folders on the way to the decoy, below each hierarchy.
remove_cgroup_copies() {
    local folder
    for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
        (cd "$folder" 2>/dev/null && rmdir -p ".$DECOY" 2>/dev/null) || true
    done
}

# on_v2 COMMAND... : where the host has version 1, its empty version 2 hierarchy is put in the place.
on_v2() {
    if [ $CGROUP_VERSION = 2 ]; then
        "$@"
    else
        unshare --mount bash -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' - "$@"
    fi
}

v2_attack() {
    local name=$1
    code=0
    output=$(on_v2 timeout -k 1 20 "$WORK/runtime/$(basename "$RUNTIME")" --root "$WORK/state" run --bundle "$bundle" "$name" </dev/null 2>&1) || code=$?
    echo "# exit status $code: $output"
    on_v2 "$WORK/runtime/$(basename "$RUNTIME")" --root "$WORK/state" delete --force "$name" >/dev/null 2>&1 || true
}

it_writes_no_unified_key_outside_of_its_cgroup() {
    local key
    on_v2 mkdir -p "/sys/fs/cgroup$CGROUP/sibling"
    for key in ../sibling/cgroup.max.depth /../sibling/cgroup.max.depth cgroup.max.depth/../../sibling/cgroup.max.depth \
        "../../../../../../../../..$DECOY/file" "memory/../../../../../../../../..$DECOY/file"; do
        bundle unified 'echo began' '.linux.resources.unified = {"'"$key"'": "7"}'
        v2_attack unified
        decoys_are_untouched
        equal max "$(on_v2 cat "/sys/fs/cgroup$CGROUP/sibling/cgroup.max.depth")"
        rm -rf "$bundle"
    done
}

it_writes_no_hugepage_limit_outside_of_its_cgroup() {
    local size file version
    for size in "2MB/../../../../../../../../../..$DECOY/file" "../../../../../../../../../..$DECOY/file" "x/../../sibling/cgroup.max"; do
        for version in attack v2_attack; do
            bundle huge 'echo began' '.linux.resources.hugepageLimits = [{pageSize: "'"$size"'", limit: 7}]'
            for file in limit_in_bytes max rsvd.limit_in_bytes rsvd.max; do echo none >"$DECOY/file.$file"; done
            fingerprint=$(decoys)
            $version huge
            decoys_are_untouched
            rm -rf "$bundle"
        done
    done
}

it_writes_no_device_limit_into_another_file() {
    # A throttle is a line of text: a line break would make it two.
    bundle throttle 'echo began' '.linux.resources.unified = {"pids.max\n../sibling/cgroup.max.depth": "7"}'
    on_v2 mkdir -p "/sys/fs/cgroup$CGROUP/sibling"
    v2_attack throttle
    equal max "$(on_v2 cat "/sys/fs/cgroup$CGROUP/sibling/cgroup.max.depth")"
}
