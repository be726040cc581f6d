# Cases: a daemon that gives its containers a user namespace.

it_maps_users_of_a_remapping_daemon() {
    # The daemon asks these files what a user, here `daemon`, may map to.
    printf 'daemon:100000:65536\n' >"$WORK/tmp/subids"
    mount --bind "$WORK/tmp/subids" /etc/subuid
    mount --bind "$WORK/tmp/subids" /etc/subgid
    # Its own bridge, for the first daemon holds docker0.
    ip link add remap0 type bridge
    ip address add 172.31.0.1/24 dev remap0
    start_docker remap --userns-remap daemon --bridge remap0
    equal "0 100000 65536" "$(echo $(docker run --rm busybox cat /proc/self/uid_map))"
    equal "0" "$(docker run --rm busybox id -u)"
    docker run -d --name mapped busybox sleep 1000 >/dev/null
    equal 100000 "$(stat -c %u "/proc/$(field mapped .State.Pid)")"
    equal "0 100000 65536" "$(echo $(docker exec mapped cat /proc/self/gid_map))"
    status 1 docker exec mapped mknod /node c 10 229
    remove mapped
    # One container may stay in the namespace of the host.
    equal "0 0 4294967295" "$(echo $(docker run --rm --userns host busybox cat /proc/self/uid_map))"
    # The place that dockerd names with --root; `runtime-runc` in Docker 20 and 28, and
    # `moby-100000.100000` below it in the latter.
    test -d "$(echo "$WORK"/remap.exec/runtime-*/moby*)"
    equal "" "$(find "$WORK"/remap.exec/runtime-*/moby* -mindepth 1)"
    stop_daemon "$(cat "$WORK/remap.pid")"
    umount /etc/subuid /etc/subgid
}
