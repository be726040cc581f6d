# Cases: file systems, networks, capabilities and what else keeps a container apart.

it_answers_on_a_published_port() {
    mkdir -p "$WORK/share/site"
    echo "a page" >"$WORK/share/site/index.html"
    docker run -d --name web -p 127.0.0.1:8080:80 -v "$WORK/share/site:/site:ro" busybox httpd -f -p 80 -h /site >/dev/null
    eventually curl -sf -m 2 http://127.0.0.1:8080/
    equal "a page" "$(curl -sf -m 2 http://127.0.0.1:8080/)"
    # And to another container, by its address on the bridge.
    local address
    address=$(field web .NetworkSettings.IPAddress)
    equal "a page" "$(docker run --rm busybox wget -q -O - "http://$address/")"
    remove web
}

it_joins_a_network_with_names() {
    docker network create harbour >/dev/null
    mkdir -p "$WORK/share/pier"
    echo "the pier" >"$WORK/share/pier/index.html"
    docker run -d --name pier --network harbour -v "$WORK/share/pier:/site:ro" busybox httpd -f -p 80 -h /site >/dev/null
    equal "the pier" "$(docker run --rm --network harbour busybox wget -q -O - http://pier/)"
    remove pier
    docker network rm harbour >/dev/null
}

it_joins_and_leaves_a_network_while_it_runs() {
    docker network create --subnet 172.29.0.0/24 --internal quay >/dev/null
    in_background --name visitor --network none
    docker network disconnect none visitor
    docker network connect --ip 172.29.0.7 quay visitor
    contains "inet 172.29.0.7/24" "$(docker exec visitor ip -o address show)"
    equal 172.29.0.7 "$(docker network inspect --format '{{range .Containers}}{{.IPv4Address}}{{end}}' quay | cut -d / -f 1)"
    docker network disconnect quay visitor
    lacks 172.29.0.7 "$(docker exec visitor ip -o address show)"
    remove visitor
    docker network rm quay >/dev/null
    status 1 docker network inspect quay
}

it_has_no_network_when_asked_for_none() {
    equal "lo" "$(docker run --rm --network none busybox ls /sys/class/net)"
    contains "UP" "$(docker run --rm --network none busybox ip link show lo)"
}

it_shares_the_network_of_the_host() {
    contains docker0 "$(docker run --rm --network host busybox cat /proc/net/dev)"
}

it_shares_the_network_of_another_container() {
    in_background --name net-owner
    equal "$(docker exec net-owner readlink /proc/self/ns/net)" "$(docker run --rm --network container:net-owner busybox readlink /proc/self/ns/net)"
    remove net-owner
}

it_has_namespaces_of_its_own() {
    local namespace
    for namespace in mnt pid net ipc uts; do
        differs "$(readlink /proc/self/ns/$namespace)" "$(docker run --rm busybox readlink /proc/self/ns/$namespace)"
    done
    equal "$(readlink /proc/self/ns/uts)" "$(docker run --rm --uts host busybox readlink /proc/self/ns/uts)"
    equal "$(readlink /proc/self/ns/ipc)" "$(docker run --rm --ipc host busybox readlink /proc/self/ns/ipc)"
}

it_shares_the_ipc_namespace_of_another_container() {
    in_background --name ipc-owner --ipc shareable
    docker exec ipc-owner sh -c 'echo shared >/dev/shm/message'
    equal shared "$(docker run --rm --ipc container:ipc-owner busybox cat /dev/shm/message)"
    remove ipc-owner
}

it_has_a_cgroup_namespace() {
    equal 0 "$(docker run --rm --cgroupns private busybox grep -c -v ':/$' /proc/self/cgroup || true)"
    differs "$(readlink /proc/self/ns/cgroup)" "$(docker run --rm --cgroupns private busybox readlink /proc/self/ns/cgroup)"
}

it_mounts_a_folder() {
    docker run --rm -v "$WORK/share:/shared" busybox sh -c 'echo from within >/shared/note'
    equal "from within" "$(cat "$WORK/share/note")"
    status 1 docker run --rm -v "$WORK/share:/shared:ro" busybox sh -c 'echo again >/shared/note'
    contains "Read-only file system" "$output"
}

it_mounts_a_single_file() {
    echo single >"$WORK/share/single"
    equal single "$(docker run --rm -v "$WORK/share/single:/a/new/path:ro" busybox cat /a/new/path)"
}

it_mounts_a_volume_with_what_the_image_has_there() {
    equal root "$(docker run --rm -v things:/etc busybox sh -c 'cut -d : -f 1 /etc/passwd | head -n 1; echo kept >/etc/kept')"
    equal kept "$(docker run --rm -v things:/mnt busybox cat /mnt/kept)"
    docker volume rm things >/dev/null
}

