# /proc and /sys that are not what they seem.

# CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: where /proc or /sys is a link, the
# image chooses where procfs goes, and may later choose again.
it_mounts_procfs_and_sysfs_behind_no_link() {
    local name
    for name in proc sys; do
        bundle "linked-$name" "echo began; while read -r _ _ _ _ point _ rest; do case \"\$rest\" in *' - $name'*) echo point=\$point;; esac; done </elsewhere/self/mountinfo || cat /proc/self/mountinfo"
        rmdir "$rootfs/$name"
        mkdir "$rootfs/elsewhere"
        ln -s elsewhere "$rootfs/$name"
        attack "linked-$name"
        lacks /elsewhere "$output"
    done
}

it_mounts_procfs_and_sysfs_on_no_folder_of_the_host() {
    local name
    for name in proc sys; do
        bundle "out-$name" 'echo began; ls /proc /sys'
        rmdir "$rootfs/$name"
        ln -s "$DECOY" "$rootfs/$name"
        attack "out-$name"
        decoys_are_untouched
        rm -rf "$bundle"
    done
}

# pretend_apparmor : what runtimes ask is whether this file says Y. A label that then
# reaches the kernel is refused, as there is no such profile; one that reaches a file of
# the container's is lost.
pretend_apparmor() {
    [ ! -e /sys/module/apparmor ] || return 0
    mount -t tmpfs none /sys/module
    mkdir -p /sys/module/apparmor/parameters
    echo Y >/sys/module/apparmor/parameters/enabled
    # shellcheck disable=SC2064
    trap "umount /sys/module" EXIT
}

# A folder that looks like procfs as far as labels, parameters and descriptors go.
fake_proc() {
    local self
    mkdir -p "$1"/{1/attr/apparmor,sys/net/ipv4,sys/kernel}
    for self in 1/attr/exec 1/attr/apparmor/exec 1/status sys/net/ipv4/ip_unprivileged_port_start sys/kernel/hostname; do
        echo fake >"$1/$self"
    done
    for self in self thread-self; do ln -s 1 "$1/$self"; done
}

# CVE-2019-16884: a volume in the place of /proc took the label, and the container ran without one.
it_writes_no_label_into_a_volume_in_the_place_of_proc() {
    pretend_apparmor
    bundle label 'echo began' '
        .process.apparmorProfile = "no-such-profile-of-orlop" | .linux.maskedPaths = [] | .linux.readonlyPaths = []
        | .mounts += [{destination: "/proc", type: "bind", source: ($bundle + "/volume"), options: ["rbind"]}]'
    fake_proc "$bundle/volume"
    attack label
    lacks began "$output"
    equal fake "$(cat "$bundle/volume/1/attr/exec")"
    equal fake "$(cat "$bundle/volume/1/attr/apparmor/exec")"
}

# The same, with an image that brings the files and a configuration without procfs.
it_writes_no_label_into_a_file_of_the_image() {
    pretend_apparmor
    bundle label-image 'echo began' '
        .process.apparmorProfile = "no-such-profile-of-orlop" | .linux.maskedPaths = [] | .linux.readonlyPaths = []
        | .mounts |= map(select(.destination != "/proc"))'
    fake_proc "$rootfs/proc"
    attack label-image
    lacks began "$output"
    equal fake "$(cat "$rootfs/proc/1/attr/exec")"
    equal fake "$(cat "$rootfs/proc/1/attr/apparmor/exec")"
}

# CVE-2025-52881: likewise for exec, when the container has covered its own /proc.
it_writes_no_label_into_a_covered_proc_on_exec() {
    pretend_apparmor
    bundle label-exec 'mount --bind /fake /proc; echo covered; sleep 100' '
        .process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
    fake_proc "$rootfs/fake"
    in_background label-exec
    eventually is covered cat "$bundle/output"
    code=0
    output=$(runtime exec --apparmor no-such-profile-of-orlop label-exec echo began 2>&1) || code=$?
    echo "# exit status $code: $output"
    runtime delete --force label-exec
    lacks began "$output"
    equal fake "$(cat "$rootfs/fake/1/attr/exec")"
}

