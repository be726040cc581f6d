# Images and volumes with a /dev of their own.

# Leaves the image its own /dev.
OWN_DEV='.mounts |= map(select(.destination | startswith("/dev") | not))'

# CVE-2026-41579 (runc), CVE-2026-47766 (crun): default devices and links were made,
# and ptmx was removed, wherever /dev led.
it_makes_no_default_devices_where_a_link_named_dev_leads() {
    local link
    for link in "$DECOY" "../../../../../../../../..$DECOY" "$DECOY/new"; do
        bundle dev 'echo began' "$OWN_DEV"
        rmdir "$rootfs/dev"
        ln -s "$link" "$rootfs/dev"
        attack dev
        decoys_are_untouched
        rm -rf "$bundle"
    done
}

it_mounts_nothing_where_a_link_named_dev_leads() {
    bundle dev-mounted 'echo began'
    rmdir "$rootfs/dev"
    ln -s "$DECOY" "$rootfs/dev"
    attack dev-mounted
    decoys_are_untouched
}

it_mounts_nothing_where_links_below_dev_lead() {
    bundle dev-below 'echo began' '.mounts |= map(select(.destination != "/dev"))'
    ln -s "$DECOY/pts" "$rootfs/dev/pts"
    ln -s "$DECOY/folder" "$rootfs/dev/shm"
    ln -s "$DECOY/console" "$rootfs/dev/console"
    ln -s "$DECOY/fd" "$rootfs/dev/fd"
    ln -s "$DECOY/zero" "$rootfs/dev/zero"
    attack dev-below
    decoys_are_untouched
}

# CVE-2025-31133: what masks a file is /dev/null, and that was the image's to choose.
it_masks_with_no_other_file_than_dev_null() {
    local target
    for target in /proc/sys/kernel/hostname /etc/motd "$DECOY/file" /nowhere; do
        # Not on standard output: some runtimes take even that for /dev/null then, and replace it.
        bundle null 'exec >/result; echo began; for path in /proc/keys /proc/timer_list; do echo "mask=$(stat -c %F:%t:%T $path)"; done' "$OWN_DEV"
        ln -s "$target" "$rootfs/dev/null"
        attack null
        output=$(cat "$rootfs/result" 2>/dev/null || true)
        echo "# $output"
        decoys_are_untouched
        ! has_run || equal 2 "$(grep -c '^mask=character special file:1:3$' <<<"$output")"
        rm -rf "$bundle"
    done
}

it_masks_with_no_other_device_than_null() {
    bundle null-device 'exec >/result; echo began; echo "mask=$(stat -c %t:%T /proc/keys)"' "$OWN_DEV"
    mknod "$rootfs/dev/null" c 1 5
    attack null-device
    output=$(cat "$rootfs/result" 2>/dev/null || true)
    ! has_run || contains mask=1:3 "$output"
}

# on_a_terminal NAME : runs a bundle that has a terminal, as `attack` does.
on_a_terminal() {
    output=$(on_terminal "timeout -k 1 20 '$WORK/runtime/$(basename "$RUNTIME")' --root '$WORK/state' run --bundle '$bundle' $1" </dev/null || true)
    echo "# $output"
    runtime delete --force "$1" >/dev/null 2>&1 || true
}

# A volume in the place of /dev/pts, and the true one elsewhere.
# shellcheck disable=SC2016
OWN_PTS='.process.terminal = true
    | .mounts |= map(if .destination == "/dev/pts" then .destination = "/real" else . end)
    | .mounts += [{destination: "/dev/pts", type: "bind", source: ($bundle + "/volume"), options: ["rbind"]},
                  {destination: "/decoy", type: "bind", source: ($decoy + "/file"), options: ["bind"]}]'

# What the program finds; the terminals' major number is 136. A link that was mounted as a
# link leads nowhere but in the container, and is let pass.
FIND_TERMINAL='echo began; echo "terminal=$(stat -L -c %t /proc/self/fd/0):$(stat -c %t:%F /dev/console)"'
TERMINAL='terminal=88:(88:character special file|0:symbolic link)'

# CVE-2025-52565: the terminal was opened once more by its name, and what stood there
# became /dev/console and the standard descriptors.
it_takes_no_other_file_for_the_terminal() {
    bundle pts "$FIND_TERMINAL" "$OWN_PTS"
    mkdir "$bundle/volume"
    ln -s /real/ptmx "$bundle/volume/ptmx"
    local n
    for n in $(seq 0 63); do ln -s /decoy "$bundle/volume/$n"; done
    on_a_terminal pts
    decoys_are_untouched
    ! has_run || matches "$TERMINAL" "$output"
}

it_takes_no_other_file_for_the_terminal_though_it_is_exchanged() {
    bundle pts-raced "$FIND_TERMINAL" "$OWN_PTS"
    mkdir "$bundle/volume"
    ln -s /real/ptmx "$bundle/volume/ptmx"
    ln -s /real/0 "$bundle/volume/0"
    ln -s /decoy "$bundle/volume/decoy"
    exchange "$bundle/volume/0" "$bundle/volume/decoy"
    local n began=$SECONDS
    for n in $(seq 30); do
        [ $((SECONDS - began)) -lt 10 ] || break
        on_a_terminal pts-raced
        ! has_run || matches "$TERMINAL" "$output"
    done
    decoys_are_untouched
}

it_opens_no_other_file_for_the_terminals_multiplexer() {
    bundle ptmx "$FIND_TERMINAL" "$OWN_PTS"
    mkdir "$bundle/volume"
    ln -s /decoy "$bundle/volume/ptmx"
    on_a_terminal ptmx
    decoys_are_untouched
    ! has_run || matches "$TERMINAL" "$output"
}