it_keeps_a_volume_until_it_is_removed() {
    docker volume create --label use=test cargo >/dev/null
    docker run --rm --mount type=volume,source=cargo,destination=/hold busybox sh -c 'echo grain >/hold/goods'
    equal cargo "$(docker volume ls -q --filter label=use=test)"
    equal grain "$(cat "$(docker volume inspect --format '{{.Mountpoint}}' cargo)/goods")"
    in_background --name carrier -v cargo:/hold:ro
    equal grain "$(docker exec carrier cat /hold/goods)"
    status 1 docker exec carrier touch /hold/more
    contains "Read-only file system" "$output"
    status 1 docker volume rm cargo
    contains "in use" "$output"
    remove carrier
    docker volume rm cargo >/dev/null
    equal "" "$(docker volume ls -q --filter label=use=test)"
}

it_takes_volumes_from_another_container() {
    in_background --name lender -v "$WORK/share:/shared"
    docker run --rm --volumes-from lender busybox test -d /shared/
    remove lender
}

it_mounts_with_propagation() {
    mkdir -p "$WORK/share/peers"
    mount --bind "$WORK/share/peers" "$WORK/share/peers"
    mount --make-shared "$WORK/share/peers"
    in_background --name slave --mount "type=bind,source=$WORK/share/peers,target=/peers,bind-propagation=rslave"
    mkdir -p "$WORK/share/peers/late"
    mount -t tmpfs tmpfs "$WORK/share/peers/late"
    echo arrived >"$WORK/share/peers/late/note"
    equal arrived "$(docker exec slave cat /peers/late/note)"
    remove slave
    umount "$WORK/share/peers/late" "$WORK/share/peers"
}

it_mounts_a_tmpfs() {
    local line
    line=$(docker run --rm --tmpfs /scratch:size=65536k,mode=1770,noexec busybox grep ' /scratch ' /proc/mounts)
    contains "tmpfs /scratch tmpfs" "$line"
    contains noexec "$line"
    contains size=65536k "$line"
    contains mode=1770 "$line"
    contains "tmpfs /other tmpfs" "$(docker run --rm --mount type=tmpfs,destination=/other,tmpfs-size=1m busybox grep ' /other ' /proc/mounts)"
}

it_sizes_the_shared_memory() {
    contains size=32768k "$(docker run --rm --shm-size 32m busybox grep ' /dev/shm ' /proc/mounts)"
}

it_is_read_only_when_asked() {
    status 1 docker run --rm --read-only busybox touch /file
    contains "Read-only file system" "$output"
    docker run --rm --read-only --tmpfs /tmp busybox touch /tmp/file
}

it_masks_and_protects_parts_of_proc() {
    # A masked file reads as empty, a masked folder holds nothing.
    equal end "$(docker run --rm busybox sh -c 'cat /proc/keys /proc/kcore /proc/timer_list /proc/acpi/* /proc/scsi/* /sys/firmware/* 2>/dev/null; echo end')"
    # It is written what was there, should the protection fail.
    status 1 docker run --rm busybox sh -c 'now=$(cat /proc/sys/kernel/panic); echo $now >/proc/sys/kernel/panic'
    contains "Read-only file system" "$output"
    local protected
    protected=$(docker run --rm busybox grep -E '^proc /proc/(bus|fs|irq|sys|sysrq-trigger) ' /proc/mounts)
    contains "proc /proc/sys proc ro," "$protected"
    lacks " rw," "$protected"
    status 1 docker run --rm busybox sh -c 'cd /sys/fs/cgroup; ! test -d memory || cd memory; mkdir escape'
    contains "Read-only file system" "$output"
}

it_sees_its_own_cgroups() {
    if [ $CGROUP_VERSION = 1 ]; then
        equal 67108864 "$(docker run --rm --memory 64m busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes)"
    else
        equal 67108864 "$(docker run --rm --memory 64m busybox cat /sys/fs/cgroup/memory.max)"
    fi
}

it_hides_the_root_file_system_of_the_host() {
    equal 1 "$(docker run --rm busybox grep -c ' / / ' /proc/self/mountinfo)"
    lacks "$WORK/share" "$(docker run --rm busybox cut -d ' ' -f 5 /proc/self/mountinfo)"
}

it_has_the_default_devices_and_links() {
    docker run --rm busybox sh -ec '
        for device in full null random tty urandom zero; do test -c /dev/$device; done
        test "$(readlink /dev/fd)" = /proc/self/fd
        test "$(readlink /dev/stdin)" = /proc/self/fd/0
        test "$(readlink /dev/ptmx)" = pts/ptmx
        echo >/dev/null; test "$(head -c 2 /dev/zero | wc -c)" = 2; head -c 1 /dev/urandom >/dev/null'
}

it_gives_a_device_with_its_permissions() {
    docker run --rm --device /dev/zero:/dev/nought busybox sh -ec 'head -c 1 /dev/nought >/dev/null; echo >/dev/nought'
    [ -c /dev/fuse ] || skip "no /dev/fuse on this host"
    docker run --rm --device /dev/fuse busybox sh -c ': <>/dev/fuse'
    docker run --rm --device /dev/fuse:/dev/fuse:r busybox sh -c ': </dev/fuse'
    status 1 docker run --rm --device /dev/fuse:/dev/fuse:r busybox sh -c ': >/dev/fuse'
    contains "Operation not permitted" "$output"
}

