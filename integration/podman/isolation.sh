# Cases: file systems, networks, capabilities and what else keeps a container apart.

it_has_no_network_when_asked_for_none() {
    equal lo "$(run --rm --network none busybox ls /sys/class/net)"
    contains UP "$(run --rm --network none busybox ip link show lo)"
}

it_answers_on_a_published_port() {
    mkdir -p "$WORK/share/site"
    echo "a page" >"$WORK/share/site/index.html"
    run -d --name web --network podman -p 127.0.0.1:8080:80 -v "$WORK/share/site:/site:ro" busybox httpd -f -p 80 -h /site >/dev/null
    local address
    address=$(field web .NetworkSettings.Networks.podman.IPAddress)
    eventually curl -sf -m 2 "http://$address/"
    equal "a page" "$(curl -sf -m 2 http://127.0.0.1:8080/)"
    remove web
}

it_shares_the_network_of_the_host() {
    equal "$(readlink /proc/self/ns/net)" "$(run --rm --network host busybox readlink /proc/self/ns/net)"
}

it_has_namespaces_of_its_own() {
    local namespace
    for namespace in mnt pid net ipc uts; do
        differs "$(readlink /proc/self/ns/$namespace)" "$(run --rm busybox readlink /proc/self/ns/$namespace)"
    done
}

it_maps_users() {
    equal "0 100000 65536" "$(echo $(run --rm --uidmap 0:100000:65536 busybox cat /proc/self/uid_map))"
    in_background --rm --name mapped --uidmap 0:100000:65536
    equal 100000 "$(stat -c %u "/proc/$(field mapped .State.Pid)")"
    equal 0 "$(podman exec mapped id -u)"
    # Podman 4 gives conmon a mount namespace of its own when users are mapped, and what cleans up there
    # leaves /dev/shm mounted outside: "podman rm -f" then fails now and then, whatever the runtime.
    podman kill mapped >/dev/null
    eventually is "" podman ps -aq --filter name=mapped
}

it_mounts_a_folder() {
    run --rm -v "$WORK/share:/shared" busybox sh -c 'echo from within >/shared/note'
    equal "from within" "$(cat "$WORK/share/note")"
    status 1 run --rm -v "$WORK/share:/shared:ro" busybox sh -c 'echo again >/shared/note'
    contains "Read-only file system" "$output"
}

it_mounts_a_volume_with_what_the_image_has_there() {
    run --rm -v things:/etc busybox sh -c 'echo kept >/etc/kept'
    equal kept "$(run --rm -v things:/mnt busybox cat /mnt/kept)"
    contains app "$(run --rm -v things:/mnt busybox cat /mnt/passwd)"
    podman volume rm things >/dev/null
}

it_mounts_a_tmpfs() {
    local line
    line=$(run --rm --tmpfs /scratch:size=65536k,mode=1770,noexec busybox grep ' /scratch ' /proc/mounts)
    contains "tmpfs /scratch tmpfs" "$line"
    contains noexec "$line"
    contains size=65536k "$line"
    contains mode=1770 "$line"
    # What the image has there is copied up.
    contains motd "$(run --rm --mount type=tmpfs,destination=/etc,tmpfs-size=1m busybox ls /etc)"
}

it_is_read_only_when_asked() {
    status 1 run --rm --read-only busybox touch /file
    contains "Read-only file system" "$output"
    # Podman puts writable tmpfs in the usual places.
    run --rm --read-only busybox touch /tmp/file
}

it_masks_and_protects_parts_of_proc() {
    equal end "$(run --rm busybox sh -c 'cat /proc/keys /proc/timer_list /sys/firmware/* 2>/dev/null; echo end')"
    status 1 run --rm busybox sh -c 'now=$(cat /proc/sys/kernel/panic); echo $now >/proc/sys/kernel/panic'
    contains "Read-only file system" "$output"
    run --rm --security-opt unmask=ALL busybox sh -c 'test -n "$(cat /proc/timer_list)"'
}

it_gives_a_device() {
    [ -c /dev/fuse ] || skip "no /dev/fuse on this host"
    run --rm --device /dev/fuse busybox sh -c ': <>/dev/fuse'
    status 1 run --rm --cap-add MKNOD busybox sh -c 'mknod /node c 10 229; : <>/node'
    contains "Operation not permitted" "$output"
}

it_adds_and_drops_capabilities() {
    local capabilities=(busybox sed -n 's/^CapEff:\t//p' /proc/self/status)
    equal 0000000000000000 "$(run --rm --cap-drop ALL "${capabilities[@]}")"
    equal 0000000000001000 "$(run --rm --cap-drop ALL --cap-add NET_ADMIN "${capabilities[@]}")"
    # Added ones are ambient, so that a user other than root has them as well.
    equal 0000000000001000 "$(run --rm --cap-drop ALL --cap-add NET_ADMIN --user app "${capabilities[@]}")"
}

it_is_privileged_when_asked() {
    needs_all_capabilities
    run --rm --privileged busybox mount -t tmpfs none /mnt
}

it_is_under_the_default_seccomp_profile() {
    [ -e /usr/share/containers/seccomp.json ] || [ -e /etc/containers/seccomp.json ] || skip "no seccomp profile is installed: golang-github-containers-common"
    equal 2 "$(run --rm busybox sed -n 's/^Seccomp:\t//p' /proc/self/status)"
    equal 0 "$(run --rm --security-opt seccomp=unconfined busybox sed -n 's/^Seccomp:\t//p' /proc/self/status)"
    status 1 run --rm --user app busybox mount -t tmpfs none /mnt
}

it_gains_no_new_privileges_when_asked() {
    equal 1 "$(run --rm --security-opt no-new-privileges busybox sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)"
    equal 0 "$(run --rm busybox sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)"
}

it_sets_kernel_parameters_of_its_namespaces() {
    equal 1 "$(run --rm --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward)"
}
