# Cases: Podman of a user without privileges.

# Makes the user, in this namespace's /etc only, and its home.
rootless_setup() {
    [ ! -e "$WORK/rootless" ] || return 0
    [ -u /usr/bin/newuidmap ] || getcap /usr/bin/newuidmap | grep -q setuid || skip "newuidmap has no privileges on this host"
    local home=$WORK/rootless
    mkdir -p "$home" "$WORK/etc" /run/user/61000
    local file
    for file in passwd group subuid subgid; do
        [ -e /etc/$file ] || skip "no /etc/$file on this host"
        cp "/etc/$file" "$WORK/etc/$file"
    done
    echo "orlop-test:x:61000:61000::$home:/bin/sh" >>"$WORK/etc/passwd"
    echo "orlop-test:x:61000:" >>"$WORK/etc/group"
    echo "orlop-test:1000000:65536" | tee -a "$WORK/etc/subuid" >>"$WORK/etc/subgid"
    for file in passwd group subuid subgid; do mount --bind "$WORK/etc/$file" /etc/$file; done
    # For a user, Podman has it that the storage is here.
    configure "$home" "$home/.local/share/containers/storage"
    chown -R 61000:61000 "$home" /run/user/61000
    chmod 700 /run/user/61000
    chmod 644 "$WORK/rootfs.tar"
    import_images as_user podman
}

# as_user COMMAND...
as_user() {
    local home=$WORK/rootless
    (cd "$home" && setpriv --reuid 61000 --regid 61000 --init-groups env -i PODMAN_IGNORE_CGROUPSV1_WARNING=1 HOME="$home" USER=orlop-test PATH="$PATH" \
        XDG_RUNTIME_DIR=/run/user/61000 CONTAINERS_CONF="$home/containers.conf" CONTAINERS_STORAGE_CONF="$home/storage.conf" "$@")
}

it_runs_for_an_unprivileged_user() {
    rootless_setup
    equal hello "$(as_user podman run --rm busybox echo hello)"
    status 42 as_user podman run --rm busybox sh -c 'exit 42'
    equal 0 "$(as_user podman run --rm busybox id -u)"
    equal "0 61000 1 1 1000000 65536" "$(echo $(as_user podman run --rm busybox cat /proc/self/uid_map))"
}

it_runs_as_another_user_for_an_unprivileged_user() {
    rootless_setup
    equal "1000 1000 2000" "$(as_user podman run --rm --user app busybox sh -c 'echo $(id -u) $(id -G)')"
    mkdir -p "$WORK/rootless/share"
    chown 61000:61000 "$WORK/rootless/share"
    as_user podman run --rm -v "$WORK/rootless/share:/shared" busybox sh -c 'echo mine >/shared/note'
    equal "61000 mine" "$(stat -c %u "$WORK/rootless/share/note") $(cat "$WORK/rootless/share/note")"
}

it_executes_and_stops_for_an_unprivileged_user() {
    rootless_setup
    as_user podman run -d --name rootless busybox sleep 1000
    equal hello "$(as_user podman exec rootless echo hello)"
    equal "1000" "$(as_user podman exec -u app rootless id -u)"
    as_user podman kill rootless
    equal 137 "$(as_user podman wait rootless)"
    as_user podman rm rootless
    equal "" "$(as_user podman ps -aq)"
}

it_gives_an_unprivileged_user_a_terminal() {
    rootless_setup
    local answer
    export -f as_user
    answer=$(on_terminal "as_user podman run --rm -it busybox sh -c 'tty; sleep 0.5; stty size'" </dev/null)
    contains /dev/pts/0 "$answer"
    contains "33 101" "$answer"
}

it_runs_pods_for_an_unprivileged_user() {
    rootless_setup
    as_user podman pod create --name pod >/dev/null
    as_user podman run -d --pod pod --name first busybox sh -c 'echo through the pod >/tmp/index.html; exec httpd -f -p 8080 -h /tmp' >/dev/null
    as_user podman run -d --pod pod --name second busybox sleep 1000 >/dev/null
    eventually is "through the pod" as_user podman exec second wget -q -O - http://127.0.0.1:8080/
    as_user podman pod rm -f -t 0 pod >/dev/null
}

it_builds_for_an_unprivileged_user() {
    rootless_setup
    mkdir -p "$WORK/rootless/context"
    printf 'FROM localhost/busybox\nRUN echo "built by $(id -u)" >/built\nUSER app\nRUN id -u >/tmp/user\n' >"$WORK/rootless/context/Containerfile"
    as_user podman build -q --isolation oci --network none -t built "$WORK/rootless/context"
    equal "built by 0 1000" "$(echo $(as_user podman run --rm localhost/built cat /built /tmp/user))"
}

it_keeps_the_id_of_an_unprivileged_user() {
    rootless_setup
    equal 61000 "$(as_user podman run --rm --userns keep-id busybox id -u)"
}
