# Images: symbolic links of the root filesystem that lead out of it.

# mounts_of LINES : the mount points among lines of mountinfo.
# shellcheck disable=SC2016
MOUNTED='echo began; cut -d " " -f 5 /proc/self/mountinfo'

# CVE-2019-16884 and its kin begin like this: the destination of a mount leads out.
it_mounts_nothing_behind_a_link_out_of_the_image() {
    local link
    for link in "$DECOY" "../../../../../../../../..$DECOY" "/proc/1/root$DECOY" "/proc/self/cwd/../../../../../..$DECOY"; do
        bundle links "$MOUNTED" '.mounts += [
            {destination: "/link/folder", type: "bind", source: ($bundle + "/volume"), options: ["rbind"]},
            {destination: "/link/made", type: "tmpfs", source: "tmpfs"},
            {destination: "/link/file", type: "bind", source: ($bundle + "/volume/file"), options: ["bind"]},
            {destination: "/link/new/file", type: "bind", source: ($bundle + "/volume/file"), options: ["bind"]}]'
        mkdir -p "$bundle/volume"
        touch "$bundle/volume/file"
        ln -s "$link" "$rootfs/link"
        attack links
        decoys_are_untouched
        # Each of the four is somewhere in the container, if it runs.
        ! has_run || equal 4 "$(grep -cE '/(folder|made|file|new/file)$' <<<"$output")"
        rm -rf "$bundle"
    done
}

it_makes_no_mount_point_behind_a_dangling_link() {
    bundle dangling 'echo began' '.mounts += [
        {destination: "/file", type: "bind", source: ($bundle + "/volume/file"), options: ["bind"]},
        {destination: "/folder", type: "tmpfs", source: "tmpfs"}]'
    mkdir -p "$bundle/volume"
    touch "$bundle/volume/file"
    ln -s "$DECOY/new-file" "$rootfs/file"
    ln -s "$DECOY/new-folder" "$rootfs/folder"
    attack dangling
    decoys_are_untouched
}

it_makes_no_working_directory_behind_a_link() {
    bundle cwd 'echo began' '.process.cwd = "/link/new/cwd"'
    ln -s "$DECOY" "$rootfs/link"
    attack cwd
    decoys_are_untouched
}

it_makes_no_device_behind_a_link() {
    bundle device 'echo began' '.linux.devices = [
        {path: "/link/device", type: "c", major: 1, minor: 3}, {path: "/file", type: "c", major: 1, minor: 3}]'
    ln -s "$DECOY" "$rootfs/link"
    ln -s "$DECOY/new" "$rootfs/file"
    attack device
    decoys_are_untouched
}

# What is masked and made read-only is the container's, also behind links.
it_masks_what_a_link_leads_to_in_the_container() {
    bundle masked 'echo began; cat /link; touch /folder/new 2>/dev/null && echo writable' '
        .linux.maskedPaths += ["/link"] | .linux.readonlyPaths += ["/folder"]'
    mkdir -p "$rootfs$DECOY/folder"
    echo "not masked" >"$rootfs$DECOY/file"
    ln -s "$DECOY/file" "$rootfs/link"
    ln -s "$DECOY/folder" "$rootfs/folder"
    attack masked
    decoys_are_untouched
    lacks "not masked" "$output"
    lacks writable "$output"
}

# The users that a runtime looks up are the image's.
it_reads_no_passwd_of_the_host() {
    bundle passwd 'echo began; echo "home=$HOME"' '.process.user.uid = 4242'
    echo 'decoy:x:4242:4242::/home/of-the-host:/bin/sh' >"$DECOY/passwd"
    fingerprint=$(decoys)
    ln -sf "../../../../../../../../..$DECOY/passwd" "$rootfs/etc/passwd"
    attack passwd
    lacks of-the-host "$output"
}

# A program is looked for in the image only.
it_executes_no_program_of_the_host() {
    bundle program true '.process.args = ["/link"]'
    printf '#!/bin/sh\necho executed\n' >"$DECOY/program"
    chmod +x "$DECOY/program"
    ln -s "../../../../../../../../..$DECOY/program" "$rootfs/link"
    attack program
    lacks executed "$output"
}