# CVE-2025-52881: a parameter was written to wherever the name in /proc/sys led.
it_writes_no_parameter_through_a_link_in_the_place_of_proc() {
    local kind
    for kind in volume tmpfs image; do
        bundle "sysctl-$kind" 'echo began' '.linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "79"}
            | .linux.maskedPaths = [] | .linux.readonlyPaths = []
            | .mounts += [{destination: "/decoy", type: "bind", source: ($decoy + "/file"), options: ["bind"]}]
            | '"$(case $kind in
                volume) echo '.mounts += [{destination: "/proc", type: "bind", source: ($bundle + "/volume"), options: ["rbind"]}]' ;;
                tmpfs) echo '.mounts += [{destination: "/proc/sys", type: "bind", source: ($bundle + "/volume/sys"), options: ["rbind"]}]' ;;
                image) echo '.mounts |= map(select(.destination != "/proc"))' ;;
            esac)"
        fake_proc "$bundle/volume"
        rm "$bundle/volume/sys/net/ipv4/ip_unprivileged_port_start"
        ln -s /decoy "$bundle/volume/sys/net/ipv4/ip_unprivileged_port_start"
        [ $kind != image ] || cp -a "$bundle/volume/." "$rootfs/proc/"
        attack "sysctl-$kind"
        decoys_are_untouched
        rm -rf "$bundle"
    done
}

# Parameters of the host are no business of a container.
it_writes_no_parameter_outside_of_proc_sys() {
    local name before
    before=$(cat /proc/sys/kernel/core_pattern)
    for name in "net/../kernel/core_pattern" "net.ipv4/../../kernel/core_pattern" "kernel.core_pattern" \
        "net.../../../../../../../$DECOY/file" "fs/mqueue/../../kernel/core_pattern"; do
        bundle sysctl-name 'echo began' '.linux.sysctl = {"'"$name"'": "attacked"}'
        attack sysctl-name
        decoys_are_untouched
        equal "$before" "$(cat /proc/sys/kernel/core_pattern)"
        rm -rf "$bundle"
    done
}

# Without pivot_root the old root stays beneath the new one. A procfs that is left
# there lets a user namespace of the container mount another, without the masks.
it_leaves_no_procfs_of_the_old_root() {
    bundle no-pivot 'echo began; mkdir /new; unshare -Urmpf sh -c "mount -t proc none /new && cat /new/keys >/dev/null && echo unmasked"'
    mkdir -p "$WORK/another-proc"
    mount -t proc none "$WORK/another-proc"
    # shellcheck disable=SC2064
    trap "umount '$WORK/another-proc'" EXIT
    attack no-pivot --no-pivot
    lacks unmasked "$output"
}

# CVE-2023-25809: in a user namespace without a cgroup namespace, the cgroups of the
# host were mounted writable although read-only was asked for.
it_mounts_cgroups_read_only_where_asked() {
    bundle cgroups "echo began; for h in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir \$h$CGROUP/attacked 2>/dev/null && echo writable; done; true" '
        del(.linux.cgroupsPath) | .linux.namespaces |= map(select(.type != "network"))
        | .linux.maskedPaths = [] | .linux.readonlyPaths = []
        | .mounts |= map(select(.type != "sysfs"))
        | .mounts += [
            {destination: "/sys", type: "bind", source: "/sys", options: ["rbind", "nosuid", "noexec", "nodev", "ro"]},
            {destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", "ro"]}]'
    # The version that the attack was found on; v1 hierarchies of the host stay as they are.
    code=0
    output=$(unshare --mount bash -c "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && mkdir -p /sys/fs/cgroup$CGROUP \
        && exec unshare --user --map-root-user --mount timeout -k 1 20 '$WORK/runtime/$(basename "$RUNTIME")' --root '$WORK/state-user' \
           run --bundle '$bundle' cgroups" </dev/null 2>&1) || code=$?
    echo "# exit status $code: $output"
    lacks writable "$output"
}