it_denies_devices_that_were_not_given() {
    [ -c /dev/fuse ] || skip "no /dev/fuse on this host"
    local node='mknod /node c 10 229; : <>/node'
    status 1 docker run --rm busybox sh -c "$node"
    contains "Operation not permitted" "$output"
    docker run --rm --device-cgroup-rule 'c 10:229 rwm' busybox sh -c "$node"
}

capabilities() {
    docker run --rm "$@" busybox sed -n 's/^CapEff:\t//p' /proc/self/status
}

it_has_the_default_capabilities() {
    equal 00000000a80425fb "$(capabilities)"
    equal 00000000a80425fb "$(docker run --rm busybox sed -n 's/^CapBnd:\t//p' /proc/self/status)"
    # A user other than root has them in the bounding set only.
    equal 0000000000000000 "$(capabilities --user app)"
}

it_adds_and_drops_capabilities() {
    equal 0000000000000000 "$(capabilities --cap-drop ALL)"
    equal 0000000000000001 "$(capabilities --cap-drop ALL --cap-add CHOWN)"
    equal 00000000a80425fa "$(capabilities --cap-drop CAP_CHOWN)"
    equal 00000000a80435fb "$(capabilities --cap-add NET_ADMIN)"
    status 1 docker run --rm --cap-drop CHOWN busybox chown app /tmp
    docker run --rm --cap-add NET_ADMIN busybox ip link add br0 type bridge
    status 2 docker run --rm busybox ip link add br0 type bridge
    contains "Operation not permitted" "$output"
}

it_is_unconfined_when_asked() {
    docker run --rm --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt systempaths=unconfined busybox sh -ec '
        mount -t tmpfs none /mnt
        now=$(cat /proc/sys/kernel/panic)
        echo $now >/proc/sys/kernel/panic
        ! grep -e " /proc/[a-z]" -e " /sys/firmware " /proc/mounts
        grep -q "^Seccomp:.0" /proc/self/status'
}

it_is_privileged_when_asked() {
    needs_all_capabilities
    docker run --rm --privileged busybox sh -ec '
        mount -t tmpfs none /mnt
        ip link add br0 type bridge
        echo 1 >/proc/sys/net/ipv4/conf/lo/forwarding
        grep -q "^Seccomp:.0" /proc/self/status
        : </dev/kmsg'
    equal "$(sed -n 's/^CapBnd:\t//p' /proc/self/status)" "$(capabilities --privileged)"
}

it_is_under_the_default_seccomp_profile() {
    equal 2 "$(docker run --rm busybox sed -n 's/^Seccomp:\t//p' /proc/self/status)"
    # A user namespace needs no capability, so it is the profile that denies it.
    status 1 docker run --rm --user app busybox unshare -U true
    contains "Operation not permitted" "$output"
    docker run --rm --user app --security-opt seccomp=unconfined --security-opt apparmor=unconfined busybox unshare -U true
    status 1 docker run --rm busybox mount -t tmpfs none /mnt
    # The capability alone lifts the denial.
    docker run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined busybox unshare -m true
}

it_applies_a_seccomp_profile_of_the_user() {
    cat >"$WORK/tmp/profile.json" <<'END'
{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
  {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
  {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [
    {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]},
  {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}]}
END
    local options=(--rm --init --security-opt "seccomp=$WORK/tmp/profile.json")
    docker run "${options[@]}" busybox true
    status 1 docker run "${options[@]}" busybox chmod 700 /tmp
    contains "No space left on device" "$output"
    # Signal 12 is denied, signal 10 kills.
    status 1 docker run "${options[@]}" busybox sh -c 'kill -12 $$'
    contains "Operation not permitted" "$output"
    status 138 docker run "${options[@]}" busybox sh -c 'kill -10 $$'
    # 128 and SIGSYS.
    status 159 docker run "${options[@]}" --cap-add SYS_ADMIN busybox hostname other
}

it_gains_no_new_privileges_when_asked() {
    equal 1 "$(docker run --rm --security-opt no-new-privileges busybox sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)"
    equal 0 "$(docker run --rm busybox sed -n 's/^NoNewPrivs:\t//p' /proc/self/status)"
    # A set-user-id program; root of the image has no password.
    local climb='sed -i s/^root:x:/root::/ /etc/passwd; cp /bin/busybox /tmp/su; chmod u+s /tmp/su; su app -c "/tmp/su root -c id"'
    contains "uid=0" "$(docker run --rm busybox sh -c "$climb")"
    status 1 docker run --rm --security-opt no-new-privileges busybox sh -c "$climb"
}

it_sets_kernel_parameters_of_its_namespaces() {
    equal 1 "$(docker run --rm --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward)"
    equal 4096 "$(docker run --rm --sysctl kernel.msgmax=4096 busybox cat /proc/sys/kernel/msgmax)"
    status 125 docker run --rm --sysctl kernel.panic=1 busybox true
}
