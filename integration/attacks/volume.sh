# Volumes that a neighbour changes while the container is being made.

# race NAME STARTS CHECK : starts the container so often, or for 40 seconds. Where it has 50
# raced mounts, 20 starts are 1,000 rounds.
race() {
    local name=$1 starts ran=0 began=$SECONDS
    for starts in $(seq "$2"); do
        [ $((SECONDS - began)) -lt 40 ] || break
        attack "$name" >/dev/null
        $3
        ! has_run || ran=$((ran + 1))
    done
    echo "# the container ran in $ran of $starts starts"
}

# The volume has `swap/0` to `swap/49` below a name that is now a folder and now a link.
# shellcheck disable=SC2016
RACED='[range(50) | {destination: "/shared/swap/\(.)", type: "bind", source: ($bundle + "/source"), options: ["rbind"]}]'

# CVE-2021-30465: what was mounted went where the link led when it was resolved again.
it_loses_no_mount_to_a_link_that_is_exchanged_for_a_folder() {
    bundle raced 'echo began; grep -c "/source " /proc/self/mountinfo' '
        .mounts += [{destination: "/shared", type: "bind", source: ($bundle + "/shared"), options: ["rbind"]}] + '"$RACED"
    mkdir -p "$bundle/shared/swap" "$bundle/source" "$rootfs$DECOY"
    # The mount points are there, everywhere.
    for n in $(seq 0 49); do mkdir "$bundle/shared/swap/$n" "$DECOY/$n" "$rootfs$DECOY/$n"; done
    ln -s "$DECOY" "$bundle/shared/link"
    fingerprint=$(decoys)
    exchange "$bundle/shared/swap" "$bundle/shared/link"
    all_are_inside() {
        ! has_run || [[ $output == *50 ]] || fail "mounts have been lost: $output"
    }
    race raced 20 all_are_inside
    decoys_are_untouched
}

# CVE-2024-45310: the mount points were made where the link led.
it_makes_no_mount_point_behind_a_link_that_is_exchanged_for_a_folder() {
    bundle made 'echo began' '
        .mounts += [{destination: "/shared", type: "bind", source: ($bundle + "/shared"), options: ["rbind"]}] + '"$RACED"
    mkdir -p "$bundle/shared/swap" "$bundle/source"
    ln -s "$DECOY" "$bundle/shared/link"
    exchange "$bundle/shared/swap" "$bundle/shared/link"
    remade() {
        decoys_are_untouched
        rm -rf "$bundle/shared/"*/[0-9]* 2>/dev/null || true
    }
    race made 20 remade
}

# CVE-2025-31133, as a race: /dev/null is the device when it is looked at.
it_masks_with_dev_null_though_it_is_exchanged_for_a_link() {
    # shellcheck disable=SC2016
    bundle mask-raced 'exec >/result; echo began; for n in $(seq 0 49); do [ "$(stat -c %t:%T /files/$n)" = 1:3 ] || echo other; done' "$OWN_DEV"'
        | .linux.maskedPaths += [range(50) | "/files/\(.)"]
        | .mounts += [{destination: "/dev", type: "bind", source: ($bundle + "/shared"), options: ["rbind"]}]'
    mkdir -p "$bundle/shared" "$rootfs/files"
    for n in $(seq 0 49); do echo content >"$rootfs/files/$n"; done
    echo "the attacker's" >"$rootfs/etc/attacker"
    mknod -m 666 "$bundle/shared/null" c 1 3
    ln -s /etc/attacker "$bundle/shared/link"
    exchange "$bundle/shared/null" "$bundle/shared/link"
    all_are_null() {
        output=$(cat "$rootfs/result" 2>/dev/null || true)
        rm -f "$rootfs/result"
        lacks other "$output"
    }
    race mask-raced 20 all_are_null
    decoys_are_untouched
}

# CVE-2025-52881, as a race: procfs goes below a folder of the volume's, and the names
# below it lead elsewhere when parameters are written.
it_writes_parameters_though_proc_is_exchanged_for_a_link() {
    bundle proc-raced 'echo began' '
        .linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "79"} | .linux.maskedPaths = [] | .linux.readonlyPaths = []
        | .mounts |= map(select(.destination != "/proc"))
        | .mounts += [{destination: "/decoy", type: "bind", source: ($decoy + "/file"), options: ["bind"]},
                      {destination: "/shared", type: "bind", source: ($bundle + "/shared"), options: ["rbind"]},
                      {destination: "/proc", type: "proc", source: "proc"}]'
    rmdir "$rootfs/proc"
    ln -s shared/proc "$rootfs/proc"
    mkdir -p "$bundle/shared/proc"
    fake_proc "$bundle/shared/fake"
    rm "$bundle/shared/fake/sys/net/ipv4/ip_unprivileged_port_start"
    ln -s /decoy "$bundle/shared/fake/sys/net/ipv4/ip_unprivileged_port_start"
    exchange "$bundle/shared/proc" "$bundle/shared/fake"
    race proc-raced 20 decoys_are_untouched
}
